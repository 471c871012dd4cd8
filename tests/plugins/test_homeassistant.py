"""What Home Assistant is told: the rules of its documented example hold, names survive, what is gone is removed."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import Crossing, PluginError
from agent.testing import make_event
from plugins.mqtt.connection import Message
from plugins.mqtt.discovery import Discovery, Withdrawal
from plugins.mqtt.homeassistant import LABEL_LIMIT, Announced, Memory, announcement, config_topic, removal, slug
from plugins.mqtt.occupancy import Occupants
from plugins.mqtt.topics import Topics

NODE = "gate 1"
STARTED = 1_000.0


def _told(
    cameras: dict[str, list[str]], gone: dict[str, list[str]] | None = None, *, commands: bool = False
) -> dict[str, Any]:
    message = announcement(NODE, Topics("edgewarden", NODE), cameras, gone=gone or {}, commands=commands)
    assert (message.qos, message.retain) == (1, True)
    told: dict[str, Any] = json.loads(message.payload)
    return told


def test_the_device_keeps_the_rules_of_the_documented_example() -> None:
    told = _told({"cam": ["person"]}, commands=True)
    assert told["device"]["identifiers"]
    assert told["origin"]["name"]
    assert told["availability_topic"] == "edgewarden/gate 1/status"
    unique = [part["unique_id"] for part in told["components"].values()]
    assert len(set(unique)) == len(unique)
    for key, part in told["components"].items():
        assert re.fullmatch(r"[a-zA-Z0-9_-]+", key)
        assert part["platform"] in ("sensor", "binary_sensor", "image", "select")
        assert {"state_topic", "image_topic", "command_topic"} & part.keys()
        assert part["name"]


def test_the_node_and_its_camera_have_every_entity() -> None:
    assert set(_told({"cam": ["person", "cat"]})["components"]) == {
        "rung",
        "temperature",
        "outbox",
        "limit",
        "camera_cam_state",
        "camera_cam_frame_age",
        "camera_cam_motion",
        "camera_cam_snapshot",
        "camera_cam_occupancy_person",
        "camera_cam_occupancy_cat",
    }


def test_entities_read_the_topics_that_the_node_publishes() -> None:
    parts = _told({"a/b": ["person"]})["components"]
    key = f"camera_{slug('a/b')}"
    assert parts[f"{key}_state"]["state_topic"] == "edgewarden/gate 1/camera/a%2Fb/status"
    assert parts[f"{key}_motion"]["state_topic"] == "edgewarden/gate 1/camera/a%2Fb/occupancy"
    assert parts[f"{key}_snapshot"]["image_topic"] == "edgewarden/gate 1/camera/a%2Fb/snapshot"
    assert parts["temperature"]["state_topic"] == "edgewarden/gate 1/health"


def test_the_limit_can_be_set_only_where_commands_are_taken() -> None:
    assert _told({})["components"]["limit"] == {"platform": "select"}
    limit = _told({}, commands=True)["components"]["limit"]
    assert limit["command_topic"] == "edgewarden/gate 1/command/limit"
    assert limit["options"][0] == "none"


def test_entities_of_a_camera_that_is_no_more_are_removed() -> None:
    parts = _told({"cam": []}, {"shed": ["cat"]})["components"]
    removed = {key: part for key, part in parts.items() if key.startswith("camera_shed")}
    assert len(removed) == 5
    assert all(part.keys() == {"platform"} for part in removed.values())
    assert parts["camera_cam_motion"].keys() > {"platform", "unique_id"}


def test_the_device_is_removed_by_an_empty_retained_message() -> None:
    message = removal(config_topic(NODE))
    assert (message.payload, message.retain, message.qos) == (b"", True, 1)


def test_labels_beyond_what_a_page_can_show_make_no_entities() -> None:
    parts = _told({"cam": [f"label{number}" for number in range(500)]})["components"]
    assert sum("occupancy" in key for key in parts) == LABEL_LIMIT


@given(st.text(min_size=1), st.text(min_size=1))
def test_names_become_slugs_that_home_assistant_takes_and_that_differ(one: str, other: str) -> None:
    assert re.fullmatch(r"homeassistant/device/[a-zA-Z0-9_-]+/config", config_topic(one))
    assert one == other or slug(one) != slug(other)


def test_what_was_announced_is_remembered_and_a_damaged_file_is_not_fatal(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    assert memory.load() is None
    memory.save(Announced(topic="t", cameras={"cam": ["person"]}))
    assert memory.load() == Announced(topic="t", cameras={"cam": ["person"]})
    (tmp_path / "homeassistant.json").write_bytes(b"{")
    assert memory.load() is None
    memory.forget()
    memory.forget()
    assert memory.load() is None


def _discovery(folder: Path) -> Discovery:
    return Discovery(NODE, Topics("edgewarden", NODE), folder, commands=False, now=STARTED)


def _labels(messages: Sequence[Message]) -> list[str]:
    (message,) = messages
    parts = json.loads(message.payload)["components"]
    return [key.rpartition("_")[2] for key in parts if "occupancy" in key]


def test_changes_are_gathered_while_home_assistant_works_on_the_last_and_told_once_more_later(tmp_path: Path) -> None:
    discovery = _discovery(tmp_path)
    discovery.greeting(STARTED)
    assert discovery.due(0.0) == []
    discovery.event(make_event(id="1", label="person"), STARTED)
    assert discovery.due(1.0) == []
    discovery.event(make_event(id="2", label="cat"), STARTED)
    assert sorted(_labels(discovery.due(5.0))) == ["cat", "person"]
    assert discovery.due(64.0) == []
    assert len(discovery.due(65.0)) == 1
    assert discovery.due(1e6) == []


def test_what_a_greeting_told_is_told_once_more_too(tmp_path: Path) -> None:
    discovery = _discovery(tmp_path)
    discovery.greeting(STARTED)
    assert [len(discovery.due(float(mono))) for mono in (0, 59, 60, 61)] == [0, 0, 1, 0]


def test_a_node_with_another_name_removes_the_device_it_was(tmp_path: Path) -> None:
    Memory(tmp_path).save(Announced(topic="homeassistant/device/old/config"))
    removed: list[Message] = []

    def deliver(message: Message) -> Future[None]:
        removed.append(message)
        return Future()

    _discovery(tmp_path).start(deliver)
    assert [(message.topic, message.payload) for message in removed] == [("homeassistant/device/old/config", b"")]


def test_a_removal_that_the_broker_did_not_take_is_tried_at_the_next_start(tmp_path: Path) -> None:
    Memory(tmp_path).save(Announced(topic="t", cameras={"cam": []}))
    futures: list[Future[None]] = [Future(), Future()]
    waiting = iter(futures)
    Withdrawal(Topics("edgewarden", NODE), tmp_path).start(lambda _message: next(waiting))
    futures[1].set_exception(PluginError("no"))
    assert Memory(tmp_path).load() is not None


def test_a_camera_is_occupied_from_the_start_of_an_event_to_its_end() -> None:
    occupants = Occupants(STARTED)
    one, two = make_event(id="1"), make_event(id="2")
    assert occupants.take(one, STARTED)
    assert occupants.take(two, STARTED)
    assert not occupants.take(make_event(id="1", seq=1, kind="update"), STARTED)
    assert occupants.counts("cam") == {"person": 2}
    assert occupants.take(make_event(id="1", seq=2, kind="end"), STARTED)
    assert occupants.take(make_event(id="2", seq=1, kind="end"), STARTED)
    assert occupants.counts("cam") == {"person": 0}


def test_an_event_that_an_earlier_run_never_ended_occupies_nothing() -> None:
    occupants = Occupants(STARTED)
    occupants.take(make_event(late=True, started_at=STARTED - 60), STARTED + 5)
    assert occupants.counts("cam") == {"person": 0}
    occupants.take(make_event(late=True, started_at=STARTED + 1), STARTED + 5)
    assert occupants.counts("cam") == {"person": 1}


def test_a_clock_that_starts_in_1970_makes_no_ghosts_of_later_times() -> None:
    occupants = Occupants(100.0)
    occupants.take(make_event(late=True, started_at=1.7e9), 200.0)
    assert occupants.counts("cam") == {"person": 0}


def test_a_start_that_is_replayed_behind_its_end_opens_nothing() -> None:
    occupants = Occupants(STARTED)
    occupants.take(make_event(id="1", seq=1, kind="end"), STARTED)
    occupants.take(make_event(id="1", late=True, started_at=STARTED + 1), STARTED + 5)
    assert occupants.counts("cam") == {"person": 0}


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["start", "update", "end"]), st.sampled_from("ab"))))
def test_counts_are_never_negative_and_all_ends_empty_every_camera(messages: list[tuple[int, str, str]]) -> None:
    occupants = Occupants(0.0)
    for number, kind, label in messages:
        occupants.take(make_event(id=str(number), kind=kind, label=label), 1.0)
        assert all(count >= 0 for count in occupants.counts("cam").values())
    for number in range(6):
        occupants.take(make_event(id=str(number), kind="end"), 1.0)
    assert not any(occupants.counts("cam").values())


@pytest.mark.parametrize("name", ["cam", "cam-2", "Cam_3"])
def test_a_plain_name_stays_what_it_is(name: str) -> None:
    assert slug(name) == name


def test_occupancy_is_told_by_zone_and_follows_who_goes_from_one_to_the_next() -> None:
    occupants = Occupants(STARTED)
    first, second = make_event(zones=("porch",), zones_entered=("porch",)), make_event(id="2", label="dog")
    assert occupants.take(first, STARTED)
    assert occupants.take(second, STARTED)
    assert occupants.zones("cam") == {"porch": {"person": 1}}
    moved = msgspec.structs.replace(first, kind="update", seq=1, zones=("hall",), zones_entered=("porch", "hall"))
    assert occupants.take(moved, STARTED)
    assert occupants.zones("cam") == {"hall": {"person": 1}, "porch": {"person": 0}}
    occupants.take(msgspec.structs.replace(moved, kind="end", seq=2), STARTED)
    assert occupants.zones("cam") == {"hall": {"person": 0}, "porch": {"person": 0}}


def test_crossings_are_counted_by_line_and_direction_whatever_order_events_come_in() -> None:
    occupants = Occupants(STARTED)
    for number, count in enumerate((1, 3, 2)):
        crossing = Crossing(line="door", direction="in", at=STARTED, count=count)
        occupants.take(make_event(id=str(number), crossings=(crossing,)), STARTED)
    assert occupants.lines("cam") == {"door": {"in": 3}}
