"""The storm's subscriber: what arrived, when, in which order. Its session outlives the broker.

QoS 1 is a promise from hop to hop, and what a killed broker had not delivered yet would be the broker's loss. So this
subscriber takes nothing into account that the agent does not answer for: it sits beside the broker, the broker writes
a message to it before it acknowledges it to the agent, and shortly before the broker is killed it stops to acknowledge,
so that nothing is written to a socket that breaks while there is still something to be read from it.
"""

from __future__ import annotations

import threading
import time
from typing import Any, NamedTuple

import msgspec
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties


class Seen(msgspec.Struct):
    """What is read of an event."""

    camera: str
    id: str
    seq: int
    captured_at: float
    late: bool = False


class Arrival(NamedTuple):
    """One message. ``at``: monotonic seconds; ``again``: the broker said that it may have delivered it before."""

    at: float
    seen: Seen
    again: bool

    @property
    def key(self) -> tuple[str, int]:
        """By which doubles are told."""
        return self.seen.id, self.seen.seq


class Watch:
    """Arrivals and states by the first level of the topic: ``edgewarden`` or ``paho``."""

    def __init__(self, port: int) -> None:
        self.arrivals: dict[str, list[Arrival]] = {"edgewarden": [], "paho": []}
        self.states: list[tuple[float, str]] = []
        self.faults: list[str] = []
        self._decoder = msgspec.json.Decoder(Seen)
        self._holding = False
        self._ready = threading.Event()
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id="storm-watch", protocol=MQTTProtocolVersion.MQTTv5, manual_ack=True
        )
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = self._on_message
        self._client.reconnect_delay_set(1, 1)
        session = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        session.SessionExpiryInterval = 3600
        self._client.connect("127.0.0.1", port, 60, clean_start=False, properties=session)
        self._client.loop_start()
        if not self._ready.wait(20):
            raise RuntimeError("the subscriber found no broker")

    def hold(self) -> None:
        """Acknowledge nothing until the next connection."""
        self._holding = True

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(self, client: paho.Client, _data: Any, flags: Any, reason: Any, _properties: Any) -> None:
        self._holding = False
        if reason.is_failure:
            self.faults.append(str(reason))
        elif not flags.session_present:
            if self._ready.is_set():
                self.faults.append("the broker forgot the subscriber's session")
            client.subscribe([("+/storm/camera/+/events", 1), ("edgewarden/storm/status", 1)])

    def _on_message(self, client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        now = time.monotonic()
        if message.topic.endswith("/status"):
            self.states.append((now, message.payload.decode()))
        else:
            arrival = Arrival(now, self._decoder.decode(message.payload), message.dup)
            self.arrivals[message.topic.partition("/")[0]].append(arrival)
        if not self._holding:
            client.ack(message.mid, message.qos)
