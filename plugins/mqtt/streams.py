"""What is worth telling again: detections at a rate, better pictures, changed states. Pure; times go in."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Generic, TypeVar

from agent import Event, Health

T = TypeVar("T")
REMEMBERED_EVENTS = 1000
TOLD_STATES = {"up": "up", "down": "down", "frozen": "frozen", "black": "black", "ended": "down", "paused": "paused"}


class NewestOnly(Generic[T]):
    """At most ``rate`` values a second for each camera; what comes too soon waits, and is replaced by the next."""

    def __init__(self, rate: float) -> None:
        self._interval = 1.0 / rate if rate > 0 else float("inf")
        self._told: dict[str, float] = {}
        self._waiting: dict[str, T] = {}

    def offer(self, camera: str, value: T, now: float) -> T | None:
        """The value when it may go out now, else None."""
        if self._interval == float("inf"):
            return None
        if now - self._told.get(camera, float("-inf")) < self._interval:
            self._waiting[camera] = value
            return None
        self._waiting.pop(camera, None)
        self._told[camera] = now
        return value

    def due(self, now: float) -> list[T]:
        """What waited and may go out now: the last word of a camera that went quiet."""
        cameras = [camera for camera in self._waiting if now - self._told[camera] >= self._interval]
        self._told.update(dict.fromkeys(cameras, now))
        return [self._waiting.pop(camera) for camera in cameras]


class BestPictures:
    """Which events have a picture that was not shown yet. Remembers the last thousand."""

    def __init__(self) -> None:
        self._shown: OrderedDict[str, tuple[float, ...]] = OrderedDict()

    def is_better(self, event: Event) -> bool:
        """Whether the event's picture differs from the one last shown; never for an event that waited."""
        return not event.late and self._shown.get(event.id) != event.best_box

    def shown(self, event: Event) -> None:
        """The event's present picture went out."""
        self._shown[event.id] = event.best_box
        self._shown.move_to_end(event.id)
        if len(self._shown) > REMEMBERED_EVENTS:
            self._shown.popitem(last=False)


class States:
    """The newest health and camera states, and which of them a subscriber does not know yet."""

    def __init__(self, interval: float) -> None:
        self.health: Health | None = None
        self.cameras: Mapping[str, str] = {}
        self._interval = interval
        self._told_at = float("-inf")
        self._told_rung: int | None = None

    def update(self, health: Health) -> dict[str, str]:
        """Take a new health; the cameras whose told state changed by it."""
        cameras = dict(self.cameras)
        for name, camera in health.cameras.items():
            cameras[name] = TOLD_STATES.get(camera.state) or cameras.get(name, "")
        changed = {name: state for name, state in cameras.items() if state and state != self.cameras.get(name)}
        self.health, self.cameras = health, cameras
        return changed

    def health_due(self, now: float) -> bool:
        """Whether the health is to be told: the interval is over or the rung is another; then counts as told."""
        if self.health is None:
            return False
        if now - self._told_at < self._interval and self.health.rung == self._told_rung:
            return False
        self._told_at, self._told_rung = now, self.health.rung
        return True
