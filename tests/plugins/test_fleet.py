"""A fleet: two real brokers, bridged as docs/fleet.md says, an agent at the edge, everyone else at the centre."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from broker import Mosquitto, Subscriber
from conftest import REPOSITORY
from waiting import wait_until

from agent import Event
from agent.testing import NODE, PluginHarness, make_event
from plugins.mqtt import Mqtt

ROOT = f"edgewarden/{NODE}"
EVENTS = f"{ROOT}/camera/+/events"


def _documented_bridge(port: int) -> list[str]:
    """The bridge of docs/fleet.md, to a central broker on this machine without TLS and passwords."""
    text = (REPOSITORY / "docs" / "fleet.md").read_text(encoding="utf-8")
    block = re.search(r"```conf\n(# .*edge.*?)```", text, re.DOTALL)
    assert block
    wanted = block.group(1).replace("central.example.com:8883", f"127.0.0.1:{port}")
    left_out = ("#", "listener", "allow_anonymous", "persistence", "remote_", "bridge_cafile", "max_queued_messages")
    return [line for line in wanted.splitlines() if line and not line.startswith(left_out)]


@pytest.fixture
def central(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "central") as broker:
        yield broker


@pytest.fixture
def edge(tmp_path: Path, central: Mosquitto) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "edge", extra=_documented_bridge(central.port)) as broker:
        yield broker


def _agent(port: int, tmp_path: Path) -> PluginHarness:
    return PluginHarness(Mqtt, {"host": "127.0.0.1", "port": port}, state_dir=tmp_path / "state")


def _keys(subscriber: Subscriber) -> list[tuple[str, int]]:
    told = [msgspec.json.decode(message.payload, type=Event) for message in subscriber.on(EVENTS)]
    return [(event.id, event.seq) for event in told]


def _has(subscriber: Subscriber, events: list[Event], timeout: float = 30) -> None:
    wanted = {(event.id, event.seq) for event in events}
    subscriber.wait_until(lambda: set(_keys(subscriber)) >= wanted, timeout, "every event arrives at the centre")


def _bridged(edge: Mosquitto, central: Mosquitto) -> None:
    """Return once the central broker knows the bridge; what is published from then on is kept for it."""
    with Subscriber(central.port, "edgewarden-bridge/#") as watcher:
        watcher.wait_until(lambda: any(m.payload == b"1" for m in watcher.messages), 30, "the bridge is up")


def test_the_status_of_every_node_is_seen_at_the_centre(edge: Mosquitto, central: Mosquitto, tmp_path: Path) -> None:
    _bridged(edge, central)
    with Subscriber(central.port, "edgewarden/+/status") as fleet:
        with _agent(edge.port, tmp_path):
            fleet.wait_until(lambda: [m.payload for m in fleet.messages][-1:] == [b"online"], 20, "online")
        fleet.wait_until(lambda: [m.payload for m in fleet.messages][-1:] == [b"offline"], 20, "offline")
    with Subscriber(central.port, "edgewarden/+/status") as late:
        (kept,) = late.wait_for(1)
    assert (kept.topic, kept.payload, kept.retain) == (f"{ROOT}/status", b"offline", True)


def test_no_event_is_lost_while_the_central_broker_is_away(edge: Mosquitto, central: Mosquitto, tmp_path: Path) -> None:
    _bridged(edge, central)
    events = [make_event(seq=seq, id=f"event-{seq // 3}") for seq in range(1500)]
    with Subscriber(central.port, EVENTS) as centre, _agent(edge.port, tmp_path) as agent:
        for event in events[:100]:
            agent.offer(event)
        _has(centre, events[:100])
        central.stop()
        for event in events[100:]:
            agent.offer(event)
        agent.wait_until(lambda: agent.health.handled == len(events), "the broker at the edge has them all")
        edge.stop()
        edge.start()
        central.start()
        _has(centre, events)
        assert [*dict.fromkeys(_keys(centre))] == [(event.id, event.seq) for event in events]


def test_a_command_goes_down_the_bridge_and_does_not_come_back(
    edge: Mosquitto, central: Mosquitto, tmp_path: Path
) -> None:
    _bridged(edge, central)
    topic = f"{ROOT}/command/ping"
    with Subscriber(edge.port, topic) as node, Subscriber(central.port, topic) as centre:
        wait_until(lambda: "SUBSCRIBE" in edge.log)
        centre._client.publish(topic, b'{"id": "1"}', qos=1).wait_for_publish(10)
        (message,) = node.wait_for(1)
        assert (message.payload, message.qos) == (b'{"id": "1"}', 1)
        centre._client.publish(topic, b'{"id": "2"}', qos=1).wait_for_publish(10)
        node.wait_for(2)
        assert [m.payload for m in centre.messages] == [b'{"id": "1"}', b'{"id": "2"}']


def test_consumers_that_share_a_subscription_get_each_event_once_between_them(
    central: Mosquitto, tmp_path: Path
) -> None:
    topic = "$share/store/edgewarden/+/camera/+/events"
    events = [make_event(seq=seq) for seq in range(60)]
    with (
        Subscriber(central.port, topic) as one,
        Subscriber(central.port, topic) as other,
        _agent(central.port, tmp_path) as agent,
    ):
        for event in events:
            agent.offer(event)
        wait_until(lambda: len(one.messages) + len(other.messages) >= len(events), 20)
        assert sorted(_keys(one) + _keys(other)) == sorted((event.id, event.seq) for event in events)
        assert one.messages
        assert other.messages
