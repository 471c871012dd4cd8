"""The governor as a fold over Health: what it has seen goes in one by one, a Decision with its reason comes out.

It reads no clock, no sensor and no file: the same history gives the same decision. The monitor feeds it and applies
what it says; limits of the user are limits.py's, and stricter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import msgspec
import numpy as np

from agent.data import Decision, Health, Outlook, Temperature
from agent.governor import load as loads
from agent.governor.heat import HORIZONS, Forecast
from agent.governor.ladder import Step
from agent.governor.load import Load, LoadMemory, LoadSettings
from agent.governor.policy import Settings
from agent.governor.sampling import Zones
from agent.governor.thermal import Thermal

ASSUMED_LIMIT = 85.0
"""Of a board whose zones name no trip point at all."""
BEFORE_CRITICAL = 10.0
"""Where the only trip point is the one that switches off."""
SAFE_HEAT = 0.25
SMOOTH = 0.2


class Options(NamedTuple):
    """``limit`` and ``limits``: Celsius that the user sets for all zones, and by zone; ``ignore``: zones.
    ``safe_rung``: without a believable temperature; by default the first that costs a quarter of the hottest.
    ``max_age``: of each camera, seconds. ``needs_temperature``: a board without any thermal sensor is at the safe rung
    too, and not governed by load alone."""

    thermal: Settings = Settings()
    load: LoadSettings = LoadSettings()
    limit: float | None = None
    limits: Mapping[str, float] = {}
    ignore: Sequence[str] = ()
    safe_rung: int | None = None
    max_age: Mapping[str, float] = {}
    needs_temperature: bool = False


class Governor:
    """``steps``: the ladder with its costs, hottest first; ``top_rate``: what a rung without a rate makes at most;
    ``seconds``: an inference takes, by precision."""

    def __init__(
        self,
        steps: Sequence[Step],
        seconds: Mapping[str, float],
        options: Options | None = None,
        top_rate: float = 30.0,
    ) -> None:
        self._steps = list(steps)
        self._options = options or Options()
        self._seconds = seconds
        self._top_rate = top_rate
        self._offered: float | None = None
        self._most = max(self._cost(step.rung.precision) * self._rate(step) for step in steps)
        self._thermal = Thermal(
            [step.heat for step in steps], [step.rung.precision for step in steps], self._options.thermal
        )
        self._zones = Zones()
        self._load_memory = LoadMemory()
        self._load_rung = 0
        self._thermal_reason = self._load_reason = ""
        self._previous: Health | None = None
        self._previous_at = 0.0
        self._took: float | None = None
        self._best: dict[str, float] = {}
        self._moved = 0.0
        self._outlook: Outlook | None = None
        self._governed = False
        self._near = False

    @property
    def safe_rung(self) -> int:
        """Where it goes without a believable temperature."""
        if self._options.safe_rung is not None:
            return min(self._options.safe_rung, len(self._steps) - 1)
        cool = (number for number, step in enumerate(self._steps) if step.heat <= SAFE_HEAT)
        return next(cool, len(self._steps) - 1)

    @property
    def highest(self) -> int:
        """The rung that nobody may go above now: 0 is the top, the bottom near a trip, the safe rung without
        sensors."""
        if self._is_blind:
            return self.safe_rung
        return len(self._steps) - 1 if self._near else 0

    @property
    def _is_blind(self) -> bool:
        return self._zones.lost or (self._options.needs_temperature and not self._zones.watches)

    def observe(self, health: Health, now: float | None = None) -> None:
        """The next second. ``now``: by a clock that never jumps; the Health's own time where it is left out."""
        at = health.at if now is None else now
        before, seconds = self._previous, at - self._previous_at
        self._previous, self._previous_at = health, at
        seconds = seconds if before is not None and 0 < seconds < 60 else 1.0
        inferred, captured = _made(before, health, seconds)
        self._follow_rates(health, inferred, captured, seconds)
        self._govern_heat(health, inferred, at, seconds)
        self._govern_load(health, inferred, at)

    def decide(self) -> Decision:
        """The rung that the coldest of all reasons asks for."""
        asked = [(self._load_rung, self._load_reason or "the load leaves room")]
        if self._is_blind:
            asked.append((self.safe_rung, self._why_safe()))
        elif self._governed:
            asked.append((self._thermal.rungs[0], self._why_thermal()))
        # Of two that ask for the same the later one, the heat, is told.
        rung, reason = max(reversed(asked), key=lambda one: one[0])
        chosen = self._steps[rung].rung
        return Decision(rung=rung, precision=chosen.precision, rate=chosen.rate, reason=reason)

    def told(self, health: Health) -> Health:
        """The Health with what the governor knows of it: limits, headroom, slopes, outlook, sensors not believed."""
        temperatures = {
            name: self._annotated(name, zone)
            for name, zone in health.temperatures.items()
            if name in self._zones.believed
        }
        return msgspec.structs.replace(
            health, temperatures=temperatures, outlook=self._outlook, faults={**health.faults, **self._zones.faults}
        )

    # heat

    def _govern_heat(self, health: Health, inferred: float, at: float, seconds: float) -> None:
        heat = inferred * self._cost(health.precision) / self._most
        still_since = self._zones.still_since
        self._zones.observe(self._of_interest(health.temperatures), at, self._moved)
        over = self._over(health.temperatures)
        self._governed = self._governed or over is not None
        if not self._governed:
            return
        value = np.array([np.nan if over is None else over[1]])
        (choice,) = self._thermal.step(value, np.array([heat]), at, seconds, self._heats())
        self._thermal_reason = choice.reason or self._thermal_reason
        forecast = self._thermal.forecasts[0]
        # What the model thinks that the zones have moved while none of them did.
        move = (forecast.ahead[0] - forecast.level) / HORIZONS[0] * seconds
        self._moved = self._moved + move if self._zones.still_since == still_since else 0.0
        self._near = forecast.level > -self._options.thermal.near
        self._outlook = None if over is None else _outlook(over[0], over[1], forecast)

    def _of_interest(self, temperatures: Mapping[str, Temperature]) -> Mapping[str, Temperature]:
        return {name: zone for name, zone in temperatures.items() if name not in self._options.ignore}

    def _over(self, temperatures: Mapping[str, Temperature]) -> tuple[str, float] | None:
        """The zone that is nearest its limit (or furthest above it), and by how much it is above."""
        over = {
            name: celsius - limit
            for name, celsius in self._zones.believed.items()
            if (limit := self._limit(name, temperatures)) is not None
        }
        return max(over.items(), key=lambda one: one[1]) if over else None

    def _limit(self, name: str, temperatures: Mapping[str, Temperature]) -> float | None:
        """Where a zone is kept below: what the board says, or the user if that is stricter. None: it does not count."""
        zone = temperatures[name]
        asked = [limit for limit in (self._options.limit, self._options.limits.get(name)) if limit is not None]
        named = _trip(zone)
        if named is None and not asked and not any(_trip(other) for other in temperatures.values()):
            named = ASSUMED_LIMIT
        return min([*asked, *([] if named is None else [named])], default=None)

    def _annotated(self, name: str, zone: Temperature) -> Temperature:
        limit = self._limit(name, {name: zone, **(self._previous.temperatures if self._previous else {})})
        return msgspec.structs.replace(
            zone,
            limit=limit,
            headroom=None if limit is None else round(limit - zone.celsius, 2),
            critical_headroom=None if zone.critical is None else round(zone.critical - zone.celsius, 2),
            slope=round(self._zones.watches[name].slope, 4),
        )

    # load

    def _govern_load(self, health: Health, inferred: float, at: float) -> None:
        took = self._took
        best = self._best.get(health.precision)
        load = Load(self._strain(health), _busy(health), inferred, took, best)
        rates = [self._rate(step) for step in self._steps]
        choice = loads.choose(load, rates, self._load_rung, self._load_memory, at, self._options.load)
        self._load_rung, self._load_memory = choice.rung, choice.memory
        self._load_reason = choice.reason or self._load_reason

    def _strain(self, health: Health) -> float | None:
        strains = [
            camera.frame_age_p95_ms / 1e3 / self._options.max_age[name]
            for name, camera in health.cameras.items()
            if camera.frame_age_p95_ms is not None and name in self._options.max_age
        ]
        return max(strains, default=None)

    def _follow_rates(self, health: Health, inferred: float, captured: float, seconds: float) -> None:
        """How long an inference takes now, and how many pictures the cameras give, where that can be seen at all."""
        busy = _busy(health)
        if busy is not None and inferred > 0:
            took = busy / inferred
            self._took = took if self._took is None else self._took + SMOOTH * (took - self._took)
            known = self._best.get(health.precision)
            self._best[health.precision] = self._took if known is None else min(known * 1.0002, self._took)
        allowed = health.rate
        if captured > 1.1 * inferred or allowed is None or inferred < 0.9 * allowed:
            offered = max(captured, inferred)
            share = min(1.0, 0.1 * seconds)
            self._offered = offered if self._offered is None else self._offered + share * (offered - self._offered)

    def _rate(self, step: Step) -> float:
        """Inferences a second that a rung makes at most."""
        full = self._top_rate if self._offered is None else max(self._offered, self._top_rate)
        return min(step.rung.rate or full, 1.0 / self._cost(step.rung.precision))

    def _heats(self) -> list[float]:
        """What the rungs cost with what the cameras give now: with less light they may give less."""
        if self._offered is None:
            return [step.heat for step in self._steps]
        return [
            min(self._rate(step), 1.1 * self._offered) * self._cost(step.rung.precision) / self._most
            for step in self._steps
        ]

    def _cost(self, precision: str) -> float:
        return self._seconds.get(precision) or max(self._seconds.values())

    # words

    def _why_safe(self) -> str:
        if not self._zones.watches:
            return "safe rung: no thermal sensor"
        faults = ", ".join(f"{name} {fault}" for name, fault in sorted(self._zones.faults.items()))
        return f"safe rung: no believable temperature ({faults or 'none answers'})"

    def _why_thermal(self) -> str:
        if self._outlook is None:
            return self._thermal_reason or "no temperature for a moment"
        outlook = self._outlook
        where = f"{outlook.zone} {_margin(outlook.headroom)}, {_margin(outlook.steady_headroom)} in the long run"
        return f"{self._thermal_reason}; {where}" if self._thermal_reason else where


def decide(
    history: Iterable[Health], steps: Sequence[Step], seconds: Mapping[str, float], options: Options
) -> Decision:
    """The decision after a whole history. Pure."""
    governor = Governor(steps, seconds, options)
    for health in history:
        governor.observe(health)
    return governor.decide()


def _trip(zone: Temperature) -> float | None:
    if zone.passive is not None:
        return zone.passive
    return None if zone.critical is None else zone.critical - BEFORE_CRITICAL


def _made(before: Health | None, after: Health, seconds: float) -> tuple[float, float]:
    """Inferences and captured pictures a second between the two."""
    if before is None:
        return 0.0, 0.0
    inferred = captured = 0
    for name, camera in after.cameras.items():
        known = before.cameras.get(name)
        if known is not None:
            inferred += max(0, camera.inferred - known.inferred)
            captured += max(0, camera.captured - known.captured)
    return inferred / seconds, captured / seconds


def _outlook(zone: str, over: float, forecast: Forecast) -> Outlook:
    steady = forecast.ahead[-1]
    reached: float | None = 0.0 if over >= 0 else None
    points = list(zip((0.0, *HORIZONS[:-1]), (forecast.level, *forecast.ahead[:-1]), strict=True))
    for (start, low), (end, high) in pairwise(points):
        if reached is None and low < 0 <= high:
            reached = start + (end - start) * -low / (high - low)
    if reached is None and steady > 0:
        # Beyond what is forecast in minutes: as fast as at the end of it.
        (start, low), (end, high) = points[-2:]
        reached = end + -high * (end - start) / (high - low) if high > low else None
    return Outlook(
        zone=zone,
        headroom=round(-over, 2),
        steady_headroom=round(-steady, 2),
        seconds_to_limit=None if reached is None else round(reached, 1),
    )


def _margin(headroom: float) -> str:
    return f"{abs(headroom):.1f} K {'below' if headroom >= 0 else 'above'} its limit"


def _busy(health: Health) -> float | None:
    """Share of all that the machine could infer: what is full in a mode of few threads is not full yet."""
    return None if health.busy is None else health.busy * health.execution.share
