"""From an event and its picture to two files: which pictures are better, what is written on them, what failed."""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime
from pathlib import Path

from agent import Agent, Box, Event, Frame, PluginError
from plugins.snapshot.config import SnapshotConfig
from plugins.snapshot.drawing import annotate, crop, jpeg
from plugins.snapshot.paths import picture_paths
from plugins.snapshot.store import Store

REMEMBERED_EVENTS = 1000


class Album:
    """Everything the plugin does; called on the plugin's thread."""

    def __init__(self, agent: Agent, config: SnapshotConfig) -> None:
        folder = Path(config.folder).expanduser() if config.folder else agent.state_dir / "pictures"
        self._store = Store(folder, config.max_bytes)
        self._quality = config.quality
        self._metrics = agent.metrics
        self._written: OrderedDict[str, Box] = OrderedDict()

    def open(self) -> None:
        """See that the folder is there. PluginError, to be tried again, when it cannot be written."""
        self._store.open()

    def event(self, event: Event, frame: Frame | None) -> None:
        """Write the event's pictures if there is a better one than those written. PluginError when the disk refuses."""
        if self._written.get(event.id) == event.best_box:
            return
        if frame is None:
            self._metrics.count("without_frame")
            return
        try:
            self._write(event, frame)
        except PluginError:
            self._metrics.count("lost")
            raise
        self._remember(event)
        self._metrics.count("written")
        self._metrics.gauge("bytes", self._store.total)

    def _write(self, event: Event, frame: Frame) -> None:
        whole, part = picture_paths(event)
        caption = f"{event.label} {event.top_score:.2f}"
        taken = datetime.fromtimestamp(frame.captured_at).astimezone()
        stamp = f"{event.camera}  {taken:%Y-%m-%d %H:%M:%S%z}"
        self._store.write(whole, jpeg(annotate(frame.pixels, event.best_box, caption, stamp), self._quality))
        cut = crop(frame.pixels, event.best_box)
        if cut is not None:
            self._store.write(part, jpeg(cut, self._quality))

    def _remember(self, event: Event) -> None:
        self._written[event.id] = event.best_box
        self._written.move_to_end(event.id)
        if len(self._written) > REMEMBERED_EVENTS:
            self._written.popitem(last=False)
