"""``edgewarden governor simulate``: tables, JSON, pictures, given plants, recorded health."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import pytest
from daemon import edgewarden

from agent.data import CameraHealth, Health, Temperature, to_json

POLICIES = {"ours", "threshold", "none"}
SHORT = ("--hours", "0.1")


def _json(*words: str | Path) -> Any:
    done = edgewarden("governor", "simulate", "--json", *words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_random_plants_give_the_figures_of_three_policies_the_same_each_time() -> None:
    told = _json("--plants", "3", "--seed", "5", *SHORT)
    assert set(told["policies"]) == POLICIES
    for figures in told["policies"].values():
        assert set(figures) == {"seconds_over_passive", "relative_frames", "changes_per_hour"}
    assert told["policies"]["ours"]["seconds_over_passive"] == 0
    assert told == _json("--plants", "3", "--seed", "5", *SHORT)


def test_plants_can_be_written_and_given_back(tmp_path: Path) -> None:
    file = tmp_path / "plants.json"
    drawn = _json("--plants", "2", "--seed", "1", "--save-plants", file, *SHORT)
    assert len(json.loads(file.read_text())) == 2
    given = _json("--plants-file", file, "--seed", "1", *SHORT)
    assert given["policies"] == drawn["policies"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('[{"rise": -1}]', "rise"),
        ('[{"rize": 20}]', "rize"),
        ("[{", "truncated"),
        ("[]", "no plant"),
    ],
)
def test_a_wrong_file_of_plants_is_named(tmp_path: Path, content: str, told: str) -> None:
    file = tmp_path / "plants.json"
    file.write_text(content)
    done = edgewarden("governor", "simulate", "--plants-file", file)
    assert done.returncode == 78
    assert str(file) in done.stderr
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_board_gives_a_table_and_a_picture(tmp_path: Path) -> None:
    picture = tmp_path / "board.png"
    done = edgewarden("governor", "simulate", "--board", "orin-nano", "--picture", picture, *SHORT)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split()[:2] == ["BOARD", "POLICY"]
    assert {line.split()[1] for line in lines[1:]} == POLICIES
    drawn = cv2.imread(str(picture))
    assert drawn is not None
    assert drawn.shape[1] == 1280


def test_an_unknown_board_and_a_missing_file_are_told() -> None:
    unknown = edgewarden("governor", "simulate", "--board", "toaster")
    assert (unknown.returncode, "orin-nano" in unknown.stderr) == (78, True)
    missing = edgewarden("governor", "simulate", "--replay", "/no/such/log")
    assert (missing.returncode, "/no/such/log" in missing.stderr) == (69, True)


def _log(path: Path, celsius: list[float]) -> Path:
    lines = []
    for second, value in enumerate(celsius):
        zones = {"tj-thermal": Temperature(celsius=value + 0.1 * (second % 3), passive=95.0)}
        camera = CameraHealth(state="up", captured=second * 10, inferred=second * 10)
        health = Health(node="n", at=1000.0 + second, temperatures=zones, cameras={"c": camera}, precision="fp32")
        lines.append(to_json(health))
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def test_a_recorded_log_is_replayed(tmp_path: Path) -> None:
    log = _log(tmp_path / "health.jsonl", [50.0] * 60 + [94.5] * 20)
    told = _json("--replay", log)
    rungs = [decision["rung"] for decision in told["decisions"]]
    assert rungs[-1] == max(rungs)
    assert "the limit is" in told["decisions"][-1]["reason"]
    assert sum(told["seconds"]) == pytest.approx(79.0)


def test_a_log_that_is_none_is_told_by_its_line(tmp_path: Path) -> None:
    log = _log(tmp_path / "health.jsonl", [50.0])
    log.write_bytes(log.read_bytes() + b"{}\n")
    done = edgewarden("governor", "simulate", "--replay", log)
    assert (done.returncode, "line 2: no health" in done.stderr) == (78, True)
