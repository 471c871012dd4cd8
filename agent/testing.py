"""For the tests of plugins: made-up events, frames and detections, and a harness that runs one as the agent does."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from agent.data import Detections, Event, Frame, Health, PluginHealth
from agent.host.facade import Zones
from agent.host.log import EventLog
from agent.host.manager import Host

NODE = "node"
DEADLINE = 10.0


def make_event(**changes: Any) -> Event:
    """An event: a person at camera ``cam``, its start, unless ``changes`` say otherwise."""
    now = time.time()
    values: dict[str, Any] = {
        "node": NODE,
        "id": str(uuid.uuid4()),
        "seq": 0,
        "kind": "start",
        "camera": "cam",
        "track": 1,
        "label": "person",
        "score": 0.8,
        "top_score": 0.8,
        "box": (8.0, 8.0, 32.0, 40.0),
        "best_box": (8.0, 8.0, 32.0, 40.0),
        "size": (64, 48),
        "started_at": now,
        "updated_at": now,
        "captured_at": now,
        "frame_age_ms": 12.5,
    }
    return Event(**{**values, **changes})


def make_frame(width: int = 64, height: int = 48, camera: str = "cam", seq: int = 0, seed: int = 0) -> Frame:
    """A frame of noise, read-only as a camera's."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    pixels.flags.writeable = False
    return Frame(camera, seq, pixels.view(), time.time(), time.monotonic())


def make_detections(labels: tuple[str, ...] = ("person",), camera: str = "cam", seq: int = 0) -> Detections:
    """Detections of these labels, side by side, with descending scores."""
    count = len(labels)
    left = np.arange(count, dtype=np.float32) * 10
    return Detections(
        camera=camera,
        seq=seq,
        captured_at=time.time(),
        boxes=np.stack([left, left, left + 8, left + 16], axis=1).astype(np.float32),
        scores=np.linspace(0.9, 0.5, count, dtype=np.float32),
        class_ids=np.arange(count, dtype=np.int32),
        labels=labels,
        size=(64, 48),
        precision="fp32",
        latency_ms=5.0,
    )


class PluginHarness:
    """Runs one plugin in a real host over a real event log, on its own thread; a context manager.

    ``config`` is its table. Methods that wait raise AssertionError after ``DEADLINE`` seconds, with the plugin's state.
    """

    def __init__(
        self, plugin: Any, config: Mapping[str, Any] | None = None, *, state_dir: Path, name: str = ""
    ) -> None:
        self.name = name or getattr(plugin, "__name__", "plugin").lower()
        self._class = plugin
        self._config = dict(config or {})
        self._state_dir = state_dir
        self._provided: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {}
        self.frames: dict[str, Frame] = {}
        self.zones: dict[str, Zones] = {}

    def __enter__(self) -> PluginHarness:
        self._begin()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    def provide(self, command: str, handler: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Own a command that the plugin calls; ``handler`` gets its arguments. Before or after the start."""
        self._provided[command] = handler

    def offer(self, event: Event, frame: Frame | None = None) -> None:
        """Hand over an event as the pipeline does; returns at once."""
        self.host.offer_events([(event, frame)])

    def send(self, event: Event, frame: Frame | None = None) -> None:
        """Hand over an event and wait until the plugin has dealt with it."""
        before = self.health
        self.offer(event, frame)
        self.wait_until(
            lambda: self.health.handled > before.handled or self.health.failed > before.failed,
            "the event was dealt with",
        )
        after = self.health
        assert after.handled > before.handled, f"on_event failed: {after.reason}"

    def detections(self, detections: Detections | None = None, frame: Frame | None = None) -> None:
        """Hand over detections and wait until the plugin is idle."""
        self.host.offer_detections(detections or make_detections(), frame or make_frame())
        self.settle()

    def health_tick(self, health: Health | None = None) -> None:
        """Hand over a health and wait until the plugin is idle."""
        self.host.offer_health(health or Health(node=NODE, at=time.time()))
        self.settle()

    def command(self, name: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Call a command of the plugin's and wait for its answer."""
        return self.host.command(name, payload).result(DEADLINE)

    def settle(self) -> None:
        """Wait until nothing is ahead of the plugin."""
        self.wait_until(lambda: self.host.drain(0.0), "the plugin was idle")

    def wait_until(self, condition: Callable[[], object], what: str = "it happened") -> None:
        """Wait for a condition, with a deadline."""
        deadline = time.monotonic() + DEADLINE
        pause = threading.Event()
        while not condition():
            assert time.monotonic() < deadline, f"not within {DEADLINE:g} s that {what}: {self.health}"
            self.host.check(time.monotonic())
            pause.wait(0.005)

    def restart(self) -> None:
        """Stop and start again on the same state, as a daemon does."""
        self.stop()
        self._begin()

    def stop(self) -> None:
        """Run ``shutdown``, close the log."""
        self.host.stop(DEADLINE)
        self.log.close()

    @property
    def health(self) -> PluginHealth:
        """The plugin's state and counts."""
        return self.host.statuses()[self.name]

    @property
    def metrics(self) -> dict[str, float]:
        """The plugin's counters and gauges."""
        return self.host.metrics().get(self.name, {})

    def _begin(self) -> None:
        self.log = EventLog(self._state_dir / "events.db")
        self.host = Host(
            node=NODE,
            state_dir=self._state_dir,
            log=self.log,
            tables={self.name: self._config},
            latest_frame=self.frames.get,
            zones=lambda camera: self.zones.get(camera, {}),
            entry_points=[_Entry(self.name, self._make)],
            provided=self._provided,
        )
        self.host.load()
        self.host.start()
        self.wait_until(lambda: self.health.state != "starting", "startup returned")

    def _make(self) -> Any:
        self.plugin = self._class()
        return self.plugin


class _Entry:
    def __init__(self, name: str, load: Callable[[], Any]) -> None:
        self.name = name
        self.load = load
