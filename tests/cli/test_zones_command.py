"""``edgewarden zones draw``: what was configured, seen on a picture."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from agent.cli.zones import command
from agent.config import LineConfig, ZoneConfig
from agent.detection.zone_map import zone_title
from agent.errors import AgentError, ConfigError, MissingError, SourceError

PLACES = """
[[zone]]
camera = "hall/1"
name = "table"
polygon = [[0.5, 0.5], [1.0, 0.5], [1.0, 1.0], [0.5, 1.0]]
[[line]]
camera = "hall/1"
name = "door"
points = [[0.1, 0.1], [0.1, 0.9]]
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    cv2.imwrite(str(tmp_path / "hall.png"), np.full((240, 320, 3), 200, np.uint8))
    path = tmp_path / "agent.toml"
    path.write_text(
        f'[[camera]]\nname = "hall/1"\nsource = "{tmp_path / "hall.png"}"\n'
        f"mask = [{{ polygon = [[0.3, 0.0], [0.45, 0.0], [0.45, 0.3]] }}]\n{PLACES}",
        encoding="utf-8",
    )
    return path


def draw(*words: object) -> Result:
    result = CliRunner().invoke(command, ["draw", *map(str, words)])
    if isinstance(result.exception, AgentError):
        raise result.exception
    return result


def test_zones_lines_and_masks_are_drawn_over_what_the_camera_sees(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = draw("hall/1", "--config", config)
    assert result.exit_code == 0
    assert result.stdout == "zones-hall_1.png: 1 zone(s), 1 line(s), 1 mask(s) over 320x240\n"
    drawn = cv2.imread(str(tmp_path / "zones-hall_1.png"))
    assert drawn is not None
    assert drawn.shape == (240, 320, 3)
    assert (drawn[5, 5] == 200).all()
    assert not (drawn[130, 300] == 200).all(), "the zone is tinted"
    assert len(np.unique(drawn[20:60, 32].reshape(-1, 3), axis=0)) <= 2, "the line runs down"


def test_a_file_that_is_there_is_kept_unless_it_may_be_replaced(config: Path, tmp_path: Path) -> None:
    out = tmp_path / "seen.png"
    out.write_bytes(b"precious")
    with pytest.raises(AgentError, match="--replace"):
        draw("hall/1", "--config", config, "--out", out)
    assert out.read_bytes() == b"precious"
    assert draw("hall/1", "--config", config, "--out", out, "--replace").exit_code == 0


def test_another_picture_may_stand_in_for_a_camera_that_is_away(config: Path, tmp_path: Path) -> None:
    config.write_text(config.read_text().replace("hall.png", "gone.png"))
    with pytest.raises(SourceError, match="--picture"):
        draw("hall/1", "--config", config, "--out", tmp_path / "a.png")
    assert draw("hall/1", "--config", config, "--out", tmp_path / "a.png", "--picture", tmp_path / "hall.png")
    assert (tmp_path / "a.png").exists()


def test_a_camera_that_is_not_configured_is_named(config: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='camera hal: not configured; did you mean "hall/1"'):
        draw("hal", "--config", config)
    with pytest.raises(MissingError):
        draw("hall/1", "--config", tmp_path / "nothing.toml")


def test_a_polygon_that_is_none_is_told_as_the_daemon_tells_it(config: Path, tmp_path: Path) -> None:
    config.write_text(config.read_text().replace("[1.0, 0.5], [1.0, 1.0]", "[1.0, 1.0], [1.0, 0.5]"))
    with pytest.raises(ConfigError, match=r"camera hall/1: zone table: the edges"):
        draw("hall/1", "--config", config, "--out", tmp_path / "a.png")


def test_a_name_in_any_script_is_drawn(config: Path, tmp_path: Path) -> None:
    config.write_text(config.read_text(encoding="utf-8").replace('"table"', '"стол 桌子"'), encoding="utf-8")
    assert draw("hall/1", "--config", config, "--out", tmp_path / "a.png").exit_code == 0


def test_a_zone_says_what_is_asked_of_it() -> None:
    zone = ZoneConfig(camera="a", name="z", polygon=((0, 0), (1, 0), (1, 1)), labels=("car",), loiter_after=5.0)
    assert zone_title(zone) == "z (car, loiter 5 s)"
    assert LineConfig(camera="a", name="l", points=((0, 0), (1, 1))).directions == ("in", "out")


def test_check_names_a_polygon_that_is_none(tmp_path: Path) -> None:
    from daemon import edgewarden, write_config

    polygon = "[[0.1, 0.1], [0.9, 0.9], [0.9, 0.1], [0.1, 0.9]]"
    zone = f'[[zone]]\ncamera = "cam"\nname = "bow"\npolygon = {polygon}\n'
    done = edgewarden("check", "--config", write_config(tmp_path / "a.toml", source="synthetic://desk", more=zone))
    assert done.returncode == 78
    assert "camera cam: zone bow: the edges of its polygon cross each other" in done.stderr
