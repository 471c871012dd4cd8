"""The contract of a sensor and what one reading may hold. Boards and plugins bring the sensors themselves."""

from __future__ import annotations

import math
from typing import Protocol, runtime_checkable

import msgspec

from agent.data import Cooling, Temperature


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What a sensor saw; None or empty where it has nothing to say. Loads and memory are fractions 0..1.

    ``own_load``: this process's share of all cores. ``rails``: watts by power rail; ``power_w``: of the whole board.
    """

    temperatures: dict[str, Temperature] = {}
    cooling: dict[str, Cooling] = {}
    gpu_load: float | None = None
    gpu_mhz: float | None = None
    cpu_load: float | None = None
    own_load: float | None = None
    memory: float | None = None
    rss_bytes: int | None = None
    power_w: float | None = None
    rails: dict[str, float] = {}
    fan_rpm: float | None = None


@runtime_checkable
class Sensor(Protocol):
    """Something that can be read once a second on the monitor's thread."""

    def read(self) -> Reading:
        """One reading; must not block longer than a few milliseconds. May raise OSError: counted, not fatal."""


COLDEST, HOTTEST = -40.0, 150.0


def is_plausible(celsius: float) -> bool:
    """Whether a thermal sensor can mean it: unpowered zones read -256, broken ones NaN or a thousand millions."""
    return math.isfinite(celsius) and COLDEST <= celsius <= HOTTEST


def board_power(rails: dict[str, float]) -> float | None:
    """Watts that go into the board: the input's rail where there is one, else the sum of what is measured."""
    if not rails:
        return None
    return next((rails[name] for name in ("VIN", "VDD_IN", "POM_5V_IN") if name in rails), sum(rails.values()))
