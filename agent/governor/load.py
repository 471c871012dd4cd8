"""Which rung the load allows: the rules, pure. Frame ages and the busy fraction go in.

Frames that come near ``max_age`` shed rate before they reach it. The rate comes back when the figures measured now say
that the higher rung fits, and ever later where it did not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from agent.governor.caution import caution


class LoadSettings(NamedTuple):
    """Shares and seconds. ``strained``: a frame age (of ``max_age``) from which rate is shed, after ``strained_for``;
    ``saturated``: a busy fraction that counts as strain while ages are over ``worried``. Below a busy fraction of
    ``least`` nothing is shed: what makes frames old then is not their number. A rung fits below ``room`` of the engine,
    or where an inference takes no longer than ``as_fast`` times what it took at its best. Up after ``calm_for`` seconds
    below ``calm``; after a rise that did not last for ``proved`` twice as long, at most ``calm_most``; after one
    that did, ``calm_for`` again."""

    strained: float = 0.5
    strained_for: float = 2.0
    worried: float = 0.25
    saturated: float = 0.9
    least: float = 0.25
    room: float = 0.6
    as_fast: float = 1.3
    calm: float = 0.35
    calm_for: float = 10.0
    calm_most: float = 300.0
    proved: float = 60.0
    settle: float = 4.0


class Load(NamedTuple):
    """Of the last seconds: ``strain``: the worst frame age as a share of its camera's ``max_age``; ``busy``: share of
    the time with an inference under way; ``rate``: inferences a second; ``seconds``: that one takes now, and at its
    ``best``. None is what is not known. What other processes take shows in ``seconds``."""

    strain: float | None
    busy: float | None
    rate: float
    seconds: float | None
    best: float | None


class LoadMemory(NamedTuple):
    """Since when it is strained, since when calm, when the rung changed and rose, how long to be calm before it
    rises."""

    strained_since: float | None = None
    calm_since: float | None = None
    since: float = -1e9
    raised: float | None = None
    calm_for: float = 0.0


class LoadChoice(NamedTuple):
    """The rung, why it changed (empty if it did not), and what to remember."""

    rung: int
    reason: str
    memory: LoadMemory


def choose(
    load: Load, rates: Sequence[float], rung: int, memory: LoadMemory, time: float, settings: LoadSettings
) -> LoadChoice:
    """``rates``: inferences a second of each rung, as far as the cameras give them; ``rung``: what the load allowed so
    far."""
    strained, calm = _is_strained(load, settings), _is_calm(load, settings)
    memory = memory._replace(
        strained_since=(time if memory.strained_since is None else memory.strained_since) if strained else None,
        calm_since=(time if memory.calm_since is None else memory.calm_since) if calm else None,
    )
    if _must_fall(load, memory, time, settings):
        return _fall(load, rates, rung, memory, time, settings)
    if rung and memory.calm_since is not None:
        wait = max(memory.calm_for, settings.calm_for)
        target = next((k for k in range(rung) if _fits(load, rates[k], settings)), rung)
        if target < rung and time - max(memory.calm_since, memory.since) >= wait:
            return LoadChoice(target, "the load leaves room again", memory._replace(since=time, raised=time))
    return LoadChoice(rung, "", memory)


def _is_strained(load: Load, settings: LoadSettings) -> bool:
    if load.strain is None:
        return False
    saturated = load.busy is not None and load.busy > settings.saturated and load.strain > settings.worried
    return saturated or load.strain > settings.strained


def _is_calm(load: Load, settings: LoadSettings) -> bool:
    return load.strain is None or load.strain < settings.calm


def _must_fall(load: Load, memory: LoadMemory, time: float, settings: LoadSettings) -> bool:
    if memory.strained_since is None or time - memory.since < settings.settle:
        return False
    if load.seconds is not None and load.rate * load.seconds < settings.least:
        return False
    return time - memory.strained_since >= settings.strained_for or (load.strain or 0.0) > 2 * settings.strained


def _fall(
    load: Load, rates: Sequence[float], rung: int, memory: LoadMemory, time: float, settings: LoadSettings
) -> LoadChoice:
    """To the first rung that is really slower and leaves the engine room, at least one down."""
    bottom = len(rates) - 1
    seconds = load.seconds or 0.0
    slower = (k for k in range(rung + 1, bottom) if rates[k] < 0.85 * load.rate and rates[k] * seconds <= settings.room)
    target = next(slower, bottom)
    if target <= rung:
        return LoadChoice(rung, "", memory)
    why = f"frames are {load.strain or 0.0:.0%} of max_age old"
    calm_for = caution(memory.calm_for, memory.raised, time, settings)
    remembered = memory._replace(since=time, strained_since=None, calm_since=None, calm_for=calm_for, raised=None)
    return LoadChoice(target, why, remembered)


def _fits(load: Load, rate: float, settings: LoadSettings) -> bool:
    """Whether this rate would leave room, by what an inference takes now."""
    if load.seconds is None or (load.best is not None and load.seconds <= settings.as_fast * load.best):
        return True
    return rate * load.seconds <= settings.room
