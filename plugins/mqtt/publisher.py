"""What the hooks hand over, as messages: which topic, which quality of service, retained or not.

The table stands in README.md. How messages reach the broker is the link's; when one is due, the streams'.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any

from agent import Agent, Detections, Event, Frame, Health, PluginError, to_json
from plugins.mqtt.commands import Commands
from plugins.mqtt.config import MqttConfig, PublishArgs, SnapshotArgs
from plugins.mqtt.connection import Message, Received
from plugins.mqtt.discovery import Discovery, Withdrawal
from plugins.mqtt.homeassistant import BIRTH_TOPIC
from plugins.mqtt.link import Link
from plugins.mqtt.security import warn_if_exposed
from plugins.mqtt.streams import BestPictures, NewestOnly, States
from plugins.mqtt.topics import Topics, escape

JSON = "application/json"
CLOSE_TIMEOUT = 2.0
COMMAND_TIMEOUT = 2.0
HEALTH_LASTS = 6
"""Intervals after which a broker forgets a health that no other followed."""
NEWS_LASTS = 60
"""Seconds after which detections and answers are nobody's business any more."""
QUALITY_STEPS = (1.0, 0.75, 0.5, 0.3)


class Publisher:
    """Everything the plugin does between startup and shutdown; called on the plugin's thread."""

    def __init__(self, agent: Agent, config: MqttConfig) -> None:
        self._config = config
        self._metrics = agent.metrics
        self._topics = Topics(config.base, agent.name)
        self._lock = threading.Lock()
        self._states = States(config.health_interval)
        self._detections: NewestOnly[Detections] = NewestOnly(config.detections_rate)
        self._pictures = BestPictures()
        self._home = self._home_assistant(agent)
        # A lasting client id: the broker drops our own dead connection, and its will, before it takes the new one.
        client_id = f"edgewarden-{escape(agent.name)}"
        self._latest_frame = agent.latest_frame
        self._commands = Commands(config.allowed, agent.command, self._answer, self._metrics.count)
        self._link = Link(config, client_id, self._status("offline"), self._greeting, self._metrics.count)

    def start(self) -> None:
        """Begin to connect; returns at once."""
        if self._config.password_file:
            warn_if_exposed(self._config.password_file)
        self._home.start(self._link.deliver)
        if self._config.homeassistant:
            self._link.subscribe(BIRTH_TOPIC, self._home_is_born)
        if self._config.allowed:
            self._link.subscribe(self._topics.command("+"), self._commanded)
        if self._config.group_commands:
            self._link.subscribe(f"{self._topics.group}/command/+", self._commanded)
        self._link.start()

    def close(self) -> None:
        """Say ``offline``, wait for acknowledgements for 2 s at most, disconnect."""
        self._link.close(self._status("offline"), CLOSE_TIMEOUT)

    def event(self, event: Event, frame: Frame | None) -> Future[None]:
        """Publish the event; the Future completes at the broker's acknowledgement."""
        topic = self._topics.camera(event.camera, "events")
        acknowledged = self._link.deliver(
            Message(topic, to_json(event), 1, False, JSON, expiry=self._config.event_expiry)
        )
        if self._config.snapshot and frame is not None and self._pictures.is_better(event):
            self._show(event, frame)
        self._tell_all(self._home.event(event, time.time()))
        return acknowledged

    def detections(self, detections: Detections) -> None:
        """Publish them if their camera's turn has come."""
        chosen = self._detections.offer(detections.camera, detections, time.monotonic())
        if chosen is not None:
            self._tell_detections(chosen)

    def health(self, health: Health) -> None:
        """Publish the health when due and every camera state that changed."""
        with self._lock:
            changed = self._states.update(health)
        for name, state in changed.items():
            self._link.tell(self._camera(name, state))
        if self._states.health_due(time.monotonic()):
            self._link.tell(self._health(health))
        for detections in self._detections.due(time.monotonic()):
            self._tell_detections(detections)
        self._tell_all([*self._home.health(health, time.time()), *self._home.due(time.monotonic())])
        self._metrics.gauge("connected", float(self._link.connected))
        self._metrics.gauge("unacknowledged", self._link.waiting)

    def publish(self, args: PublishArgs) -> dict[str, Any]:
        """Another plugin's message. PluginError when it did not arrive in 2 s: ask again, it may come twice."""
        if not self._link.connected:
            raise PluginError("mqtt: not connected to the broker", retry_after=1.0)
        topic = self._topics.relative(args.topic)
        message = Message(topic, args.payload.encode("utf-8", "replace"), args.qos, args.retain, _content(args.payload))
        if args.qos == 0:
            return {"topic": topic, "sent": self._link.tell(message)}
        try:
            self._link.deliver(message).result(COMMAND_TIMEOUT)
        except FutureTimeout:
            reason = f"mqtt: the broker did not acknowledge {topic} in {COMMAND_TIMEOUT:g} s"
            raise PluginError(reason, retry_after=1.0) from None
        return {"topic": topic, "sent": True}

    def snapshot(self, args: SnapshotArgs) -> dict[str, Any]:
        """The newest picture of a camera, on its snapshot topic. PluginError when there is none or it cannot go out."""
        frame = self._latest_frame(args.camera)
        if frame is None:
            raise PluginError(f"camera {args.camera!r}: there is none, or it has no picture yet", retry_after=1.0)
        picture = self._jpeg(frame)
        if picture is None:
            self._metrics.count("snapshots_too_large")
            raise PluginError(f"camera {args.camera!r}: its picture exceeds max_snapshot_bytes at any quality")
        if not self._link.tell(self._picture(args.camera, picture, "", frame.captured_at)):
            raise PluginError("mqtt: not connected to the broker", retry_after=1.0)
        return {"camera": args.camera, "captured_at": frame.captured_at, "bytes": len(picture)}

    def _commanded(self, command: Received) -> None:
        name = command.topic.rpartition("/")[2]
        self._commands.receive(name, command.payload, command.retained, time.monotonic())

    def _answer(self, name: str, payload: bytes) -> None:
        self._link.tell(Message(self._topics.result(name), payload, 1, False, JSON, expiry=NEWS_LASTS))

    def _greeting(self) -> list[Message]:
        """What a broker that accepts us, and may have forgotten everything, needs to know. On the link's thread."""
        with self._lock:
            health, cameras = self._states.health, dict(self._states.cameras)
        states = [self._camera(name, state) for name, state in cameras.items() if state]
        home = self._home.greeting(time.time())
        return [self._status("online"), *states, *([self._health(health)] if health else []), *home]

    def _home_is_born(self, born: Received) -> None:
        """Home Assistant began to listen: tell it what it may have missed. On the link's thread."""
        if born.payload == b"online":
            self._tell_all(self._home.greeting(time.time()))

    def _home_assistant(self, agent: Agent) -> Discovery | Withdrawal:
        if not self._config.homeassistant:
            return Withdrawal(self._topics, agent.state_dir)
        limit = "limit" in self._config.allowed
        return Discovery(agent.name, self._topics, agent.state_dir, commands=limit, now=time.time())

    def _tell_all(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self._link.tell(message)

    def _status(self, state: str) -> Message:
        return Message(self._topics.status, state.encode(), 1, True)

    def _camera(self, name: str, state: str) -> Message:
        return Message(self._topics.camera(name, "status"), state.encode(), 1, True)

    def _health(self, health: Health) -> Message:
        # A node that is gone without a trace leaves no health that looks like news.
        expiry = round(self._config.health_interval * HEALTH_LASTS)
        return Message(self._topics.health, to_json(health), 0, True, JSON, expiry=expiry)

    def _tell_detections(self, detections: Detections) -> None:
        if self._link.connected:
            topic = self._topics.camera(detections.camera, "detections")
            self._link.tell(Message(topic, to_json(detections), 0, False, JSON, expiry=NEWS_LASTS))

    def _show(self, event: Event, frame: Frame) -> None:
        """The picture goes out now or not at all: an old one after an outage would be taken for a new one."""
        if not self._link.connected:
            return
        picture = self._jpeg(frame)
        if picture is None:
            self._metrics.count("snapshots_too_large")
            return
        if self._link.tell(self._picture(event.camera, picture, event.id, frame.captured_at)):
            self._pictures.shown(event)

    def _picture(self, camera: str, picture: bytes, identity: str, captured_at: float) -> Message:
        about = (("id", identity), ("captured_at", f"{captured_at:.3f}"))
        return Message(self._topics.camera(camera, "snapshot"), picture, 0, True, "image/jpeg", about)

    def _jpeg(self, frame: Frame) -> bytes | None:
        """The picture at the best quality that fits the bytes allowed; None when none does."""
        for step in QUALITY_STEPS:
            picture = frame.jpeg(max(10, round(self._config.snapshot_quality * step)))
            if len(picture) <= self._config.max_snapshot_bytes:
                return picture
        return None


def _content(payload: str) -> str:
    return JSON if payload[:1] in ("{", "[") else ""
