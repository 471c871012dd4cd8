from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from graphs import brightness_graph

from agent.cli.model import command
from agent.errors import AgentError

ROW = np.zeros((1, 6), np.float32)
ROW[0] = (8, 8, 40, 32, 0.9, 0)
FAINT = np.zeros((1, 6), np.float32)
FAINT[0] = (8, 8, 40, 32, 0, 0)
LIGHT = np.zeros((1, 6), np.float32)
LIGHT[0, 4] = 0.005  # of a mean of 100: a score of .5


@pytest.fixture
def picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEWARDEN_MODELS", str(tmp_path / "models"))
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((48, 64, 3), 100, np.uint8))
    return tmp_path / "grey.png"


def add(graph: Path, *arguments: object) -> Any:
    words = ["add", graph, "--name", "tiny", "--labels", "人", *arguments, "--json"]
    result = CliRunner().invoke(command, [str(word) for word in words])
    if isinstance(result.exception, AgentError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return {**json.loads(result.stdout), "stderr": result.stderr}


def test_a_trial_draws_the_boxes_beside_the_file_and_keeps_the_package(picture: Path, tmp_path: Path) -> None:
    shown = add(brightness_graph(tmp_path / "x.onnx", ROW), "--try", picture)
    assert [(one["label"], one["score"]) for one in shown["try"]["found"]] == [("人", 0.9)]
    drawn = cv2.imread(str(tmp_path / "tiny-try.jpg"))
    assert drawn is not None
    assert drawn.shape == (48, 64, 3)
    assert np.abs(drawn.astype(int) - 100).max() > 100
    assert (tmp_path / "models" / "tiny" / "model.toml").is_file()


def test_a_trial_never_writes_over_a_file(picture: Path, tmp_path: Path) -> None:
    graph = brightness_graph(tmp_path / "x.onnx", ROW)
    (tmp_path / "tiny-try.jpg").write_text("mine")
    assert add(graph, "--try", picture)["try"]["picture"] == str(tmp_path / "tiny-try-2.jpg")
    assert (tmp_path / "tiny-try.jpg").read_text() == "mine"
    with pytest.raises(AgentError, match="is there already; name another file with --try-out"):
        add(graph, "--replace", "--try", picture, "--try-out", tmp_path / "tiny-try.jpg")


def test_a_picture_that_cannot_be_read_adds_nothing(picture: Path, tmp_path: Path) -> None:
    picture.write_text("no picture")
    with pytest.raises(AgentError, match="not an image"):
        add(brightness_graph(tmp_path / "x.onnx", ROW), "--try", picture)
    assert not (tmp_path / "models").exists()


def test_a_wrong_normalisation_is_told_by_what_another_one_finds(picture: Path, tmp_path: Path) -> None:
    graph = brightness_graph(tmp_path / "x.onnx", FAINT, LIGHT)
    shown = add(graph, "--try", picture)
    assert shown["try"]["found"] == []
    assert "nothing found; fed as RGB 0..255 it finds 1: see --colour, --scale" in shown["stderr"]
    assert add(graph, "--replace", "--scale", "1", "--try", picture)["try"]["found"]
