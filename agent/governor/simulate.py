"""Policies against made-up boards, side by side, and how they did by the true temperature. The command draws and
prints.

A policy sees the sensor and its own frame counts, never the plant. What is judged, and how, stands in ``judge``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from agent.governor import ladder
from agent.governor.ladder import Cost, Step
from agent.governor.plant import Boards, Floats, Plant
from agent.governor.policy import Settings
from agent.governor.thermal import Thermal

TOP_RATE = 30.0
COSTS = {"fp32": Cost(1 / 30, 1.0), "fp16": Cost(0.7 / 30, 0.998), "int8": Cost(0.55 / 30, 0.97)}
"""Of the simulated model: a detector that makes 30 frames a second in fp32. The weights are assumed: mAP against
fp32's."""
SHORTEST_STRETCH = 900.0
TUTORIAL_THRESHOLD = 75.0

Rungs = NDArray[np.int64]


class Policy(Protocol):
    """Chooses the rung of every board once a second."""

    def choose(self, second: int, seen: Floats, done: Floats) -> Rungs:
        """``seen``: what the sensors say, NaN for nothing; ``done``: frames of the last second."""


class Ours:
    """The governor's thermal half, as the daemon runs it."""

    def __init__(self, plants: Sequence[Plant], steps: Sequence[Step], settings: Settings | None = None) -> None:
        heats = [step.heat for step in steps]
        self._thermal = Thermal(heats, [step.rung.precision for step in steps], settings or Settings(), len(plants))
        self._limit = np.array([plant.trip for plant in plants])
        self._heat_a_frame = np.array([step.heat / (step.rung.rate or TOP_RATE) for step in steps])

    def choose(self, second: int, seen: Floats, done: Floats) -> Rungs:
        """See Policy."""
        heat = done * self._heat_a_frame[self._thermal.rungs]
        self._thermal.step(seen - self._limit, heat, float(second))
        return np.array(self._thermal.rungs)


class Threshold:
    """The tutorials' rule, once a second: above 75 °C one rung lower, below it one higher."""

    def __init__(self, plants: Sequence[Plant], steps: Sequence[Step]) -> None:
        self._rungs = np.zeros(len(plants), dtype=np.int64)
        self._bottom = len(steps) - 1

    def choose(self, second: int, seen: Floats, done: Floats) -> Rungs:
        """See Policy."""
        move = np.where(seen > TUTORIAL_THRESHOLD, 1, np.where(seen < TUTORIAL_THRESHOLD, -1, 0))
        self._rungs = np.clip(self._rungs + move, 0, self._bottom)
        return self._rungs


class Constant:
    """One rung for ever; the top one is what is done without any governor."""

    def __init__(self, plants: Sequence[Plant], rung: int = 0) -> None:
        self._rungs = np.full(len(plants), rung)

    def choose(self, second: int, seen: Floats, done: Floats) -> Rungs:
        """See Policy."""
        return self._rungs


POLICIES: Mapping[str, Callable[[Sequence[Plant], Sequence[Step]], Policy]] = {
    "ours": Ours,
    "threshold": Threshold,
    "none": lambda plants, steps: Constant(plants),
}


class Trace(NamedTuple):
    """What happened, a row a second and a column a plant; ``frames``: accuracy-weighted, in all."""

    junction: NDArray[np.float32]
    rungs: NDArray[np.int8]
    rates: NDArray[np.float32]
    frames: Floats

    def of(self, plant: int) -> Trace:
        """Of one plant alone."""
        one = slice(plant, plant + 1)
        return Trace(self.junction[:, one], self.rungs[:, one], self.rates[:, one], self.frames[one])


class Figures(msgspec.Struct, frozen=True):
    """``seconds_over_passive``: seconds with the true junction above the passive trip, in all plants in which some
    rung, held from the start, stays below it throughout. ``relative_frames``: accuracy-weighted frames against the best
    such rung, median of those plants. ``changes_per_hour``: rung changes after the air has come to rest, 95th
    percentile."""

    seconds_over_passive: int
    relative_frames: float
    changes_per_hour: float


class Further(msgspec.Struct, frozen=True):
    """Harder measures. ``seconds_over_when_coolest_was_not``: second by second, in all plants: above the trip while the
    coolest rung, held from the start, would have been below (part of that only a prophet avoids: who did not heat the
    board before the air grew hot). ``relative_frames_worst``: 5th percentile. ``relative_frames_limited``: median of
    the plants in which heat costs frames (the best rung is not of the full rate). ``against_throttled``: median against
    the best rung if it may overheat and be throttled."""

    seconds_over_when_coolest_was_not: int
    relative_frames_worst: float
    relative_frames_limited: float | None
    against_throttled: float


def reference_steps() -> list[Step]:
    """The ladder of the simulated model."""
    return ladder.weigh(ladder.make(COSTS, TOP_RATE), COSTS, TOP_RATE)


def run(
    plants: Sequence[Plant],
    policy: Policy,
    steps: Sequence[Step],
    seconds: int,
    seed: int,
    tick: Callable[[], None] = lambda: None,
) -> Trace:
    """One policy on all plants for so many seconds."""
    boards = Boards(plants, seconds, seed, TOP_RATE)
    energy = np.array([[plant.energy[step.rung.precision] for step in steps] for plant in plants])
    rate = np.array([step.rung.rate or TOP_RATE for step in steps])
    weight = np.array([step.value / (step.rung.rate or TOP_RATE) for step in steps])
    count, every = len(plants), np.arange(len(plants))
    trace = Trace(
        np.empty((seconds, count), np.float32),
        np.empty((seconds, count), np.int8),
        np.empty((seconds, count), np.float32),
        np.zeros(count),
    )
    done = np.zeros(count)
    for second in range(seconds):
        rungs = policy.choose(second, boards.sense(), done)
        done = boards.step(second, rate[rungs], energy[every, rungs])
        trace.junction[second], trace.rungs[second], trace.rates[second] = boards.junction, rungs, done
        trace.frames[:] += done * weight[rungs]
        tick()
    return trace


class Hindsight(NamedTuple):
    """Every rung held from the start. ``possible``: plants in which one stays below the trip throughout; ``best``:
    frames of the best of those, and ``best_rung``; ``best_throttled``: of the best if it may be throttled; ``coolest``:
    whether the coolest one is below the trip, a row a second."""

    possible: NDArray[np.bool_]
    best: Floats
    best_rung: Rungs
    best_throttled: Floats
    coolest: NDArray[np.bool_]

    def of(self, plant: int) -> Hindsight:
        """Of one plant alone."""
        one = slice(plant, plant + 1)
        return Hindsight(
            self.possible[one], self.best[one], self.best_rung[one], self.best_throttled[one], self.coolest[:, one]
        )


def hindsight(
    plants: Sequence[Plant], steps: Sequence[Step], seconds: int, tick: Callable[[], None] = lambda: None
) -> Hindsight:
    """What a constant rung would have brought, each tried on the same plants."""
    trip = np.array([plant.trip for plant in plants], dtype=np.float32)
    frames, stays = [], []
    for rung in range(len(steps)):
        trace = run(plants, Constant(plants, rung), steps, seconds, 0, tick)
        below = trace.junction <= trip
        frames.append(trace.frames)
        stays.append(below.all(axis=0))
    allowed = np.where(stays, frames, 0.0)
    return Hindsight(np.any(stays, axis=0), allowed.max(axis=0), allowed.argmax(axis=0), np.max(frames, axis=0), below)


def judge(plants: Sequence[Plant], trace: Trace, best: Hindsight, steps: Sequence[Step]) -> tuple[Figures, Further]:
    """The figures of one policy. With no plant in which any rung stays below its trip, frames are told as 0."""
    trip = np.array([plant.trip for plant in plants], dtype=np.float32)
    over = trace.junction > trip
    relative = trace.frames[best.possible] / best.best[best.possible]
    full = max(step.rung.rate or TOP_RATE for step in steps)
    rates = np.array([step.rung.rate or TOP_RATE for step in steps])
    limited = relative[rates[best.best_rung[best.possible]] < full]
    figures = Figures(
        int(over[:, best.possible].sum()),
        _percentile(relative, 50),
        _percentile(changes_per_hour(plants, trace), 95),
    )
    further = Further(
        int((over & best.coolest).sum()),
        _percentile(relative, 5),
        _percentile(limited, 50) if len(limited) else None,
        _percentile(trace.frames / best.best_throttled, 50),
    )
    return figures, further


def changes_per_hour(plants: Sequence[Plant], trace: Trace) -> Floats:
    """Of each plant, from when the air stands still to the end; plants with less than a quarter of an hour of that are
    left out."""
    found = []
    for number, plant in enumerate(plants):
        rungs = trace.rungs[min(len(trace.rungs), int(plant.steady_from)) :, number]
        if len(rungs) >= SHORTEST_STRETCH:
            found.append(np.count_nonzero(np.diff(rungs)) * 3600.0 / len(rungs))
    return np.array(found)


def _percentile(values: Floats, share: float) -> float:
    return round(float(np.percentile(values, share)), 4) if len(values) else 0.0
