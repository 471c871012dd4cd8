"""What a plugin holds in its hand: the ``agent`` of ``startup``. A contract; the host and the tests implement it."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Protocol

from agent.data import Frame

Zones = Mapping[str, Sequence[tuple[float, float]]]
"""Polygons by name, their corners as fractions of the picture's width and height."""


class Message(Protocol):
    """One message taken from an outbox. It stays there until it is acknowledged, also over a restart."""

    payload: bytes
    late: bool
    queued_at: float

    def ack(self) -> None:
        """The message has arrived; never hand it out again."""

    def release(self, retry_after: float = 0.0) -> None:
        """It has not; hand it out again, in its old place, after so many seconds."""


class Outbox(Protocol):
    """A durable queue of the plugin's own, in the event log's file. Safe from any thread."""

    def put(self, payload: bytes, priority: int = 0) -> Future[None]:
        """Queue a message; returns at once. The Future completes when it is committed to disk.

        While the event log says ``memory only`` (the disk is full, read-only, …) it completes when it is in memory.
        """

    def take(self, timeout: float) -> Message | None:
        """The next message (highest priority first, then oldest) not yet handed out, or None after ``timeout`` s.

        Also None, at once, when the agent is stopping.
        """


class Metrics(Protocol):
    """Counters and gauges under the plugin's name, shown by status and exporters."""

    def count(self, name: str, by: float = 1) -> None:
        """Add to a counter."""

    def gauge(self, name: str, value: float) -> None:
        """Set a gauge."""


class Agent(Protocol):
    """The daemon as one plugin sees it.

    ``name``: the node's. ``state_dir``: a folder of the plugin's own, made for it. ``stopping``: set when the
    daemon goes down; waits in a plugin should wait on it.
    """

    name: str
    state_dir: Path
    metrics: Metrics
    stopping: threading.Event

    def outbox(self, stream: str) -> Outbox:
        """The plugin's durable queue of that name."""

    def command(self, name: str, payload: Mapping[str, Any]) -> Future[dict[str, Any]]:
        """Ask the owner of a command; completes on the owner's thread.

        The Future fails with PluginError when nobody owns the name or its owner is set aside, and with
        ConfigError when the payload does not fit.
        """

    def trouble(self, reason: str) -> None:
        """Say in ``health`` that the plugin runs, but not as it should, and why; an empty reason takes it back.

        For what is no exception of a hook: a full disk, a receiver that is away. Any thread; returns at once.
        """

    def zones(self, camera: str) -> Zones:
        """The zones that are configured for a camera."""

    def latest_frame(self, camera: str) -> Frame | None:
        """The newest picture of a camera, None when there is none. Charged to the plugin's frame budget."""
