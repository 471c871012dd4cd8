"""One connection to the broker: a paho client for as long as it lasts, never longer.

Every callback becomes a signal handed to ``notify`` on paho's thread; what to make of it, what to send again and
when to connect anew is the link's.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from plugins.mqtt.config import MqttConfig
from plugins.mqtt.security import read_password, read_username, tls_context

CONNECT_TIMEOUT = 3.0
IN_FLIGHT = 100
LARGEST_RECEIVED = 256 << 10
"""Bytes of a packet that a broker of MQTT 5 may send us; it keeps what is larger to itself."""


@dataclass(frozen=True)
class Message:
    """What is published. On MQTT 5 ``about`` becomes user properties, ``content_type`` stands beside it, and a broker
    forgets it after ``expiry`` seconds (0: never)."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    content_type: str = ""
    about: tuple[tuple[str, str], ...] = ()
    expiry: int = 0


@dataclass(frozen=True)
class Up:
    """The broker accepted.

    ``window``: how many unacknowledged messages it takes. ``max_packet``: its largest packet in bytes, 0 for any.
    """

    window: int
    max_packet: int


@dataclass(frozen=True)
class Refused:
    """The broker said no, in its own words."""

    reason: str


@dataclass(frozen=True)
class Down:
    """The connection is gone. ``reason`` is the broker's, when it said one."""

    reason: str


@dataclass(frozen=True)
class Sent:
    """QoS 0: written to the socket; QoS 1: acknowledged, or rejected for ``failure``."""

    mid: int
    failure: str


@dataclass(frozen=True)
class Received:
    """Something came on a topic that was subscribed to."""

    topic: str
    payload: bytes
    retained: bool = False


@dataclass(frozen=True)
class Unheard:
    """A subscription was refused for ``reason``."""

    reason: str


Signal = Up | Refused | Down | Sent | Received | Unheard


class Connection:
    """Opens once, carries messages, closes. ``send`` is safe from any thread but paho's."""

    def __init__(
        self,
        config: MqttConfig,
        version: int,
        client_id: str,
        will: Message,
        notify: Callable[[Connection, Signal], None],
    ) -> None:
        self.version = version
        self._config = config
        self._notify = notify
        # A clean start each time: what is unacknowledged lives in the link and is published again from there.
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=MQTTProtocolVersion(version),
            reconnect_on_failure=False,
        )
        self._client.connect_timeout = CONNECT_TIMEOUT
        self._client.max_inflight_messages_set(0)  # any number: the link keeps the window that the broker names
        self._client.will_set(will.topic, will.payload, will.qos, will.retain)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_publish = self._on_publish
        self._client.on_message = self._on_message
        self._client.on_subscribe = self._on_subscribe

    def open(self) -> None:
        """Connect the socket and send CONNECT. OSError when nobody answers, PluginError for our own files."""
        config = self._config
        username = read_username(config)
        if username:
            password = read_password(config.password_file) if config.password_file else None
            self._client.username_pw_set(username, password)
        if config.tls is not None:
            self._client.tls_set_context(tls_context(config.tls))
        self._client.connect(config.host, config.port, config.keepalive, properties=self._demands())
        self._client.loop_start()

    def send(self, message: Message) -> int | None:
        """Publish; the number by which ``Sent`` will name it, None when the connection is already gone."""
        info = self._client.publish(
            message.topic, message.payload, message.qos, message.retain, self._properties(message)
        )
        return info.mid if info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS else None

    def subscribe(self, topic: str) -> None:
        """Ask for a topic with QoS 1, for as long as the connection lasts."""
        self._client.subscribe(topic, 1)

    def disconnect(self) -> None:
        """Say goodbye; ``Down`` follows once it is said."""
        self._client.disconnect()

    def abort(self) -> None:
        """Drop the socket; paho's thread ends by itself. The broker publishes the will."""
        sock = self._client.socket()
        if isinstance(sock, socket.socket):
            try:
                socket.socket.shutdown(sock, socket.SHUT_RDWR)  # not SSLSocket's, which paho's thread still reads
            except OSError:
                return  # closed already, which is what was wanted

    def _demands(self) -> Properties | None:
        """What we ask of the broker: nothing of any size, from whomever."""
        if self.version != 5:
            return None
        demands = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        demands.MaximumPacketSize = LARGEST_RECEIVED
        return demands

    def _properties(self, message: Message) -> Properties | None:
        if self.version != 5 or not (message.content_type or message.about or message.expiry):
            return None
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        if message.content_type:
            properties.ContentType = message.content_type
            properties.PayloadFormatIndicator = int(message.content_type == "application/json")
        if message.expiry:
            properties.MessageExpiryInterval = message.expiry
        if message.about:
            properties.UserProperty = list(message.about)
        return properties

    def _on_connect(self, _client: Any, _data: Any, _flags: Any, reason: ReasonCode, properties: Any) -> None:
        if reason.is_failure:
            self._notify(self, Refused(str(reason)))
            return
        window = min(IN_FLIGHT, getattr(properties, "ReceiveMaximum", IN_FLIGHT))
        self._notify(self, Up(window, getattr(properties, "MaximumPacketSize", 0)))

    def _on_disconnect(self, _client: Any, _data: Any, flags: Any, reason: ReasonCode, _properties: Any) -> None:
        self._notify(self, Down(str(reason) if flags.is_disconnect_packet_from_server else ""))

    def _on_publish(self, _client: Any, _data: Any, mid: int, reason: ReasonCode, _properties: Any) -> None:
        self._notify(self, Sent(mid, str(reason) if reason.is_failure else ""))

    def _on_subscribe(self, _client: Any, _data: Any, _mid: int, reasons: list[ReasonCode], _properties: Any) -> None:
        for reason in reasons:
            if reason.is_failure:
                self._notify(self, Unheard(str(reason)))

    def _on_message(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        self._notify(self, Received(message.topic, bytes(message.payload), bool(message.retain)))
