"""Keeps Home Assistant's picture of the node true: what is to be told on a connection, at an event, at a health.

Safe from any thread; times go in. What the messages look like is homeassistant.py's, how they travel the link's.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from agent import Event, Health, to_json
from plugins.mqtt.connection import Message
from plugins.mqtt.homeassistant import Announced, Memory, announcement, config_topic, removal
from plugins.mqtt.occupancy import Occupancy, Occupants
from plugins.mqtt.topics import Topics

log = logging.getLogger(__name__)


SETTLE = 5.0
REPEAT = 60.0


class Discovery:
    """One node's. ``folder``: where it remembers; ``commands``: whether a limit can be set; ``now``: UNIX seconds.

    Home Assistant leaves out what is new in an announcement that comes while it still works on the one before. So
    changes are gathered for 5 s after an announcement, and the last is told once more after a minute.
    """

    def __init__(self, node: str, topics: Topics, folder: Path, *, commands: bool, now: float) -> None:
        self._node = node
        self._topics = topics
        self._commands = commands
        self._lock = threading.Lock()
        self._memory = Memory(folder)
        self._occupants = Occupants(now)
        self._present: frozenset[str] | None = None
        self._changed = False
        self._told: float | None = None
        self._again = math.inf
        self._saved = self._memory.load()
        for camera, labels in self._saved.cameras.items() if self._saved else ():
            self._occupants.expect(camera, tuple(labels))
        self._former = self._saved.topic if self._saved else ""

    def start(self, deliver: Callable[[Message], Future[None]]) -> None:
        """Remove the device that this node was under another name."""
        if self._former not in ("", config_topic(self._node)):
            deliver(removal(self._former))

    def greeting(self, now: float) -> list[Message]:
        """For a broker, or a Home Assistant, that may have forgotten everything: the device and who is where."""
        with self._lock:
            self._changed, self._told = False, None
            self._remember()
            return [self._device(), *(self._occupancy(camera, now) for camera in self._cameras())]

    def event(self, event: Event, now: float) -> list[Message]:
        """The occupancy when it changed. A label that is new changes the device."""
        with self._lock:
            known = event.label in self._occupants.counts(event.camera)
            if not self._occupants.take(event, now):
                return []
            if not known:
                self._change()
            return [self._occupancy(event.camera, now)]

    def due(self, mono: float) -> list[Message]:
        """The device, when its time has come; asked about once a second. ``mono``: monotonic seconds."""
        with self._lock:
            if self._told is None:  # by a greeting, just now
                self._told, self._again = mono, mono + REPEAT
            if not (self._changed and mono - self._told >= SETTLE) and mono < self._again:
                return []
            self._told, self._again = mono, mono + REPEAT if self._changed else math.inf
            self._changed = False
            return [self._device()]

    def health(self, health: Health, now: float) -> list[Message]:
        """The occupancies when there are other cameras than before, which changes the device."""
        present = frozenset(health.cameras)
        with self._lock:
            if present == self._present:
                return []
            self._present = present
            for camera in present:
                self._occupants.expect(camera)
            self._change()
            return [self._occupancy(camera, now) for camera in self._cameras()]

    def _cameras(self) -> list[str]:
        """Those that exist, as far as is known."""
        return [name for name in self._occupants.labels() if self._present is None or name in self._present]

    def _device(self) -> Message:
        labels = self._occupants.labels()
        here = {name: labels[name] for name in self._cameras()}
        gone = {name: seen for name, seen in labels.items() if name not in here}
        return announcement(self._node, self._topics, here, gone=gone, commands=self._commands)

    def _change(self) -> None:
        self._changed = True
        self._remember()

    def _remember(self) -> None:
        cameras = {name: list(seen) for name, seen in self._occupants.labels().items()}
        announced = Announced(topic=config_topic(self._node), cameras=cameras)
        if announced != self._saved:
            self._saved = announced
            self._memory.save(announced)

    def _occupancy(self, camera: str, now: float) -> Message:
        told = Occupancy(
            node=self._node,
            camera=camera,
            at=now,
            labels=self._occupants.counts(camera),
            zones=self._occupants.zones(camera),
            lines=self._occupants.lines(camera),
        )
        return Message(self._topics.camera(camera, "occupancy"), to_json(told), 0, True, "application/json")


class Withdrawal:
    """In the place of Discovery where Home Assistant is not wanted: tells nothing, removes what was announced once."""

    def __init__(self, topics: Topics, folder: Path) -> None:
        self._topics = topics
        self._memory = Memory(folder)

    def greeting(self, now: float) -> list[Message]:
        """Nothing."""
        return []

    def event(self, event: Event, now: float) -> list[Message]:
        """Nothing."""
        return []

    def health(self, health: Health, now: float) -> list[Message]:
        """Nothing."""
        return []

    def due(self, mono: float) -> list[Message]:
        """Nothing."""
        return []

    def start(self, deliver: Callable[[Message], Future[None]]) -> None:
        """Remove the device, if it was announced; once the broker has acknowledged that, it is forgotten."""
        announced = self._memory.load()
        if announced is not None:
            for camera in announced.cameras:
                deliver(Message(self._topics.camera(camera, "occupancy"), b"", 1, True))
            deliver(removal(announced.topic)).add_done_callback(self._removed)

    def _removed(self, delivered: Future[None]) -> None:
        if delivered.cancelled() or delivered.exception() is not None:
            return  # at the next start, then
        self._memory.forget()
        log.info("mqtt: Home Assistant was told to remove this node")
