"""The contract of a sensor, and the sensors every Linux box has (psutil). Boards bring theirs by plugin."""

from __future__ import annotations

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
