"""Open events as the rules see them: where each has been, since when, and whether a rule is about it. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from agent import Event
from plugins.alert.config import Rule

LATE_AFTER = 5.0
"""Seconds after which what an event tells is the past. (What waited for the host's sake, the host calls late.)"""


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """One event as last told. ``zones``: where it is, and since when (UNIX seconds, by the event's clock). ``dwelt``:
    seconds in each zone, over all visits. ``lines``: those that it crossed, each with and without
    the direction. ``signs``: what is remarkable about it.

    ``heard_at``: when it was told, by the rules' clock. ``stale``: its last message stood on too old a frame.
    ``raised``: how many alerts it has raised, by rule.
    """

    node: str
    event: str
    seq: int
    camera: str
    track: int
    label: str
    score: float
    zones: Mapping[str, float]
    dwelt: Mapping[str, float]
    lines: tuple[str, ...]
    signs: tuple[str, ...]
    started_at: float
    updated_at: float
    heard_at: float
    late: bool
    clock_synced: bool
    stale: bool
    raised: Mapping[str, int] = {}


def sighted(before: Sighting | None, event: Event, now: float, max_frame_age: float) -> Sighting:
    """The sighting after a message. An end says nothing about frames: it comes after the object was gone."""
    known = before.zones if before else {}
    dwelt = before.dwelt if before else {}
    here = {zone: event.dwell.get(zone, 0.0) - dwelt.get(zone, 0.0) for zone in event.zones}  # of this visit
    entered = {zone: event.updated_at - max(0.0, seconds) for zone, seconds in here.items()}
    crossed = [name for one in event.crossings for name in (one.line, f"{one.line}:{one.direction}")]
    signs = {"loitering": event.loitering, "left_behind": event.left_behind, "removed": event.removed}
    stale = before is not None and before.stale if event.kind == "end" else event.frame_age_ms > max_frame_age * 1e3
    past = event.clock_synced and now - event.updated_at > LATE_AFTER
    return Sighting(
        node=event.node,
        event=event.id,
        seq=event.seq,
        camera=event.camera,
        track=event.track,
        label=event.label,
        score=event.top_score,
        zones={zone: known.get(zone, entered[zone]) for zone in event.zones},
        dwelt=event.dwell,
        lines=tuple(dict.fromkeys(crossed)),
        signs=tuple(name for name, seen in signs.items() if seen),
        started_at=event.started_at,
        updated_at=event.updated_at,
        heard_at=now,
        late=event.late or past,
        clock_synced=event.clock_synced,
        stale=stale,
        raised=before.raised if before else {},
    )


def about(rule: Rule, sighting: Sighting) -> bool:
    """Whether the rule is about such an event, wherever and however long: label, camera, best score, zones,
    lines, signs."""
    label = not rule.labels or sighting.label in rule.labels
    camera = not rule.cameras or sighting.camera in rule.cameras
    zone = not rule.zones or any(zone in sighting.zones for zone in rule.zones)
    line = not rule.lines or any(line in sighting.lines for line in rule.lines)
    sign = not rule.signs or any(sign in sighting.signs for sign in rule.signs)
    return label and camera and zone and line and sign and sighting.score >= rule.min_score


def place(rule: Rule, sighting: Sighting, elapsed: float) -> str | None:
    """The rule's zone in which it has dwelt for long enough (empty for a rule without zones); None when in none.

    ``elapsed``: seconds since its last message during which it was certainly there.
    """
    spans = {zone: sighting.zones[zone] for zone in rule.zones if zone in sighting.zones}
    if not rule.zones:
        spans = {"": sighting.started_at}
    long_enough = [
        zone for zone, since in spans.items() if max(0.0, sighting.updated_at - since) + elapsed >= rule.dwell
    ]
    return min(long_enough, key=lambda zone: spans[zone], default=None)
