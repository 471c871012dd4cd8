"""What ``doctor`` says of the board's sensors: what the governor will go by. Pure; the governor's sensors are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from agent.board.finding import Finding

NEAR = 5.0
"""Kelvin below the point from which the board slows itself down."""
MOST_ZONES = 6
COOL = "clean the fan and the heat sink, give it air; [governor] keeps the load below: docs/governor.md"
MOUNT = "a container needs -v /sys:/sys:ro; on the board itself: ls /sys/class/thermal"


class Zone(NamedTuple):
    """Degrees Celsius; None where the board names no such point."""

    celsius: float
    passive: float | None
    critical: float | None


class Sensed(NamedTuple):
    """``zones`` and watts by ``rails``, by name; loads 0..1, None where there is no such sensor."""

    zones: Mapping[str, Zone]
    rails: Mapping[str, float]
    power: float | None
    gpu_load: float | None


def sensor_findings(sensed: Sensed, *, jetson: bool, has_gpu: bool, limited: bool) -> Iterator[Finding]:
    """Temperatures, power and the GPU's load. ``limited``: the configuration says how warm the board may get."""
    yield temperatures(sensed, jetson=jetson, limited=limited)
    yield rails(sensed)
    yield gpu_load(sensed, wanted=jetson or has_gpu)


def temperatures(sensed: Sensed, *, jetson: bool, limited: bool) -> Finding:
    """Thermal zones, the hottest first, with the points at which the board throttles and switches off."""
    what = "temperatures"
    if not sensed.zones:
        if jetson:
            return Finding(what, "warn", "no thermal zone can be read: the governor is blind", MOUNT)
        return Finding(what, "none", "none here; [governor] needs none")
    order = sorted(sensed.zones.items(), key=lambda item: -item[1].celsius)
    told = "; ".join(_words(name, zone) for name, zone in order[:MOST_ZONES])
    if len(order) > MOST_ZONES:
        told += f"; and {len(order) - MOST_ZONES} cooler"
    if any(zone.passive is not None and zone.celsius >= zone.passive - NEAR for zone in sensed.zones.values()):
        return Finding(what, "warn", f"{told}: close to throttling", COOL)
    if jetson and not limited and all(zone.passive is None and zone.critical is None for zone in sensed.zones.values()):
        return Finding(what, "warn", f"{told}; none says when it is too hot", "set [governor] limit = 85")
    return Finding(what, "ok", told)


def rails(sensed: Sensed) -> Finding:
    """Power rails, as the board's power chip measures them."""
    if not sensed.rails:
        return Finding("power rails", "none", "not measured here")
    whole = "" if sensed.power is None else f"{sensed.power:.1f} W in all: "
    each = ", ".join(f"{name} {watts:.1f} W" for name, watts in sensed.rails.items())
    return Finding("power rails", "ok", f"{whole}{each}")


def gpu_load(sensed: Sensed, *, wanted: bool) -> Finding:
    """How busy the GPU is."""
    if sensed.gpu_load is not None:
        return Finding("GPU load", "ok", f"{sensed.gpu_load:.0%}")
    if wanted:
        return Finding("GPU load", "warn", "cannot be read: nobody sees a GPU that is too busy", MOUNT)
    return Finding("GPU load", "none", "none here")


def _words(name: str, zone: Zone) -> str:
    points = [
        f"{word} at {value:.0f}"
        for word, value in (("throttles", zone.passive), ("ends", zone.critical))
        if value is not None
    ]
    return f"{name} {zone.celsius:.0f} °C" + (f" ({', '.join(points)})" if points else "")
