"""Which rung the heat allows: the rules, pure. Forecasts, the ladder, what was done before and the time go in.

Down comes before the limit: as soon as the forecast for the present rung reaches it. Up only when the forecast for the
higher rung stays under it, after a dwell, and ever later where going up proved wrong. Near a trip: the bottom at once.
All temperatures are kelvin over the limit, so negative is safe; hotter never gives a higher rung.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from agent.governor.heat import HORIZONS, Forecast

STEADY = len(HORIZONS) - 1
REACH = (0.5, 0.4, 0.2)
"""Shares of the margin: a forecast (10 s, 30 s, 2 min ahead) that comes so near the limit is a reason to step down."""


class Settings(NamedTuple):
    """Kelvin and seconds. ``margin``: how far below the limit the steady state shall lie; ``near``: what is near a
    trip; ``hysteresis``: how much further below a higher rung shall lie. ``dwell``: from one change to the next one up.
    ``patience``: how long no higher rung is tried after one that did not last for ``proved``; doubles each time.
    ``doubts``: standard deviations that a forecast within minutes is taken to be wrong by, and ``steady_doubts`` the
    steady state. ``energy_doubt``: by how much a precision may cost other energy than its time says.
    """

    margin: float = 2.5
    near: float = 1.0
    hysteresis: float = 0.7
    dwell: float = 45.0
    patience: float = 300.0
    patience_most: float = 3600.0
    proved: float = 1200.0
    cooled: float = 4.0
    doubts: float = 2.0
    steady_doubts: float = 0.7
    energy_doubt: float = 0.15


class Memory(NamedTuple):
    """What was done: when the rung last changed, and went up; until when no higher one is tried, unless it
    ``failed_at`` a forecast that is better now."""

    since: float = -1e9
    raised: float = -1e9
    hold: float = -1e9
    patience: float = 0.0
    failed_at: float = 0.0


class Choice(NamedTuple):
    """The rung, why it changed (empty if it did not), and what to remember."""

    rung: int
    reason: str
    memory: Memory


class Situation(NamedTuple):
    """``heats`` and ``precisions`` of each rung, hottest first; the present ``rung`` and the ``heat`` really put in."""

    forecast: Forecast
    heats: Sequence[float]
    precisions: Sequence[str]
    rung: int
    heat: float


def choose(now: Situation, memory: Memory, time: float, settings: Settings) -> Choice:
    """The rung from now on."""
    bottom = len(now.heats) - 1
    if now.forecast.level > -settings.near:
        return _down(now, bottom, "the limit is reached: the bottom at once", memory, time, settings)
    if _comes_near(now.forecast, settings) or _is_untried(now, memory, time, settings):
        target = _first_that_bears(now, now.rung + 1, bottom, settings)
        return _down(now, target, "the limit is coming near", memory, time, settings)
    if now.rung and time - memory.since >= settings.dwell:
        target = _first_that_bears(now, 0, now.rung, settings)
        held = time < memory.hold and now.forecast.ahead[STEADY] > memory.failed_at - settings.cooled
        if target < now.rung and not held:
            remembered = memory._replace(since=time, raised=time, failed_at=now.forecast.ahead[STEADY])
            return Choice(target, "the forecast for this rung stays below the limit", remembered)
    return Choice(now.rung, "", memory)


def _comes_near(forecast: Forecast, settings: Settings) -> bool:
    return any(ahead > -settings.margin * share for ahead, share in zip(forecast.ahead, REACH, strict=False))


def _is_untried(now: Situation, memory: Memory, time: float, settings: Settings) -> bool:
    """Something else holds the rate down, and what this rung would cost without that is too much by now."""
    idle = now.heats[now.rung] - now.heat > 0.05 and time - memory.since > settings.dwell
    return idle and now.rung < len(now.heats) - 1 and not _bears(now, now.rung, settings)


def _first_that_bears(now: Situation, first: int, last: int, settings: Settings) -> int:
    return next((rung for rung in range(first, last) if _bears(now, rung, settings)), last)


def _bears(now: Situation, rung: int, settings: Settings) -> bool:
    """Whether this rung stays below the limit: on the way there and in the long run if it is a higher one, in the long
    run if it is a lower one (on the way it cools in any case)."""
    forecast, higher = now.forecast, rung <= now.rung
    change = now.heats[rung] - now.heat
    # The energy of another precision is known only by the time that it takes.
    unsure = settings.energy_doubt * now.heats[rung] if now.precisions[rung] != now.precisions[now.rung] else 0.0
    limit = -settings.margin - (settings.hysteresis if rung < now.rung else 0.0)
    for number in range(0 if higher else STEADY, STEADY + 1):
        gain, doubt = forecast.gain[number], forecast.doubt[number]
        doubt *= settings.steady_doubts if number == STEADY else settings.doubts
        if change > 0:
            rise = (gain + doubt) * (change + unsure)
        else:
            rise = max(0.0, gain - doubt) * change + (gain * unsure if higher else 0.0)
        if forecast.ahead[number] + rise > limit:
            return False
    return True


def _down(now: Situation, target: int, reason: str, memory: Memory, time: float, settings: Settings) -> Choice:
    if target <= now.rung:
        return Choice(now.rung, "", memory)
    if time - memory.raised >= settings.proved:
        return Choice(target, reason, memory._replace(since=time, patience=0.0))
    patience = min(settings.patience_most, max(settings.patience, 2 * memory.patience))
    remembered = memory._replace(since=time, raised=-1e9, hold=time + patience, patience=patience)
    return Choice(target, reason, remembered)
