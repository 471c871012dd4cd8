"""The snapshot plugin: the best picture of every event as a file, annotated and cropped. Only the hooks stand here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent import hookimpl
from plugins.snapshot.config import SnapshotConfig

if TYPE_CHECKING:
    from agent import Agent, Event, Frame
    from plugins.snapshot.album import Album


class Snapshot:
    """Writes two JPEGs an event below ``folder``/camera/day, replaced when a better picture comes."""

    Config = SnapshotConfig
    _album: Album | None = None

    @hookimpl
    def startup(self, agent: Agent, config: SnapshotConfig) -> None:
        from plugins.snapshot.album import Album

        self._album = Album(agent, config)
        self._album.open()

    @hookimpl
    def on_event(self, event: Event, frame: Frame | None) -> None:
        if self._album is None:
            from agent import PluginError

            raise PluginError("snapshot: not started")
        self._album.event(event, frame)
