"""How many pictures in one inference are fastest on this machine: measured, not assumed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from agent.data import Frame
from agent.errors import EngineError

if TYPE_CHECKING:
    from agent.detection.detector import Detector

SIZES = (1, 2, 4, 8)
WORTH_IT = 1.05
"""A larger batch must be so much faster: it costs memory, and more is done again after an interruption."""
TRIAL_SECONDS = 0.25


def largest(most: int) -> int:
    """The largest batch that is tried where there are at most so many pictures."""
    return max((size for size in SIZES if size <= most), default=1)


def best_batch(
    detector: Detector,
    size: tuple[int, int] = (640, 480),
    *,
    most: int = SIZES[-1],
    seconds: float | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[int, dict[int, float]]:
    """How many pictures at once, at most ``most``, are fastest here, and pictures a second by batch size as measured,
    in so many ``seconds`` each. Where the graph fixes it, that."""
    if detector.fixed_batch is not None:
        return detector.fixed_batch, {}
    frame = Frame("trial", 0, np.full((size[1], size[0], 3), 114, np.uint8), 0.0, 0.0)
    rates: dict[int, float] = {}
    for count in [size for size in SIZES if size <= most]:
        try:
            rates[count] = _rate(detector, frame, count, seconds or TRIAL_SECONDS, clock)
        except EngineError:
            if count == 1:
                raise
            break  # its batch axis is open, and it takes no more than this all the same
    best = 1
    for count, rate in rates.items():
        if rate > rates[best] * WORTH_IT:
            best = count
    return best, {count: round(rate, 1) for count, rate in rates.items()}


def _rate(detector: Detector, frame: Frame, count: int, seconds: float, clock: Callable[[], float]) -> float:
    """Pictures a second with every slot of the engine at work."""
    _run(detector, frame, count)
    began, done = clock(), 0
    while clock() - began < seconds:
        done += _run(detector, frame, count)
    return done / (clock() - began)


def _run(detector: Detector, frame: Frame, count: int) -> int:
    waiting = [detector.submit([frame] * count) for _ in range(detector.slots)]
    for pending in waiting:
        detector.collect(pending)
    return count * len(waiting)
