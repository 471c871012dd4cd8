"""Thermal zones, their trip points and the cooling devices, as Linux shows them (thermal/sysfs-api.rst of its docs).

What of it is believed over time is sampling.py's.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from agent.data import Cooling, Temperature
from agent.governor.sensors.base import Reading, is_plausible
from agent.governor.sensors.sysfs import Sysfs

# The power chip's sensor is a constant (100 or 50 °C) on every Jetson up to Xavier.
CONSTANT = ("pmic",)
PLACES = ("sys/class/thermal", "sys/devices/virtual/thermal")
RESCAN = 60
"""Readings after which zones and trips are looked for again: a driver loaded late, a trip point changed."""


class Zone(NamedTuple):
    """A thermal zone as found: its name, the file with its millidegrees, its trip points."""

    name: str
    file: Path
    passive: float | None
    critical: float | None


class ThermalSensor:
    """All thermal zones below ``root``."""

    def __init__(self, sysfs: Sysfs) -> None:
        self._sysfs = sysfs
        self._reads = 0
        self.zones = self._find()
        self._cooling = self._find_cooling()

    @property
    def governs(self) -> bool:
        """Whether any zone says when it is too hot."""
        return any(zone.passive is not None or zone.critical is not None for zone in self.zones)

    def read(self) -> Reading:
        """Every zone that answers with a temperature that can be one."""
        self._reads += 1
        if self._reads % RESCAN == 0:
            self.zones, self._cooling = self._find(), self._find_cooling()
        found = {}
        for zone in self.zones:
            milli = self._sysfs.number(zone.file)
            if milli is not None and is_plausible(milli / 1e3):
                found[zone.name] = Temperature(celsius=milli / 1e3, passive=zone.passive, critical=zone.critical)
        return Reading(temperatures=found, cooling=self._states())

    def _states(self) -> dict[str, Cooling]:
        found = {}
        for name, folder, most in self._cooling:
            state = self._sysfs.number(folder / "cur_state")
            if state is not None:
                found[name] = Cooling(state=int(state), most=most)
        return found

    def _find(self) -> list[Zone]:
        zones: list[Zone] = []
        taken: set[str] = set()
        for folder in _folders(self._sysfs, "thermal_zone"):
            kind = self._sysfs.text(folder / "type") or folder.name
            if kind.lower().startswith(CONSTANT):
                continue
            name = kind if kind not in taken else f"{kind}/{folder.name.removeprefix('thermal_zone')}"
            taken.add(name)
            passive, critical = self._trips(folder)
            zones.append(Zone(name, folder / "temp", passive, critical))
        return zones

    def _trips(self, folder: Path) -> tuple[float | None, float | None]:
        """The lowest passive trip point (hot where no passive one is named) and the lowest critical one."""
        points: dict[str, list[float]] = {}
        for number, path in self._sysfs.numbered(folder, "trip_point_", "_temp"):
            kind, milli = self._sysfs.text(folder / f"trip_point_{number}_type"), self._sysfs.number(path)
            # A disabled trip point stands at -274 °C, or at 0.
            if kind and milli is not None and 20.0 < milli / 1e3 <= 150.0:
                points.setdefault(kind, []).append(milli / 1e3)
        throttling = points.get("passive") or points.get("hot") or []
        return min(throttling, default=None), min(points.get("critical", []), default=None)

    def _find_cooling(self) -> list[tuple[str, Path, int]]:
        found = []
        names: list[str] = []
        for folder in _folders(self._sysfs, "cooling_device"):
            kind, most = self._sysfs.text(folder / "type"), self._sysfs.number(folder / "max_state")
            if kind is not None and most is not None:
                names.append(kind)
                count = names.count(kind)
                found.append((kind if count == 1 else f"{kind}/{count}", folder, int(most)))
        return found


def _folders(sysfs: Sysfs, kind: str) -> list[Path]:
    """From the first place that has any."""
    found = (sysfs.glob(f"{place}/{kind}[0-9]*") for place in PLACES)
    return next((folders for folders in found if folders), [])
