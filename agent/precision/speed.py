"""How fast the variants of a model are on this machine, against fp32 and in the same run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

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


def measure(
    package: ModelPackage, files: Sequence[tuple[Path, Optimisation]], open_engine: OpenEngine = open_onnx
) -> list[Speed]:
    """Seconds an inference of each graph and its speedup against the first one: medians of interleaved rounds.

    Raises EngineError.
    """
    detectors = [open_detector(package, file, level, open_engine=open_engine) for file, level in files]
    try:
        repeats = [max(1, round(ROUND_SECONDS / _seconds(detector, 3))) for detector in detectors]
        rounds = [[_seconds(*pair) for pair in zip(detectors, repeats, strict=True)] for _ in range(ROUNDS)]
    finally:
        for detector in detectors:
            detector.close()
    identities = [
        identity_of(sha256_of(file), detector.backend, level)
        for (file, level), detector in zip(files, detectors, strict=True)
    ]
    return [_speed(identity, rounds, place) for place, identity in enumerate(identities)]


def seconds_alone(detector: Detector, rounds: int = 7) -> float:
    """Seconds an inference of an engine that is there, the median of a few short rounds."""
    repeats = max(1, round(ROUND_SECONDS / _seconds(detector, 3)))
    return statistics.median(_seconds(detector, repeats) for _ in range(rounds))


def identity_of(sha256: str, backend: str, level: Optimisation) -> Identity:
    """Of a graph on this machine, run as the daemon runs it."""
    return Identity(onnx=sha256, backend=backend, device=processor(), options=f"optimisation {level}")


def _speed(identity: Identity, rounds: Sequence[Sequence[float]], place: int) -> Speed:
    seconds = statistics.median(row[place] for row in rounds)
    # The ratio of each round is taken first: what slows a whole round down slows both.
    return Speed(identity=identity, seconds=seconds, speedup=statistics.median(row[0] / row[place] for row in rounds))


def _seconds(detector: Detector, repeats: int) -> float:
    started = time.perf_counter()
    for _ in range(repeats):
        detector.engine_alone()
    return (time.perf_counter() - started) / repeats
