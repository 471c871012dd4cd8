"""Home Assistant's side of a real broker: the device announced, kept true, told again, removed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from broker import Mosquitto, Subscriber
from waiting import wait_until

from agent import Health
from agent.data import CameraHealth
from agent.testing import NODE, PluginHarness, make_event
from plugins.mqtt import Mqtt

ROOT = f"edgewarden/{NODE}"
CONFIG = f"homeassistant/device/{NODE}/config"
OCCUPANCY = f"{ROOT}/camera/cam/occupancy"


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker") as broker:
        yield broker


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plugins.mqtt.discovery.SETTLE", 0.0)


def _harness(port: int, tmp_path: Path, **keys: object) -> PluginHarness:
    keys = {"host": "127.0.0.1", "port": port, "homeassistant": True, **keys}
    return PluginHarness(Mqtt, keys, state_dir=tmp_path / "state")


def _health(*cameras: str) -> Health:
    return Health(node=NODE, at=1.0, cameras={name: CameraHealth(state="up") for name in cameras})


def _told(subscriber: Subscriber, topic: str) -> list[Any]:
    return [json.loads(message.payload) for message in subscriber.on(topic) if message.payload]


def _parts(subscriber: Subscriber) -> dict[str, Any]:
    told = _told(subscriber, CONFIG)
    parts: dict[str, Any] = told[-1]["components"] if told else {}
    return parts


def _counts(subscriber: Subscriber) -> list[dict[str, int]]:
    return [told["labels"] for told in _told(subscriber, OCCUPANCY)]


def test_the_device_grows_with_cameras_and_labels_and_is_retained(mosquitto: Mosquitto, tmp_path: Path) -> None:
    with Subscriber(mosquitto.port) as home, _harness(mosquitto.port, tmp_path) as harness:
        home.wait_for(1, topic=CONFIG)
        harness.health_tick(_health("cam"))
        home.wait_until(lambda: "camera_cam_motion" in _parts(home), 10, "the camera")
        harness.send(make_event(id="1"))
        harness.health_tick(_health("cam"))
        home.wait_until(lambda: "camera_cam_occupancy_person" in _parts(home), 10, "the label")
        harness.send(make_event(id="1", seq=1, kind="end"))
        home.wait_until(lambda: _counts(home)[-2:] == [{"person": 1}, {"person": 0}], 10, "the occupancy")
        assert all(message.retain for message in [*home.on(CONFIG), *home.on(OCCUPANCY)])
        assert all(message.qos == 1 for message in home.on(CONFIG))


def test_a_broker_that_forgot_everything_is_told_again(tmp_path: Path) -> None:
    with (
        Mosquitto(tmp_path / "broker", persistence=False) as broker,
        _harness(broker.port, tmp_path) as harness,
    ):
        harness.wait_until(lambda: harness.plugin._publisher._link.connected)
        harness.health_tick(_health("cam"))
        harness.send(make_event())
        broker.kill()
        broker.start()
        with Subscriber(broker.port) as home:
            home.wait_until(lambda: "camera_cam_occupancy_person" in _parts(home), 20, "the device")
            home.wait_until(lambda: _counts(home)[-1:] == [{"person": 1}], 10, "the occupancy")


def test_a_killed_run_leaves_its_labels_but_nobody_in_the_picture(mosquitto: Mosquitto, tmp_path: Path) -> None:
    with _harness(mosquitto.port, tmp_path) as harness:
        harness.wait_until(lambda: harness.plugin._publisher._link.connected)
        harness.health_tick(_health("cam"))
        harness.send(make_event(id="1"))
    with Subscriber(mosquitto.port) as home, _harness(mosquitto.port, tmp_path):
        home.wait_until(lambda: "camera_cam_occupancy_person" in _parts(home), 10, "the label")
        home.wait_until(lambda: _counts(home)[-1:] == [{"person": 0}], 10, "nobody")


def test_entities_of_a_camera_that_was_taken_away_are_removed(mosquitto: Mosquitto, tmp_path: Path) -> None:
    with Subscriber(mosquitto.port) as home, _harness(mosquitto.port, tmp_path) as harness:
        harness.health_tick(_health("cam", "shed"))
        home.wait_until(lambda: "camera_shed_motion" in _parts(home), 10, "both cameras")
        harness.restart()
        harness.health_tick(_health("cam"))
        removed = {"platform": "binary_sensor"}
        home.wait_until(lambda: _parts(home)["camera_shed_motion"] == removed, 10, "one camera")
        assert _parts(home)["camera_cam_motion"] != removed


def test_the_device_is_removed_once_it_is_switched_off(mosquitto: Mosquitto, tmp_path: Path) -> None:
    with _harness(mosquitto.port, tmp_path) as harness:
        harness.wait_until(lambda: harness.plugin._publisher._link.connected)
        harness.health_tick(_health("cam"))
    remembered = tmp_path / "state" / "plugins" / harness.name / "homeassistant.json"
    assert remembered.exists()
    with Subscriber(mosquitto.port) as home, _harness(mosquitto.port, tmp_path, homeassistant=False):
        home.wait_until(lambda: home.on(CONFIG)[-1:] != [] and not home.on(CONFIG)[-1].payload, 10, "the removal")
        wait_until(lambda: not remembered.exists(), 10, "it is forgotten once the broker has it")
    with Subscriber(mosquitto.port) as late, _harness(mosquitto.port, tmp_path, homeassistant=False):
        late.wait_for(1, topic=f"{ROOT}/status")
        assert late.on("homeassistant/#") == late.on(OCCUPANCY) == []


def test_the_device_is_told_again_when_home_assistant_comes_online(mosquitto: Mosquitto, tmp_path: Path) -> None:
    with Subscriber(mosquitto.port) as home, _harness(mosquitto.port, tmp_path) as harness:
        harness.health_tick(_health("cam"))
        home.wait_until(lambda: "camera_cam_motion" in _parts(home), 10, "the device")
        wait_until(lambda: "homeassistant/status (QoS 1)" in mosquitto.log, 10, "the node listens")
        told = len(home.on(CONFIG))
        for payload in (b"offline", b"\xff", b"online"):
            home._client.publish("homeassistant/status", payload, qos=1).wait_for_publish(10)
        home.wait_until(lambda: len(home.on(CONFIG)) == told + 1, 10, "the device again")
        home.wait_until(lambda: len(home.on(OCCUPANCY)) >= 2, 10, "the occupancy again")


def test_nothing_of_it_is_told_unless_it_is_asked_for(mosquitto: Mosquitto, tmp_path: Path) -> None:
    with Subscriber(mosquitto.port) as home:
        with _harness(mosquitto.port, tmp_path, homeassistant=False) as harness:
            harness.health_tick(_health("cam"))
            harness.send(make_event())
        home.wait_until(lambda: home.messages[-1].payload == b"offline", 10, "the end")
        assert home.on("homeassistant/#") == home.on(OCCUPANCY) == []
