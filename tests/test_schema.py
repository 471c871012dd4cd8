"""docs/schema is what is sent: made from the structs, and true of messages that a real broker carried."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from broker import Mosquitto, Subscriber
from conftest import REPOSITORY
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from agent import Health
from agent.data import CameraHealth, Temperature
from agent.testing import NODE, PluginHarness, make_detections, make_event, make_frame
from plugins.mqtt import Mqtt

FOLDER = REPOSITORY / "docs" / "schema" / "v1"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))
HEALTH = Health(
    node=NODE,
    at=1.0,
    temperatures={"cpu": Temperature(celsius=50.0, passive=95.0)},
    cameras={"cam": CameraHealth(state="up", frame_age_ms=40.0)},
    rate=5.0,
)


def _validator(name: str) -> Any:
    return Draft202012Validator(json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8")))


@pytest.fixture
def messages(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """What one run told, by the last level of its topic."""
    with (
        Mosquitto(tmp_path / "broker") as broker,
        Subscriber(broker.port) as subscriber,
        PluginHarness(Mqtt, {"host": "127.0.0.1", "port": broker.port}, state_dir=tmp_path / "state") as harness,
    ):
        subscriber.wait_for(1, topic="+/+/status")
        harness.send(make_event(zones=("door",), attributes={"plate": "B-XY 1"}), make_frame())
        harness.detections(make_detections(("person", "cat")))
        harness.health_tick(HEALTH)
        for leaf in ("+/+/camera/+/events", "+/+/camera/+/detections", "+/+/health"):
            subscriber.wait_for(1, topic=leaf)
        told = {m.topic.rsplit("/", 1)[1]: m.payload for m in subscriber.messages if m.payload.startswith(b"{")}
        yield {leaf: json.loads(payload) for leaf, payload in told.items()}


def test_the_files_are_what_the_structs_say() -> None:
    command = [sys.executable, str(REPOSITORY / "benchmarks" / "make_schema.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_each_file_is_a_schema_of_this_version(name: str) -> None:
    validator = _validator(name)
    Draft202012Validator.check_schema(validator.schema)
    assert validator.schema["$id"] == f"urn:edgewarden:v1:{name}"


def test_messages_that_a_broker_carried_are_valid(messages: dict[str, Any]) -> None:
    for leaf, name in {"events": "event", "detections": "detections", "health": "health"}.items():
        _validator(name).validate(messages[leaf])


@pytest.mark.parametrize("name", ["event", "detections", "health"])
def test_a_message_that_lacks_a_field_or_has_another_version_is_not_valid(name: str, messages: dict[str, Any]) -> None:
    message = messages[{"event": "events"}.get(name, name)]
    validator = _validator(name)
    for field in message:
        assert not validator.is_valid({key: value for key, value in message.items() if key != field}), field
    assert not validator.is_valid({**message, "v": 2})


def test_a_schema_names_every_field_that_is_sent(messages: dict[str, Any]) -> None:
    for leaf, name in {"events": "event", "detections": "detections", "health": "health"}.items():
        assert set(messages[leaf]) == set(_validator(name).schema["properties"])


def test_the_page_for_subscribers_names_every_schema() -> None:
    page = (REPOSITORY / "docs" / "mqtt.md").read_text(encoding="utf-8")
    assert [name for name in NAMES if f"schema/v1/{name}.json" not in page] == []


def test_an_alert_and_an_occupancy_are_valid() -> None:
    from plugins.alert.message import AlertMessage
    from plugins.mqtt.occupancy import Occupancy

    alert = AlertMessage(
        node=NODE, rule="door", state="raised", id="1", seq=0, camera="cam", label="person", score=0.9,
        started_at=1.0, raised_at=2.0,
    )  # fmt: skip
    _validator("alert").validate(json.loads(msgspec.json.encode(alert)))
    occupancy = Occupancy(node=NODE, camera="cam", at=1.0, labels={"person": 1})
    _validator("occupancy").validate(json.loads(msgspec.json.encode(occupancy)))
