"""ONNX Runtime against OpenVINO on the processor: milliseconds a frame, engine alone, interleaved in one run.

    python benchmarks/processor_engines.py MODEL.onnx ... [--threads 1 2] [--rounds 9]

For each number of threads: ``session.run``, our engine on ONNX Runtime, OpenVINO in float32 and (where the processor
has it) in bfloat16, one frame at a time; then, with as many cores as threads, that many frames at a time on one thread
each. Of each round the quickest burst of a few frames counts, since whatever else runs makes some longer and none
shorter; the ratio is that of the same round to ``session.run`` with those threads; medians of the rounds. ``cpu`` is
the time of all threads a frame, and its ratio: where other work goes on too, the one to believe for one thread.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from agent.engines import openvino
from agent.engines.base import Engine
from agent.engines.onnx import OnnxEngine, cores
from agent.engines.openvino import OpenVinoEngine

ROUND_SECONDS = 0.6
BURST = 6


def session_run(path: Path, threads: int) -> Callable[[int], None]:
    """ONNX Runtime as its tutorial has it, but for the threads."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    batch = {session.get_inputs()[0].name: picture(OnnxEngine(path, threads=1))}

    def run(count: int) -> None:
        for _ in range(count):
            session.run(None, batch)

    return run


def through(engine: Engine) -> Callable[[int], None]:
    """As many in flight as it has slots."""
    batch = picture(engine)

    def run(count: int) -> None:
        under_way: deque[Any] = deque()
        for _ in range(count):
            if len(under_way) == engine.slots:
                engine.collect(under_way.popleft())
            under_way.append(engine.submit(batch))
        while under_way:
            engine.collect(under_way.popleft())

    return run


def picture(engine: Engine) -> np.ndarray[Any, Any]:
    """Noise of the input's shape."""
    shape = [side or 1 for side in engine.input.shape]
    return np.random.default_rng(0).integers(0, 255, shape).astype(engine.input.dtype)


def contestants(path: Path, threads: int) -> dict[str, Callable[[int], None]]:
    """By name; the floor first."""
    runs = {"session.run": session_run(path, threads), "ONNX Runtime, ours": through(OnnxEngine(path, threads=threads))}
    ways = ("f32", "bf16") if openvino.computes_bf16() else ("f32",)
    for way in ways:
        runs[f"OpenVINO {way}"] = through(OpenVinoEngine(path, threads=threads, arithmetic=way))  # type: ignore[arg-type]
    if 1 < threads <= cores():
        runs[f"ONNX Runtime, {threads} x 1"] = through(OnnxEngine(path, threads=1, slots=threads))
        for way in ways:
            engine = OpenVinoEngine(path, threads=1, slots=threads, arithmetic=way)  # type: ignore[arg-type]
            runs[f"OpenVINO {way}, {threads} x 1"] = through(engine)
    return runs


def race(runs: dict[str, Callable[[int], None]], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Milliseconds a frame, and those of the processor, by name and round."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for run in runs.values():
        run(BURST)
    for _ in range(rounds):
        for name, run in runs.items():
            found[name].append(quickest(run))
    return found


def quickest(run: Callable[[int], None]) -> tuple[float, float]:
    """Of the quickest burst, and of the one that took the processor least."""
    wall = cpu = float("inf")
    ends = time.perf_counter() + ROUND_SECONDS
    while time.perf_counter() < ends:
        started, worked = time.perf_counter(), time.process_time()
        run(BURST)
        wall = min(wall, (time.perf_counter() - started) / BURST * 1e3)
        cpu = min(cpu, (time.process_time() - worked) / BURST * 1e3)
    return wall, cpu


def shown(values: list[float], floor: list[float]) -> str:
    """Median, and median of the ratios."""
    ratio = statistics.median(own / base for own, base in zip(values, floor, strict=True))
    return f"{statistics.median(values):8.2f} ms {ratio:5.2f}"


def main() -> None:
    """Print a line a contestant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=9)
    wanted = parser.parse_args()
    print(f"onnxruntime {onnxruntime.__version__}, {openvino.backend_name()}, medians of {wanted.rounds} rounds")
    for model in wanted.models:
        for threads in wanted.threads:
            found = race(contestants(model, threads), wanted.rounds)
            floors = list(zip(*found["session.run"], strict=True))
            print(f"{model.stem}, {threads} thread(s)")
            for name, values in found.items():
                wall, cpu = (
                    shown(list(own), list(base)) for own, base in zip(zip(*values, strict=True), floors, strict=True)
                )
                print(f"  {name:24} {wall}   cpu {cpu}", flush=True)


if __name__ == "__main__":
    main()
