"""The contract of a sensor, and the sensors every Linux box has (psutil). Boards bring theirs by plugin."""

from __future__ import annotations

import math
from typing import Protocol, runtime_checkable

import msgspec

from agent.data import Temperature


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What a sensor saw; None or empty where it has nothing to say. Loads and memory are fractions 0..1."""

    temperatures: dict[str, Temperature] = {}
    gpu_load: float | None = None
    cpu_load: float | None = None
    memory: float | None = None
    rss_bytes: int | None = None
    power_w: float | None = None


@runtime_checkable
class Sensor(Protocol):
    """Something that can be read once a second on the monitor's thread."""

    def read(self) -> Reading:
        """One reading; must not block longer than a few milliseconds. May raise OSError: counted, not fatal."""


class HostSensor:
    """CPU load, memory, this process's RSS and the thermal zones, as psutil gives them on any Linux box."""

    def __init__(self) -> None:
        import psutil

        self._psutil = psutil
        self._process = psutil.Process()
        psutil.cpu_percent()  # the first call only sets the mark from which the next one counts

    def read(self) -> Reading:
        """One reading; costs a few reads of /proc and /sys."""
        return Reading(
            temperatures=self._temperatures(),
            cpu_load=self._psutil.cpu_percent() / 100.0,
            memory=self._psutil.virtual_memory().percent / 100.0,
            rss_bytes=self._process.memory_info().rss,
        )

    def _temperatures(self) -> dict[str, Temperature]:
        zones = {}
        for chip, entries in self._psutil.sensors_temperatures().items():
            for index, entry in enumerate(entries):
                # An unpowered zone reads -256 or so: absent, not cold.
                if math.isfinite(entry.current) and -40.0 <= entry.current <= 150.0:
                    name = chip if len(entries) == 1 else f"{chip}/{entry.label or index}"
                    zones[name] = Temperature(celsius=entry.current, passive=entry.high, critical=entry.critical)
        return zones
