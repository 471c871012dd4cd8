"""Which things each camera sees now, by label: counted from events, so that a late subscriber need not have heard them.

Pure; times go in. Where it is published, and for whom, is homeassistant.py's and the publisher's.
"""

from __future__ import annotations

from collections import OrderedDict

import msgspec

from agent import Event

REMEMBERED_ENDS = 1000
OPEN_LIMIT = 1000


class Occupancy(msgspec.Struct, frozen=True, kw_only=True):
    """How many things of each label a camera sees: its open events. A label once seen stays, at 0 when all are gone."""

    v: int = 1
    node: str
    camera: str
    at: float
    labels: dict[str, int]


class Occupants:
    """The open events of every camera.

    ``started``: UNIX seconds at which the plugin began. An event from before it that was never ended (the daemon was
    killed) is not there any more: its late messages count for nothing. Ends are remembered, so that a start which is
    replayed behind its end opens nothing.
    """

    def __init__(self, started: float) -> None:
        self._started = started
        self._open: dict[str, dict[str, str]] = {}
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._labels: dict[str, set[str]] = {}

    def expect(self, camera: str, labels: tuple[str, ...] = ()) -> None:
        """A camera that exists, and labels that it has seen before."""
        self._labels.setdefault(camera, set()).update(labels)

    def take(self, event: Event, now: float) -> bool:
        """Whether the event changes what its camera sees, or names a label that was not known there."""
        before = self.counts(event.camera)
        self.expect(event.camera, (event.label,))
        inside = self._open.setdefault(event.camera, {})
        if event.kind == "end":
            inside.pop(event.id, None)
            self._remember(event.id)
        elif event.id not in self._ended and self._is_present(event, now) and len(inside) < OPEN_LIMIT:
            inside[event.id] = event.label
        return self.counts(event.camera) != before

    def counts(self, camera: str) -> dict[str, int]:
        """By label, in alphabetical order."""
        inside = list(self._open.get(camera, {}).values())
        return {label: inside.count(label) for label in sorted(self._labels.get(camera, ()))}

    def labels(self) -> dict[str, tuple[str, ...]]:
        """What every camera has seen so far."""
        return {camera: tuple(sorted(labels)) for camera, labels in sorted(self._labels.items())}

    def _is_present(self, event: Event, now: float) -> bool:
        return not event.late or self._started <= event.started_at <= now

    def _remember(self, event_id: str) -> None:
        self._ended[event_id] = None
        if len(self._ended) > REMEMBERED_ENDS:
            self._ended.popitem(last=False)
