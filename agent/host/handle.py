"""What a plugin's ``startup`` gets as ``agent``: the façade of facade.py, for one plugin."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from agent.data import Frame
from agent.errors import LONGEST_MESSAGE
from agent.host.facade import Outbox, Zones
from agent.host.log import EventLog
from agent.host.outbox import LogOutbox
from agent.host.pixels import PixelBudget


class Counters:
    """Counters and gauges of one plugin. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[str, float] = {}

    def count(self, name: str, by: float = 1) -> None:
        """Add to a counter."""
        with self._lock:
            self._values[name] = self._values.get(name, 0) + by

    def gauge(self, name: str, value: float) -> None:
        """Set a gauge."""
        with self._lock:
            self._values[name] = value

    def snapshot(self) -> dict[str, float]:
        """All of them."""
        with self._lock:
            return dict(self._values)


class Handle:
    """See ``agent.host.facade.Agent``."""

    def __init__(
        self,
        *,
        node: str,
        plugin: str,
        state_dir: Path,
        events: EventLog,
        stopping: threading.Event,
        budget: PixelBudget,
        latest_frame: Callable[[str], Frame | None],
        zones: Callable[[str], Zones],
        command: Callable[[str, Mapping[str, Any]], Future[dict[str, Any]]],
    ) -> None:
        self.name = node
        self.metrics = Counters()
        self.stopping = stopping
        self.command = command
        self._plugin = plugin
        self._state_dir = state_dir
        self._log = events
        self._budget = budget
        self._latest_frame = latest_frame
        self.zones = zones
        self._lock = threading.Lock()
        self._outboxes: dict[str, LogOutbox] = {}
        self.troubled = ""

    def trouble(self, reason: str) -> None:
        """See ``Agent``; ``troubled`` holds the reason, in one line of bounded length."""
        self.troubled = " ".join(str(reason).split())[:LONGEST_MESSAGE]

    @property
    def state_dir(self) -> Path:
        """A folder of the plugin's own, made when first asked for."""
        self._state_dir.mkdir(parents=True, exist_ok=True)
        return self._state_dir

    def outbox(self, stream: str) -> Outbox:
        """The plugin's durable queue of that name; the same object each time."""
        with self._lock:
            if stream not in self._outboxes:
                self._outboxes[stream] = LogOutbox(f"{self._plugin}/{stream}", self._log, self.stopping)
            return self._outboxes[stream]

    def close(self) -> None:
        """The plugin is gone, and what was made for it."""
        with self._lock:
            outboxes, self._outboxes = self._outboxes, {}
        for outbox in outboxes.values():
            outbox.close()

    def latest_frame(self, camera: str) -> Frame | None:
        """The newest picture of a camera, charged to the plugin's budget."""
        return self._budget.lend(self._latest_frame(camera))
