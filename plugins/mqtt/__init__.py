"""The MQTT plugin: what the node sees, and how it is, told to a broker. The hooks stand here; the rest loads late."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from agent import hookimpl
from plugins.mqtt.config import MqttConfig, PublishArgs, SnapshotArgs

if TYPE_CHECKING:
    from concurrent.futures import Future

    from agent import Agent, Detections, Event, Frame, Health
    from plugins.mqtt.publisher import Publisher


class Mqtt:
    """Publishes events, detections, pictures, health and states under ``<base>/<node>``."""

    Config = MqttConfig
    durable = True
    _publisher: Publisher | None = None

    @hookimpl
    def register_commands(self, register: Callable[[str, type, Callable[[Any], dict[str, Any]]], None]) -> None:
        register("mqtt.publish", PublishArgs, self._publish)
        register("snapshot", SnapshotArgs, lambda args: self._open().snapshot(args))

    @hookimpl
    def startup(self, agent: Agent, config: MqttConfig) -> None:
        from plugins.mqtt.publisher import Publisher

        self._close()
        self._publisher = Publisher(agent, config)
        self._publisher.start()

    @hookimpl
    def shutdown(self, agent: Agent) -> None:
        self._close()

    @hookimpl
    def on_event(self, event: Event, frame: Frame | None) -> Future[None]:
        return self._open().event(event, frame)

    @hookimpl
    def on_detections(self, detections: Detections, frame: Frame | None) -> None:
        self._open().detections(detections)

    @hookimpl
    def on_health(self, health: Health) -> None:
        self._open().health(health)

    def _publish(self, args: PublishArgs) -> dict[str, Any]:
        return self._open().publish(args)

    def _open(self) -> Publisher:
        if self._publisher is None:
            from agent import PluginError

            raise PluginError("mqtt: not started")
        return self._publisher

    def _close(self) -> None:
        publisher, self._publisher = self._publisher, None
        if publisher is not None:
            publisher.close()
