"""The snapshot plugin: the best picture of every event as a file, annotated and cropped. Only the hooks stand here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent import hookimpl
from plugins.snapshot.config import SnapshotConfig

if TYPE_CHECKING:
    from agent import Agent, Event, Frame, Health
    from plugins.snapshot.album import Album
    from plugins.snapshot.clips import Clips


class Snapshot:
    """Writes pictures, a sidecar and perhaps a clip of each event below ``folder``/camera/day; keeps within limits."""

    Config = SnapshotConfig
    _album: Album | None = None
    _clips: Clips | None = None

    @hookimpl
    def startup(self, agent: Agent, config: SnapshotConfig) -> None:
        from plugins.snapshot.album import Album

        self._close()
        album = Album(agent, config)
        album.open()
        self._album = album
        if config.clip is not None:
            from plugins.snapshot.clips import Clips

            self._clips = Clips(agent, config.clip, album.store, album.clipped, album.lost)
            self._clips.start()

    @hookimpl
    def shutdown(self, agent: Agent) -> None:
        self._close()

    @hookimpl
    def on_event(self, event: Event, frame: Frame | None) -> None:
        if self._album is None:
            from agent import PluginError

            raise PluginError("snapshot: not started")
        if self._clips is not None:
            self._clips.event(event, self._album.begin(event))
        self._album.event(event, frame)

    @hookimpl
    def on_health(self, health: Health) -> None:
        if self._clips is not None:
            self._clips.health(health)
        if self._album is not None:
            self._album.health(health)

    def _close(self) -> None:
        clips, self._clips = self._clips, None
        if clips is not None:
            clips.close()
