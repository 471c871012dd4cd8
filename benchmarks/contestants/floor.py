"""The engine alone: ONNX Runtime's session.run on one real input, again and again; ``--fps``: so many a second."""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import onnxruntime
from rounds import serve, timed
from tutorial_steps import first_input


def session_of(model: str, threads: int) -> Any:
    """As ONNX Runtime comes, but for the number of threads (0: its default)."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def paced(run: Any, frames: int, fps: float) -> dict[str, float]:
    """One run every so often: what it takes when it comes out of the cold, and the processor time of one."""
    took: list[float] = []
    spent, due = time.process_time(), time.monotonic()
    for _ in range(frames):
        began = time.perf_counter()
        run()
        took.append((time.perf_counter() - began) * 1e3)
        due += 1 / fps
        time.sleep(max(0.0, due - time.monotonic()))
    return {"ms": statistics.median(took), "slowest": max(took), "cpu_ms": (time.process_time() - spent) / frames * 1e3}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--family", required=True)
    parser.add_argument("--side", type=int, required=True)
    parser.add_argument("--clip", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--frames", type=int, required=True)
    parser.add_argument("--fps", type=float)
    options = parser.parse_args()
    session = session_of(options.model, options.threads)
    feed = {session.get_inputs()[0].name: first_input(options.clip, options.family, options.side)}

    def run() -> None:
        session.run(None, feed)

    timed(run, 10)
    if options.fps:
        serve(lambda: paced(run, options.frames, options.fps), version=onnxruntime.__version__)
    else:
        serve(lambda: timed(run, options.frames), version=onnxruntime.__version__)


if __name__ == "__main__":
    main()
