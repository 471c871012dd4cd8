"""What a new configuration asks for: nothing when nothing differs, each difference once, and no secret in any word."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from agent.config import CameraConfig, Config, parse
from agent.reload import LIVE_AGENT_KEYS, LIVE_CAMERA_KEYS, SECTIONS, plan, reopens

BASE = """
[agent]
name = "node"
[[camera]]
name = "door"
source = "rtsp://user:geheim@10.0.0.1/stream"
[[camera]]
name = "yard"
source = "synthetic://desk"
[plugins.mqtt]
host = "localhost"
[plugins.alert]
"""


def changed(**changes: Any) -> Config:
    return msgspec.structs.replace(parse(BASE), **changes)


def words(old: Config, new: Config) -> list[str]:
    return [change.what for change in plan(old, new).changes]


def test_the_same_file_asks_for_nothing() -> None:
    found = plan(parse(BASE), parse(BASE))
    assert (found.changes, found.restart, found.config) == ((), (), parse(BASE))


def test_thresholds_need_no_other_engine_and_all_else_of_the_model_does() -> None:
    old = parse(BASE)
    found = plan(old, parse(BASE + "[model]\nscore = 0.5\n"))
    assert [change.what for change in found.changes] == ["model.score: 0.4 -> 0.5"]
    assert found.touches("thresholds")
    assert not found.touches("model")
    assert plan(old, parse(BASE + '[model]\npath = "other"\n')).touches("model")


def test_cameras_come_go_and_are_opened_anew_only_where_they_must() -> None:
    old = parse(BASE)
    door, yard = old.camera
    gate = CameraConfig(name="gate", source="synthetic://desk")
    assert words(old, changed(camera=(door,))) == ["camera yard: removed"]
    assert words(old, changed(camera=(yard, door))) == [], "their order is nothing"
    assert words(old, changed(camera=(door, yard, gate))) == ["camera gate: added"]
    busy = msgspec.structs.replace(door, priority=2.0, max_age=0.5)
    assert words(old, changed(camera=(busy, yard))) == ["camera door: changed for priority, max_age"]
    assert not reopens(door, busy)
    moved = msgspec.structs.replace(door, source="rtsp://user:neu@10.0.0.2/stream", fps=3.0)
    assert words(old, changed(camera=(moved, yard))) == ["camera door: opened anew for source, fps"]


def test_plugins_are_switched_on_and_off_and_started_anew() -> None:
    old = parse(BASE)
    tables = old.plugins
    assert words(old, changed(plugins={"mqtt": tables["mqtt"]})) == ["plugin alert: off"]
    assert words(old, changed(plugins={**tables, "alert": {"enabled": False}})) == ["plugin alert: off"]
    assert words(old, changed(plugins={**tables, "snapshot": {}})) == ["plugin snapshot: on"]
    assert words(old, changed(plugins={**tables, "mqtt": {"host": "other", "port": 1}})) == [
        "plugin mqtt: started anew for host, port"
    ]


def test_what_cannot_change_needs_a_restart_and_keeps_its_value() -> None:
    old = parse(BASE)
    agent = msgspec.structs.replace(old.agent, name="other", state_dir="/else", log_level="debug")
    found = plan(old, changed(agent=agent))
    assert found.restart == ("agent.name", "agent.state_dir")
    assert [change.what for change in found.changes] == ["agent.log_level: info -> debug"]
    assert (found.config.agent.name, found.config.agent.state_dir) == ("node", "")
    assert found.config.agent.log_level == "debug"
    assert plan(found.config, changed(agent=agent)).restart == found.restart, "until it is restarted"


def test_every_table_of_the_file_has_an_owner() -> None:
    named = {"agent", "camera", "plugins", *SECTIONS}
    assert set(Config.__struct_fields__) <= named, (
        "name the new table's owner in reload.py; without one it needs a restart"
    )
    assert set(parse(BASE).agent.__struct_fields__) >= LIVE_AGENT_KEYS
    assert set(CameraConfig.__struct_fields__) >= LIVE_CAMERA_KEYS


CAMERAS = st.lists(
    st.builds(
        CameraConfig,
        name=st.sampled_from(["a", "b", "c"]),
        source=st.sampled_from(["rtsp://u:SECRET@h/1", "synthetic://desk"]),
        username=st.none() | st.just("SECRET"),
        priority=st.sampled_from([1.0, 2.0]),
        fps=st.none() | st.just(5.0),
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda camera: camera.name,
).map(tuple)
TABLES = st.dictionaries(
    st.sampled_from(["mqtt", "alert"]),
    st.dictionaries(st.sampled_from(["enabled", "token", "host"]), st.booleans() | st.just("SECRET"), max_size=2),
)
CONFIGS = st.builds(
    Config,
    agent=st.sampled_from([parse(BASE).agent, parse(BASE.replace("node", "other")).agent]),
    model=st.sampled_from([parse(BASE).model, parse(BASE + "[model]\nscore = 0.2\npath = 'x'\n").model]),
    camera=CAMERAS,
    plugins=TABLES,
)


@given(CONFIGS, CONFIGS)
def test_after_any_reload_the_same_file_changes_nothing_more(old: Config, new: Config) -> None:
    first = plan(old, new)
    again = plan(first.config, new)
    assert again.changes == ()
    assert again.restart == first.restart
    assert plan(new, new).changes == ()
    assert not any("SECRET" in change.what for change in first.changes)
    assert all(change.owner for change in first.changes)
    names = first.names("camera")
    assert names == {
        name
        for name in {camera.name for camera in (*old.camera, *new.camera)}
        if {camera for camera in map(repr, old.camera) if f"name='{name}'" in camera}
        != {camera for camera in map(repr, new.camera) if f"name='{name}'" in camera}
    }
