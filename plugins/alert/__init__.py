"""The alert plugin: rules that turn events into alerts, told to a log and to people. Only the hooks stand here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent import hookimpl
from plugins.alert.config import AlertConfig

if TYPE_CHECKING:
    from concurrent.futures import Future

    from agent import Agent, Event, Frame, Health
    from plugins.alert.desk import Desk


class Alert:
    """Raises an alert when an event matches a rule, resolves it when the event ends."""

    Config = AlertConfig
    durable = True
    _desk: Desk | None = None

    @hookimpl
    def startup(self, agent: Agent, config: AlertConfig) -> None:
        from plugins.alert.desk import Desk

        self._close()
        self._desk = Desk(agent, config)
        self._desk.start()

    @hookimpl
    def shutdown(self, agent: Agent) -> None:
        self._close()

    @hookimpl
    def on_event(self, event: Event, frame: Frame | None) -> Future[None] | None:
        if self._desk is None:
            from agent import PluginError

            raise PluginError("alert: not started")
        return self._desk.event(event, frame)

    @hookimpl
    def on_health(self, health: Health) -> None:
        if self._desk is not None:
            self._desk.health(health)

    def _close(self) -> None:
        desk, self._desk = self._desk, None
        if desk is not None:
            desk.close()
