"""The alert plugin in a real host, with a real HTTP server that fails and heals: what was raised arrives."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from broker import Mosquitto, Subscriber
from receiver import Receiver, receiving
from waiting import wait_until

from agent import Health, PluginError
from agent.host.log import EventLog
from agent.host.manager import Host
from agent.testing import PluginHarness, make_event
from plugins.alert import Alert
from plugins.mqtt import Mqtt

HEALTH = Health(node="gate", at=0.0)
RULE = {"name": "people", "labels": ["person"], "cooldown": 0, "group": 0, "rate": 1000}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as server:
        yield server


def _harness(tmp_path: Path, **keys: Any) -> PluginHarness:
    return PluginHarness(Alert, {"rule": [RULE], "mqtt": False, **keys}, state_dir=tmp_path / "state")


def _webhook(tmp_path: Path, receiver: Receiver, **keys: Any) -> PluginHarness:
    return _harness(tmp_path, webhook={"url": receiver.url, **keys})


def test_an_alert_is_posted_when_raised_and_when_resolved(tmp_path: Path, receiver: Receiver) -> None:
    event = make_event(seq=2)
    token = tmp_path / "token"
    token.write_text("horse\n", encoding="utf-8")
    with _webhook(tmp_path, receiver, headers={"X-From": "edge"}, token_file=str(token)) as harness:
        harness.send(event)
        harness.send(make_event(label="cat"))
        harness.send(msgspec.structs.replace(event, kind="end", seq=3))
        assert receiver.told == [(event.id, "raised"), (event.id, "resolved")]
    raised = receiver.taken[0]
    wanted = {"v": 1, "node": event.node, "rule": "people", "camera": "cam", "label": "person", "score": 0.8, "seq": 2}
    assert {key: raised[key] for key in wanted} == wanted
    assert raised["started_at"] == event.started_at
    assert raised["late"] is False
    headers = receiver.headers[0]
    assert (headers["Content-Type"], headers["X-From"]) == ("application/json", "edge")
    assert headers["Authorization"] == "Bearer horse"


def test_alerts_wait_while_the_receiver_fails_and_arrive_in_order_when_it_heals(
    tmp_path: Path, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "plugins.alert")
    receiver.status = 500
    events = [make_event(id=f"e{n}") for n in range(5)]
    with _webhook(tmp_path, receiver) as harness:
        for event in events:
            harness.send(event)
        wait_until(lambda: receiver.tries >= 3)
        receiver.status = 200
        wait_until(lambda: len(receiver.taken) == 5)
    assert receiver.told == [(event.id, "raised") for event in events]
    failures = [record.getMessage() for record in caplog.records if "fails" in record.getMessage()]
    assert len(failures) == 1
    assert "answered 500 Internal Server Error" in failures[0]
    assert "works again" in caplog.text
    assert "secret-key" not in caplog.text


def test_alerts_that_wait_survive_a_restart_and_then_say_late(tmp_path: Path, receiver: Receiver) -> None:
    receiver.status = 503
    event = make_event()
    with _webhook(tmp_path, receiver) as harness:
        harness.send(event)
        wait_until(lambda: receiver.tries >= 1)
    receiver.status = 200
    with _webhook(tmp_path, receiver) as harness:
        wait_until(lambda: receiver.taken)
        harness.send(msgspec.structs.replace(event, kind="end", seq=1))
    assert receiver.told == [(event.id, "raised"), (event.id, "resolved")]
    assert [alert["late"] for alert in receiver.taken] == [True, False]


def test_a_cooldown_outlives_a_restart(tmp_path: Path, receiver: Receiver) -> None:
    table = {"rule": [{"name": "r", "cooldown": 1000, "group": 0}], "mqtt": False, "webhook": {"url": receiver.url}}
    with PluginHarness(Alert, table, state_dir=tmp_path) as harness:
        first = make_event()
        harness.send(first)
        harness.restart()
        harness.send(make_event())
        harness.send(make_event(camera="gate"))
        harness.send(msgspec.structs.replace(first, kind="end"))
    assert [(alert["camera"], alert["state"]) for alert in receiver.taken] == [
        ("cam", "raised"),
        ("gate", "raised"),
        ("cam", "resolved"),
    ]


def test_a_redirect_is_not_followed_and_is_named(
    tmp_path: Path, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.status, receiver.elsewhere = 302, "file:///etc/passwd"
    with _webhook(tmp_path, receiver) as harness:
        harness.send(make_event())
        wait_until(lambda: "redirect" in caplog.text)
        receiver.elsewhere = receiver.url
        wait_until(lambda: receiver.tries >= 3)
    assert receiver.tries < 1000
    assert receiver.taken == []


def test_a_receiver_that_is_not_there_costs_no_event(
    tmp_path: Path, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    with _harness(tmp_path, webhook={"url": "http://127.0.0.1:9/x"}) as harness:
        for _ in range(3):
            harness.send(make_event())
        wait_until(lambda: "cannot be reached" in caplog.text)
        assert harness.health.failed == 0
        assert harness.metrics["raised"] == 3


def test_alerts_go_to_mqtt_by_its_command_and_wait_while_it_fails(tmp_path: Path) -> None:
    published: list[dict[str, Any]] = []
    fail = threading.Event()
    fail.set()

    def publish(args: dict[str, Any]) -> dict[str, Any]:
        if fail.is_set():
            raise PluginError("mqtt: not connected to the broker", retry_after=1.0)
        published.append(dict(args))
        return {"sent": True}

    harness = _harness(tmp_path, mqtt=True)
    harness.provide("mqtt.publish", publish)
    with harness:
        harness.send(make_event())
        harness.wait_until(lambda: harness.metrics.get("mqtt_failed", 0) >= 2)
        fail.clear()
        wait_until(lambda: published)
    assert {key: published[0][key] for key in ("topic", "qos", "retain")} == {
        "topic": "alerts",
        "qos": 1,
        "retain": False,
    }
    assert json.loads(published[0]["payload"])["state"] == "raised"


def test_another_plugin_gets_alerts_by_a_command_of_its_own_until_it_takes_them(tmp_path: Path) -> None:
    heard: list[dict[str, Any]] = []

    def sound(args: dict[str, Any]) -> dict[str, Any]:
        if len(heard) < 2:
            heard.append({})
            raise PluginError("siren: its fuse is blown")
        heard.append(args["alert"])
        return {}

    harness = _harness(tmp_path, command=[{"name": "siren", "command": "siren.sound"}])
    harness.provide("siren.sound", sound)
    with harness:
        harness.send(make_event(id="e1"))
        wait_until(lambda: len(heard) == 3)
        assert (heard[-1]["id"], heard[-1]["state"]) == ("e1", "raised")
        harness.wait_until(lambda: harness.metrics.get("siren_delivered") == 1)


def test_without_a_plugin_that_owns_the_command_the_log_says_what_is_missing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with _harness(tmp_path, mqtt=True) as harness:
        harness.send(make_event())
        wait_until(lambda: "the sink mqtt fails" in caplog.text)
        assert "mqtt.publish" in caplog.text


def test_the_log_tells_raised_and_resolved_unless_it_is_off(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    event = make_event()
    with _harness(tmp_path) as harness:
        harness.send(event)
        harness.send(msgspec.structs.replace(event, kind="end"))
    assert "alert people raised: person at cam, score 0.80" in caplog.text
    assert "alert people resolved" in caplog.text
    caplog.clear()
    with _harness(tmp_path, log=False) as harness:
        harness.send(make_event())
    assert "raised" not in caplog.text


class _Entry:
    def __init__(self, plugin: type) -> None:
        self.name = plugin.__name__.lower()
        self._plugin = plugin

    def load(self) -> type:
        return self._plugin


def test_alerts_reach_a_subscriber_through_the_mqtt_plugin_before_the_daemon_has_drained(tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "broker") as broker, Subscriber(broker.port, "edgewarden/gate/alerts") as subscriber:
        log = EventLog(tmp_path / "events.db")
        host = Host(
            node="gate",
            state_dir=tmp_path,
            log=log,
            tables={"alert": {"rule": [RULE]}, "mqtt": {"host": "127.0.0.1", "port": broker.port}},
            latest_frame=lambda _camera: None,
            entry_points=[_Entry(Alert), _Entry(Mqtt)],
        )
        host.load()
        host.start()
        wait_until(lambda: all(health.state == "running" for health in host.statuses().values()))

        def connected() -> bool:
            host.offer_health(HEALTH)
            return bool(host.metrics().get("mqtt", {}).get("connected"))

        wait_until(connected)
        events = [make_event(id=f"e{n // 2}", kind=("start", "end")[n % 2], seq=n % 2) for n in range(40)]
        host.offer_events([(event, None) for event in events])
        assert host.drain(10)
        host.stop(10)
        log.close()
        told = [json.loads(message.payload) for message in subscriber.wait_for(40)]
    states = {"start": "raised", "end": "resolved"}
    assert [(alert["id"], alert["state"]) for alert in told] == [(event.id, states[event.kind]) for event in events]
    assert not any(alert["late"] for alert in told)
