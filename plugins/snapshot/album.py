"""From an event and its picture to files: which pictures are better, what is written on them, what stands beside them.

What fails for want of room costs the file alone: it is counted and shows in health, the event goes on, and the next is
tried as ever.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from agent import Agent, Box, Event, Frame, Health, to_json
from plugins.snapshot.config import SnapshotConfig
from plugins.snapshot.drawing import annotate, crop, crop_box, jpeg
from plugins.snapshot.paths import CROP, PICTURE, SIDECAR, stem_of
from plugins.snapshot.store import NoRoomError, Store

REMEMBERED_EVENTS = 1000
TEND_EVERY = 30
"""Ticks of health, which comes once a second."""
PROBE = 256 << 10
"""Bytes that must fit for the folder to be called well again."""


class Sidecar(msgspec.Struct, kw_only=True):
    """What stands beside an event's pictures: ``event`` as last told, the names of the files, when the picture was
    taken, and where in it the crop was cut. ``clip``: its begin and end (UNIX seconds), and whether it is whole."""

    v: int = 1
    event: Event
    files: dict[str, str] = {}
    captured_at: float | None = None
    crop_box: tuple[int, int, int, int] | None = None
    clip: dict[str, Any] | None = None


class _Entry:
    """An event of which files are, or may still be, written."""

    def __init__(self, event: Event, stem: str) -> None:
        self.stem = stem
        self.sidecar = Sidecar(event=event)
        self.written: Box | None = None


class Album:
    """The pictures and sidecars of events. Called on the plugin's thread, ``clipped`` on the clips'."""

    def __init__(self, agent: Agent, config: SnapshotConfig) -> None:
        folder = Path(config.folder).expanduser() if config.folder else agent.state_dir / "pictures"
        self.store = Store(folder, config)
        self._agent = agent
        self._quality = config.quality
        self._metrics = agent.metrics
        self._lock = threading.RLock()
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._trouble = ""
        self._ticks = 0

    def open(self) -> None:
        """See that the folder is there. PluginError, to be tried again, when it cannot be written."""
        self.store.open()

    def begin(self, event: Event) -> str:
        """What the event's files are called, relative to the folder and without a suffix."""
        with self._lock:
            return self._entry(event).stem

    def event(self, event: Event, frame: Frame | None) -> None:
        """Write the event's pictures if there is a better one than those written, and its sidecar at its end."""
        with self._lock:
            entry = self._entry(event)
            better = entry.written != event.best_box
            if better and frame is None:
                self._metrics.count("without_frame")
            try:
                if better and frame is not None:
                    self._write(entry, event, frame)
                if entry.written is not None and (better or event.kind == "end"):
                    self._write_sidecar(entry)
                elif event.kind == "end" and (before := self._read(entry.stem)) is not None:
                    before.event = event  # it began before a restart
                    self.store.write(entry.stem, SIDECAR, to_json(before))
            except NoRoomError as error:
                self._metrics.count("lost")
                self._say(str(error))
            else:
                self._say("" if better and frame is not None else self._trouble)
            if event.kind == "end":
                self._forget(event.id)
            self._metrics.gauge("bytes", self.store.total)
            self._metrics.gauge("events", len(self.store))

    def clipped(self, event_id: str, stem: str, suffix: str, about: dict[str, Any]) -> None:
        """A clip was written: the sidecar names it."""
        with self._lock:
            entry = self._entries.get(event_id)
            sidecar = entry.sidecar if entry else self._read(stem)
            if sidecar is None:
                return
            sidecar.clip = about
            sidecar.files["clip"] = PurePosixPath(stem + suffix).name
            try:
                self.store.write(stem, SIDECAR, to_json(sidecar))
            except NoRoomError as error:
                self._say(str(error))

    def health(self, health: Health) -> None:
        """Once a second: age and the disk's reserve now and then; whether what was wrong is well again."""
        self._ticks += 1
        if self._trouble or self._ticks % TEND_EVERY == 0:
            try:
                self.store.tend()
            except OSError as error:
                self._say(f"snapshot: {self.store.folder}: {error.strerror or error}")
        if self._trouble and self.store.has_room(PROBE):
            self._say("")

    def lost(self, reason: str) -> None:
        """A file could not be written."""
        with self._lock:
            self._metrics.count("lost")
            self._say(reason)

    def _entry(self, event: Event) -> _Entry:
        entry = self._entries.get(event.id)
        if entry is None:
            # The first message names the files: a label may be corrected later.
            entry = self._entries[event.id] = _Entry(event, stem_of(event))
            self.store.hold(entry.stem)
        self._entries.move_to_end(event.id)
        entry.sidecar.event = event
        while len(self._entries) > REMEMBERED_EVENTS:
            self._forget(next(iter(self._entries)))
        return entry

    def _forget(self, event_id: str) -> None:
        self.store.release(self._entries.pop(event_id).stem)

    def _write(self, entry: _Entry, event: Event, frame: Frame) -> None:
        taken = datetime.fromtimestamp(frame.captured_at).astimezone()
        drawn = annotate(
            frame.pixels,
            event.best_box,
            event.label,
            (event.camera, f"{taken:%Y-%m-%d %H:%M:%S%z}"),
            caption=caption(event),
            zones=self._agent.zones(event.camera),
            lit=event.zones,
        )
        self.store.write(entry.stem, PICTURE, jpeg(drawn, self._quality))
        self._write_crop(entry, event, frame)
        entry.written = event.best_box
        entry.sidecar.captured_at = frame.captured_at
        entry.sidecar.files["picture"] = PurePosixPath(entry.stem + PICTURE).name
        self._metrics.count("written")

    def _write_crop(self, entry: _Entry, event: Event, frame: Frame) -> None:
        cut = crop(frame.pixels, event.best_box)
        if cut is None:
            self.store.remove(entry.stem, CROP)
            entry.sidecar.files.pop("crop", None)
            entry.sidecar.crop_box = None
            return
        self.store.write(entry.stem, CROP, jpeg(cut, self._quality))
        entry.sidecar.files["crop"] = PurePosixPath(entry.stem + CROP).name
        entry.sidecar.crop_box = crop_box(frame.size, event.best_box)

    def _write_sidecar(self, entry: _Entry) -> None:
        self.store.write(entry.stem, SIDECAR, to_json(entry.sidecar))

    def _read(self, stem: str) -> Sidecar | None:
        """The sidecar of an event that is over; None when it never had one."""
        try:
            path = self.store.folder / (stem + SIDECAR)
            return msgspec.json.decode(path.read_bytes(), type=Sidecar)
        except (OSError, msgspec.DecodeError):
            return None

    def _say(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            self._agent.trouble(trouble)


def caption(event: Event) -> str:
    """What is said of the object beside its label: the score, and where it is."""
    zones = f"  {', '.join(event.zones)}" if event.zones else ""
    return f" {event.top_score:.2f}{zones}"
