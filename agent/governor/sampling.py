"""Which temperatures are believed: a zone that disappears, talks nonsense or freezes is noticed and named. Pure.

Time goes in with each sample; nothing here reads a clock or a sensor.
"""

from __future__ import annotations

from collections.abc import Mapping

from agent.data import Temperature
from agent.governor.sensors.base import is_plausible

LOST_AFTER = 5.0
FROZEN_AFTER = 120.0
COARSE = 0.2
"""Kelvin: a sensor that has never shown a smaller step may well stand still for long, and is given more time."""
COARSE_FROZEN_AFTER = 1800.0
SHOULD_MOVE = 3.0
STUCK_AFTER = 45.0
"""Kelvin that the model expects since the value last changed: one that has not moved at all by then is frozen."""
LEVEL_SHARE, SLOPE_SHARE = 0.3, 0.03


class ZoneWatch:
    """One zone. After ``see`` or ``miss``: ``celsius`` is None where it is not believed, and ``fault`` says why."""

    def __init__(self) -> None:
        self.celsius: float | None = None
        self.fault = ""
        self.slope = 0.0
        self._raw: float | None = None
        self._changed_at = 0.0
        self._heard_at: float | None = None
        self._step = float("inf")
        self._stuck = False
        self._level = 0.0
        self._at = 0.0

    def see(self, celsius: float, now: float, expected: float) -> None:
        """A value; ``expected``: kelvin by which the model thinks that it moved since it last changed."""
        if not is_plausible(celsius):
            self.celsius, self.fault = None, f"says {celsius:g} °C, which cannot be"
            return
        if celsius != self._raw:
            if self._raw is not None:
                self._step = min(self._step, abs(celsius - self._raw))
            self._raw, self._changed_at, self._stuck = celsius, now, False
        self._follow(celsius, now)
        still = now - self._changed_at
        patience = COARSE_FROZEN_AFTER if self._step >= COARSE else FROZEN_AFTER
        # Only soon after the last change: over a long time a small error of the model grows into kelvins too.
        self._stuck = self._stuck or (abs(expected) > SHOULD_MOVE and STUCK_AFTER < still < 2 * STUCK_AFTER)
        frozen = still > patience or self._stuck
        self.celsius = None if frozen else celsius
        self.fault = f"frozen at {celsius:g} °C for {still:.0f} s" if frozen else ""
        self._heard_at = now

    def miss(self, now: float) -> None:
        """No value this time."""
        if self._heard_at is None:
            return
        silent = now - self._heard_at
        self.celsius = None
        if silent > LOST_AFTER:
            self.fault = f"has said nothing for {silent:.0f} s"

    @property
    def still_since(self) -> float:
        """When the value last changed."""
        return self._changed_at

    def _follow(self, celsius: float, now: float) -> None:
        """Level and slope by an alpha-beta filter."""
        seconds = now - self._at
        if self._heard_at is None or not 0 < seconds < 30:
            self._level, self.slope = celsius, 0.0
        else:
            error = celsius - self._level - self.slope * seconds
            self._level += self.slope * seconds + LEVEL_SHARE * error
            self.slope += SLOPE_SHARE * error / seconds
        self._at = now


class Zones:
    """All zones of a board. ``believed``: Celsius by zone; ``faults``: why others are not; ``lost``: there were zones,
    and for some seconds now none is believed."""

    def __init__(self) -> None:
        self.watches: dict[str, ZoneWatch] = {}
        self.believed: dict[str, float] = {}
        self.lost = False
        self._believed_at: float | None = None

    def observe(self, temperatures: Mapping[str, Temperature], now: float, expected: float = 0.0) -> None:
        """One sample of all zones."""
        for name in {**self.watches, **temperatures}:
            watch = self.watches.setdefault(name, ZoneWatch())
            celsius = _number(temperatures.get(name))
            if celsius is None:
                watch.miss(now)
            else:
                watch.see(celsius, now, expected)
        self.believed = {name: watch.celsius for name, watch in self.watches.items() if watch.celsius is not None}
        if self.believed:
            self._believed_at = now
        silent = self._believed_at is None or now - self._believed_at > LOST_AFTER
        self.lost = bool(self.watches) and not self.believed and silent

    @property
    def faults(self) -> dict[str, str]:
        """Why zones are not believed."""
        return {name: watch.fault for name, watch in self.watches.items() if watch.fault}

    @property
    def still_since(self) -> float:
        """Since when no zone has changed its value."""
        return max((watch.still_since for watch in self.watches.values()), default=0.0)


def _number(temperature: object) -> float | None:
    """What a zone says, if it is a number at all: a sensor of a plugin may say anything."""
    celsius = getattr(temperature, "celsius", None)
    return float(celsius) if isinstance(celsius, int | float) and not isinstance(celsius, bool) else None
