"""How fast the variants of a model are on this machine, against fp32 and in the same run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from agent.detection.model import sha256_of
from agent.engines.store import Identity, Speed, processor
from agent.precision.trial import OpenEngine, open_detector, open_onnx

if TYPE_CHECKING:
    from agent.detection.detector import Detector
    from agent.detection.manifest import Optimisation
    from agent.detection.model import ModelPackage

ROUNDS = 15
ROUND_SECONDS = 0.03
"""A round runs each engine at least this long, so that the clock's resolution does not matter."""


class Contestant(NamedTuple):
    """What is measured: a file, the highest level at which ONNX Runtime runs it, and its precision."""

    file: Path
    level: Optimisation = "all"
    precision: str = "fp32"


class Raced(NamedTuple):
    """Seconds an inference, and how much faster that is than the first one's."""

    seconds: float
    speedup: float


def measure(package: ModelPackage, graphs: Sequence[Contestant], open_engine: OpenEngine = open_onnx) -> list[Speed]:
    """Seconds an inference of each graph and its speedup against the first one: medians of interleaved rounds.

    Raises EngineError.
    """
    detectors: list[Detector] = []
    try:
        for file, level, precision in graphs:
            detectors.append(open_detector(package, file, level, open_engine=open_engine, precision=precision))
        raced = race(detectors)
    finally:
        for detector in detectors:
            detector.close()
    return [
        Speed(
            identity=identity_of(sha256_of(graph.file), detector.backend, graph.level, graph.precision),
            seconds=one.seconds,
            speedup=one.speedup,
        )
        for graph, detector, one in zip(graphs, detectors, raced, strict=True)
    ]


def race(detectors: Sequence[Detector]) -> list[Raced]:
    """Warm detectors against the first of them: medians of interleaved rounds."""
    repeats = [max(1, round(ROUND_SECONDS / _seconds(detector, 3))) for detector in detectors]
    rounds = [[_seconds(*pair) for pair in zip(detectors, repeats, strict=True)] for _ in range(ROUNDS)]
    return [_raced(rounds, place) for place in range(len(detectors))]


def seconds_alone(detector: Detector, rounds: int = 7) -> float:
    """Seconds an inference of an engine that is there, the median of a few short rounds."""
    repeats = max(1, round(ROUND_SECONDS / _seconds(detector, 3)))
    return statistics.median(_seconds(detector, repeats) for _ in range(rounds))


def identity_of(
    sha256: str, backend: str, level: Optimisation, precision: str = "fp32", threads: int | None = None
) -> Identity:
    """Of a graph on this machine, run as the daemon runs it, or with so many threads."""
    how = f"optimisation {level}" if backend.startswith("onnxruntime") else f"precision {precision}"
    more = "" if threads is None else f", {threads} thread(s)"
    return Identity(onnx=sha256, backend=backend, device=processor(), options=how + more)


def _raced(rounds: Sequence[Sequence[float]], place: int) -> Raced:
    # The ratio of each round is taken first: what slows a whole round down slows both.
    speedup = statistics.median(row[0] / row[place] for row in rounds)
    return Raced(statistics.median(row[place] for row in rounds), speedup)


def _seconds(detector: Detector, repeats: int) -> float:
    started = time.perf_counter()
    for _ in range(repeats):
        detector.engine_alone()
    return (time.perf_counter() - started) / repeats
