"""How the processor's cores are used for inference: the rules, pure. Rates and the busy share go in, with the time.

Cameras that are paced get the fewest threads that keep up, one frame at a time. Work that does not keep up so, and
recordings that are read frame by frame, get several frames at a time with a thread each: that is the most a machine
makes, but no frame is younger for it. Loading engines is left to the caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from agent.governor.caution import caution

Wish = Literal["auto", "latency", "throughput"]


NOTHING = 1e-6
"""Inferences a second, or a busy share, from which nothing is to be learned."""


class Mode(NamedTuple):
    """``threads`` that one inference uses, ``workers``: frames at a time; ``ahead``: frames that wait, resized, for the
    next worker: only where nobody minds their age."""

    threads: int
    workers: int
    ahead: int = 0

    @property
    def name(self) -> Literal["latency", "throughput"]:
        """What ``[model] mode`` calls it."""
        return "latency" if self.workers == 1 else "throughput"


class Demand(NamedTuple):
    """Of the last second: frames ``offered`` and ``inferred`` a second, and the ``busy`` share of the workers.
    ``every_frame``: a recording waits for us."""

    offered: float
    inferred: float
    busy: float
    every_frame: bool = False


class ModeSettings(NamedTuple):
    """Up where more than ``full`` of the workers was needed for ``full_for`` seconds, down where less than ``room``
    would do for ``calm_for`` seconds; after a way down that did not last for ``proved`` twice as long, at most
    ``calm_most``, and after one that did no longer than at first. ``parallel``: what a thread more is worth where it
    was not measured yet."""

    full: float = 0.85
    full_for: float = 0.9
    room: float = 0.6
    calm_for: float = 10.0
    calm_most: float = 300.0
    proved: float = 60.0
    parallel: float = 0.8
    smooth: float = 0.3


class ModeMemory(NamedTuple):
    """Of the choice so far: since when it is too slow, since when a smaller one would do, how long that must last,
    and when it went down, where it has not gone up since."""

    full_since: float | None = None
    calm_since: float | None = None
    calm_for: float = 0.0
    fell: float | None = None


def levels(cores: int, threads: int | None = None, slots: int | None = None) -> tuple[Mode, ...]:
    """The modes of a machine from the least to the most. ``threads``, ``slots``: those that the user set."""
    alone = [Mode(count, 1) for count in ([threads] if threads else _doubled(cores))]
    several = fixed("throughput", cores, threads, slots)
    return (*alone, several) if several.workers > 1 else tuple(alone)


def _doubled(cores: int) -> Sequence[int]:
    """1, 2, 4 … and all of them."""
    return [*(1 << power for power in range(cores.bit_length()) if 1 << power < cores), cores]


def fixed(wish: Literal["latency", "throughput"], cores: int, threads: int | None, slots: int | None) -> Mode:
    """What the user asked for."""
    if wish == "latency":
        return Mode(threads or cores, 1)
    return Mode(threads or 1, slots or max(1, cores // (threads or 1)))


class ModePolicy:
    """``decide`` once a second. Of one ``level`` there is nothing to decide."""

    def __init__(self, modes: Sequence[Mode], settings: ModeSettings | None = None) -> None:
        self._modes = tuple(modes)
        self._settings = settings or ModeSettings()
        self._level = 0
        self._seconds: dict[int, float] = {}
        self._memory = ModeMemory()
        self._every_frame = False
        self.reason = "the fewest threads that keep up" if len(self._modes) > 1 else "as configured"

    @property
    def mode(self) -> Mode:
        """The one that holds now."""
        mode = self._modes[self._level]
        # One frame more is made ready where age does not count, so that no worker waits for it.
        return mode._replace(ahead=1) if self._every_frame and mode.workers > 1 else mode

    @property
    def share(self) -> float:
        """How much of what the last of the modes makes the one that holds now does, 0..1."""
        if not self._seconds:
            return min(1.0, self._power(self._level) / self._power(len(self._modes) - 1))
        return min(1.0, self._takes(len(self._modes) - 1) / self._takes(self._level))

    def decide(self, demand: Demand, now: float) -> Mode:
        """The mode from now on."""
        self._every_frame = demand.every_frame
        self._learn(demand)
        if demand.every_frame:
            self._go(len(self._modes) - 1, "recordings are read frame by frame")
            self._memory = ModeMemory()
            return self.mode
        self._remember(demand, now)
        memory, settings = self._memory, self._settings
        if memory.full_since is not None and now - memory.full_since >= settings.full_for:
            self._climb(demand, now)
        elif memory.calm_since is not None and now - memory.calm_since >= max(memory.calm_for, settings.calm_for):
            self._memory = ModeMemory(calm_for=memory.calm_for, fell=now)
            self._go(self._least(demand.offered, settings.room), "fewer threads keep up")
        return self.mode

    def restart(self) -> None:
        """The mode has just changed, or could not: what was measured across that is of no use."""
        self._memory = self._memory._replace(full_since=None, calm_since=None)

    def _learn(self, demand: Demand) -> None:
        if min(demand.inferred, demand.busy) < NOTHING:
            return
        took, known = demand.busy / demand.inferred, self._seconds.get(self._level)
        if known is None:
            self._seconds[self._level] = took
            return
        # What slows one of them slows them all: a figure taken under another load would not hold for ever.
        factor = 1 + self._settings.smooth * (took / known - 1)
        self._seconds = {level: seconds * factor for level, seconds in self._seconds.items()}

    def _remember(self, demand: Demand, now: float) -> None:
        memory, settings = self._memory, self._settings
        full = self._level + 1 < len(self._modes) and demand.busy > settings.full
        calm = self._least(demand.offered, settings.room) < self._level and not full
        self._memory = memory._replace(
            full_since=(now if memory.full_since is None else memory.full_since) if full else None,
            calm_since=(now if memory.calm_since is None else memory.calm_since) if calm else None,
        )

    def _climb(self, demand: Demand, now: float) -> None:
        """To the least that is thought to keep up. One that had just come down came too early."""
        memory, settings = self._memory, self._settings
        self._memory = ModeMemory(calm_for=caution(memory.calm_for, memory.fell, now, settings))
        target = max(self._level + 1, self._least(max(demand.offered, demand.inferred), settings.full))
        self._go(target, f"{demand.offered:.1f} frames a second keep the workers {demand.busy:.0%} busy")

    def _least(self, rate: float, share: float) -> int:
        """The smallest level that would be busy for less than ``share`` with so many frames a second."""
        count = len(self._modes)
        return next((level for level in range(count) if rate * self._takes(level) < share), count - 1)

    def _takes(self, level: int) -> float:
        """Seconds a frame, as measured, or by what was measured of the others."""
        if level in self._seconds or not self._seconds:
            return self._seconds.get(level, 0.0)
        nearest = min(self._seconds, key=lambda known: abs(known - level))
        return self._seconds[nearest] * self._power(nearest) / self._power(level)

    def _power(self, level: int) -> float:
        """How much of a one-thread inference is done at a time, by rule of thumb."""
        mode = self._modes[level]
        return mode.workers * (1 + (mode.threads - 1) * self._settings.parallel)

    def _go(self, level: int, reason: str) -> None:
        if level != self._level:
            self._level, self.reason = level, reason
