"""Which things each camera sees now, by label and zone, and how often its lines were crossed: counted from events, so
that a late subscriber need not have heard them.

Pure; times go in. Where it is published, and for whom, is homeassistant.py's and the publisher's.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

import msgspec

from agent import Event

REMEMBERED_ENDS = 1000
OPEN_LIMIT = 1000
PLACE_LIMIT = 256


class Occupancy(msgspec.Struct, frozen=True, kw_only=True):
    """How many things of each label a camera sees: its open events. A label once seen stays, at 0 when all are gone.

    ``zones``: the same for each zone that something was in. ``lines``: crossings by line and direction, as the events
    count them: since the daemon started.
    """

    v: int = 1
    node: str
    camera: str
    at: float
    labels: dict[str, int]
    zones: dict[str, dict[str, int]] = {}
    lines: dict[str, dict[str, int]] = {}


class Inside(NamedTuple):
    """What one open event says of its thing."""

    label: str
    zones: tuple[str, ...]


class Occupants:
    """The open events of every camera.

    ``started``: UNIX seconds at which the plugin began. An event from before it that was never ended (the daemon was
    killed) is not there any more: its late messages count for nothing. Ends are remembered, so that a start which is
    replayed behind its end opens nothing.
    """

    def __init__(self, started: float) -> None:
        self._started = started
        self._open: dict[str, dict[str, Inside]] = {}
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._labels: dict[str, set[str]] = {}
        self._zones: dict[str, dict[str, set[str]]] = {}
        self._lines: dict[str, dict[str, dict[str, int]]] = {}

    def expect(self, camera: str, labels: tuple[str, ...] = ()) -> None:
        """A camera that exists, and labels that it has seen before."""
        self._labels.setdefault(camera, set()).update(labels)

    def take(self, event: Event, now: float) -> bool:
        """Whether the event changes what its camera sees, or names a label that was not known there."""
        before = self._all(event.camera)
        self.expect(event.camera, (event.label,))
        inside = self._open.setdefault(event.camera, {})
        present = self._is_present(event, now)
        if event.kind == "end":
            inside.pop(event.id, None)
            self._remember(event.id)
        elif event.id not in self._ended and present and len(inside) < OPEN_LIMIT:
            inside[event.id] = Inside(event.label, event.zones)
        if present:
            self._note_places(event)
        return self._all(event.camera) != before

    def counts(self, camera: str) -> dict[str, int]:
        """By label, in alphabetical order."""
        inside = [thing.label for thing in self._open.get(camera, {}).values()]
        return {label: inside.count(label) for label in sorted(self._labels.get(camera, ()))}

    def zones(self, camera: str) -> dict[str, dict[str, int]]:
        """By zone and label, of the zones in which something was; both in alphabetical order."""
        inside = [(zone, thing.label) for thing in self._open.get(camera, {}).values() for zone in thing.zones]
        return {
            zone: {label: inside.count((zone, label)) for label in sorted(labels)}
            for zone, labels in sorted(self._zones.get(camera, {}).items())
        }

    def lines(self, camera: str) -> dict[str, dict[str, int]]:
        """Crossings by line and direction, in alphabetical order."""
        return {line: dict(sorted(counts.items())) for line, counts in sorted(self._lines.get(camera, {}).items())}

    def _all(self, camera: str) -> tuple[object, ...]:
        return self.counts(camera), self.zones(camera), self.lines(camera)

    def _note_places(self, event: Event) -> None:
        """Zones and lines that the event names; counts only go up, whatever order events come in."""
        zones = self._zones.setdefault(event.camera, {})
        for zone in event.zones_entered or event.zones:
            if zone in zones or len(zones) < PLACE_LIMIT:
                zones.setdefault(zone, set()).add(event.label)
        lines = self._lines.setdefault(event.camera, {})
        for crossing in event.crossings:
            if crossing.line in lines or len(lines) < PLACE_LIMIT:
                counts = lines.setdefault(crossing.line, {})
                counts[crossing.direction] = max(counts.get(crossing.direction, 0), crossing.count)

    def labels(self) -> dict[str, tuple[str, ...]]:
        """What every camera has seen so far."""
        return {camera: tuple(sorted(labels)) for camera, labels in sorted(self._labels.items())}

    def _is_present(self, event: Event, now: float) -> bool:
        return not event.late or self._started <= event.started_at <= now

    def _remember(self, event_id: str) -> None:
        self._ended[event_id] = None
        if len(self._ended) > REMEMBERED_ENDS:
            self._ended.popitem(last=False)
