"""The sinks of a configuration, by name: each a call that delivers one alert, or raises."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path
from typing import Any

import msgspec

from agent import PluginError, to_json
from plugins.alert.config import AlertConfig, CommandSink
from plugins.alert.message import AlertMessage
from plugins.alert.notifier import Notifier
from plugins.alert.webhook import Poster

COMMAND_TIMEOUT = 10.0
TOPIC = "alerts"

Deliver = Callable[[AlertMessage], None]
Ask = Callable[[str, Mapping[str, Any]], "Future[dict[str, Any]]"]


def remote_sinks(config: AlertConfig, ask: Ask, picture: Callable[[AlertMessage], Path | None]) -> dict[str, Deliver]:
    """All but the log. ``ask``: the agent's ``command``, by which the mqtt plugin is asked to publish. ``picture``: the
    file that goes with an alert."""
    sinks: dict[str, Deliver] = {"mqtt": Publication(ask)} if config.mqtt else {}
    sinks |= {command.name: Order(command, ask) for command in config.command}
    sinks |= {webhook.name: Poster(webhook, picture) for webhook in config.webhooks()}
    return sinks | {apprise.name: Notifier(apprise, picture) for apprise in config.apprises()}


class Order:
    """To another plugin, a siren say: its command is called with ``alert``, and is done when it returned."""

    def __init__(self, sink: CommandSink, ask: Ask) -> None:
        self._sink = sink
        self._ask = ask

    def __call__(self, alert: AlertMessage) -> None:
        try:
            self._ask(self._sink.command, {"alert": msgspec.to_builtins(alert)}).result(self._sink.timeout)
        except FutureTimeout:
            raise PluginError(f"{self._sink.command} did not answer in {self._sink.timeout:g} s") from None


class Publication:
    """On the topic ``alerts``, by the command ``mqtt.publish``, whoever owns it."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def __call__(self, alert: AlertMessage) -> None:
        args = {"topic": TOPIC, "payload": to_json(alert).decode(), "qos": 1, "retain": False}
        try:
            self._ask("mqtt.publish", args).result(COMMAND_TIMEOUT)
        except FutureTimeout:
            raise PluginError(f"the mqtt plugin did not answer in {COMMAND_TIMEOUT:g} s") from None
