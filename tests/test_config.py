"""agent.toml: every fault is named at once, with its path; what is right becomes structs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import config
from agent.errors import ConfigError, MissingError

CAMERA = '[[camera]]\nname = "a"\nsource = "clip.mp4"\n'


def _faults(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config.parse(text)
    return [fault.removeprefix("agent.toml: ") for fault in caught.value.faults]


def test_the_smallest_configuration_is_one_camera() -> None:
    parsed = config.parse(CAMERA)
    assert parsed.camera[0].source == "clip.mp4"
    assert parsed.model.path == "desk"


def test_all_faults_are_told_at_once_each_with_its_path_and_what_stood_there() -> None:
    faults = _faults(
        '[agent]\nname = "all"\nlog_lvl = "x"\n[model]\nscore = 2\nprecision = "fp61"\n'
        '[[camera]]\nnam = "a"\nsource = 5\nfps = -1\n[trakcer]\nx = 1\n'
    )
    assert faults == [
        "agent.name: 'all' is reserved, choose another",
        'agent.log_lvl: unknown key; did you mean "log_level"?',
        'model.precision: expected auto | fp32 | fp16 | bf16 | int8 | mixed, got "fp61"; did you mean "fp16"?',
        "model.score: expected a number <= 1.0, got 2",
        "camera[0].name: missing; a text is needed",
        "camera[0].source: expected a text, got 5",
        "camera[0].fps: expected a number > 0.0, got -1",
        'camera[0].nam: unknown key; did you mean "name"?',
        'trakcer: unknown key; did you mean "tracker"?',
    ]


def test_a_configuration_without_a_camera_says_what_is_missing() -> None:
    assert _faults("") == ["camera: at least one [[camera]] is needed"]


def test_two_cameras_of_one_name_are_refused() -> None:
    assert _faults(CAMERA + CAMERA) == ["camera: two cameras are called 'a', names must differ"]


def test_broken_toml_names_the_line() -> None:
    assert "line 1" in _faults("[agent\n")[0]


def test_a_file_that_is_not_there_is_nothing_to_work_with(tmp_path: Path) -> None:
    with pytest.raises(MissingError) as caught:
        config.load(tmp_path / "agent.toml")
    assert caught.value.exit_code == 69


def test_a_password_is_read_from_its_file_without_the_line_break(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("s3 cret\n")
    assert config.read_secret(str(tmp_path / "password"), "camera a") == "s3 cret"
    with pytest.raises(ConfigError, match=r"camera a: .*: No such file"):
        config.read_secret(str(tmp_path / "nothing"), "camera a")


def test_the_state_folder_is_systemds_when_the_configuration_names_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/edgewarden:/other")
    assert config.parse(CAMERA).state_dir == Path("/var/lib/edgewarden")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(["agent", "model", "camera", "tracker", "log", "plugins", "name", "source", "fps", "score", "x"])


@given(st.dictionaries(KEYS, VALUES | st.dictionaries(KEYS, VALUES, max_size=4), max_size=5))
def test_no_table_whatever_it_holds_does_more_than_name_its_faults(table: dict[str, Any]) -> None:
    parsed, faults = config.read_struct(config.Config, table, "")
    assert (parsed is None) == bool(faults)
    assert all("\n" not in fault for fault in faults)


@given(st.builds(config.TrackerConfig, patience=st.floats(0.1, 60), min_hits=st.integers(1, 50)))
def test_what_is_written_is_what_is_read(tracker: config.TrackerConfig) -> None:
    assert config.read_struct(config.TrackerConfig, msgspec.to_builtins(tracker), "tracker") == (tracker, [])
