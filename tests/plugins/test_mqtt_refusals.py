"""What a broker refuses and what is refused to it: credentials, subscriptions, events by access list, giant packets."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.publish as publish
import pytest
from amqtt_broker import amqtt_broker
from broker import Mosquitto, Subscriber
from paho.mqtt.client import MQTTv5
from waiting import wait_until

from agent import PluginError
from agent.testing import PluginHarness, make_event
from plugins.mqtt import Mqtt
from plugins.mqtt.config import MqttConfig
from plugins.mqtt.connection import LARGEST_RECEIVED, Message
from plugins.mqtt.link import Link
from plugins.mqtt.security import read_password

WILL = Message("e/n/status", b"offline", 1, True)


def harness(port: int, folder: Path, **keys: object) -> PluginHarness:
    return PluginHarness(Mqtt, {"host": "127.0.0.1", "port": port, **keys}, state_dir=folder)


def test_user_name_and_password_come_from_systemds_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "mqtt.user").write_text("eve\n", encoding="utf-8")
    (tmp_path / "mqtt.password").write_text("right-horse\n", encoding="utf-8")
    keys = {"username_file": "credential:mqtt.user", "password_file": "credential:mqtt.password"}
    with (
        Mosquitto(tmp_path / "broker", passwords={"eve": "right-horse"}) as broker,
        harness(broker.port, tmp_path / "state", **keys) as node,
    ):
        node.send(make_event())
        assert "u'eve'" in broker.log


@pytest.mark.parametrize("name", ["credential:mqtt.password", "credential:../etc/shadow"])
def test_a_credential_that_nobody_passed_on_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(PluginError, match="add LoadCredential="):
        read_password(name)


def test_events_that_an_access_list_rejects_wait_by_name_and_arrive_once_it_is_mended(tmp_path: Path) -> None:
    rules = tmp_path / "acl"
    rules.write_text("topic write edgewarden/node/status\ntopic read #\n", encoding="utf-8")
    with (
        Mosquitto(tmp_path / "broker", extra=[f"acl_file {rules}"]) as broker,
        Subscriber(broker.port, "edgewarden/node/camera/cam/events") as subscriber,
        harness(broker.port, tmp_path / "state") as node,
    ):
        events = [make_event() for _ in range(20)]
        for event in events:
            node.offer(event)
        node.wait_until(lambda: "rejected a message on edgewarden/node/camera/cam/events" in node.health.reason)
        assert subscriber.messages == []
        rules.write_text("topic readwrite #\n", encoding="utf-8")
        os.kill(broker.pid, signal.SIGHUP)
        subscriber.wait_for(20, timeout=40)
    assert [json.loads(one.payload)["id"] for one in subscriber.messages][:20] == [event.id for event in events]


def test_a_packet_of_any_size_stays_with_the_broker_and_the_next_command_is_answered(tmp_path: Path) -> None:
    with (
        Mosquitto(tmp_path / "broker") as broker,
        Subscriber(broker.port, "edgewarden/node/command/+/result") as subscriber,
        harness(broker.port, tmp_path / "state", commands=True) as node,
    ):
        node.provide("ping", lambda _: {"at": 1.0})
        node.send(make_event())
        giant = b'{"id": "a", "x": "' + b"y" * LARGEST_RECEIVED + b'"}'
        for payload in (giant, giant[:10_000], b'{"id": "b"}'):
            topic = "edgewarden/node/command/ping"
            publish.single(topic, payload, qos=1, hostname="127.0.0.1", port=broker.port, protocol=MQTTv5)
        subscriber.wait_for(2)
    answers = [json.loads(one.payload) for one in subscriber.messages]
    assert answers == [
        {"id": None, "ok": False, "error": "larger than 4096 bytes"},
        {"at": 1.0, "id": "b", "ok": True},
    ]


@pytest.fixture
def taboo_broker() -> Iterator[int]:
    """amqtt, which lets nobody subscribe to ``prohibited`` (mosquitto's access list lets everybody subscribe)."""
    with amqtt_broker({"amqtt.plugins.topic_checking.TopicTabooPlugin": {}}) as port:
        yield port


def test_a_refused_subscription_is_named_and_the_link_stays(
    taboo_broker: int, caplog: pytest.LogCaptureFixture
) -> None:
    counted: list[str] = []
    config = MqttConfig(host="127.0.0.1", port=taboo_broker, protocol="3.1.1")
    link = Link(config, "n", WILL, list, counted.append)
    link.subscribe("prohibited", lambda _: None)
    link.start()
    wait_until(lambda: "refused a subscription" in caplog.text, what="the refusal is told")
    assert "subscriptions_refused" in counted
    link.deliver(Message("e/n/x", b"1", 1)).result(10)
    link.close(WILL, 1.0)
