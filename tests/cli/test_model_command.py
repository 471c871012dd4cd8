from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from graphs import brightness_graph, classifier_graph

from agent.cli.model import command
from agent.errors import AgentError, ModelError

YOLOX_2 = np.zeros((62, 7), np.float32)


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEWARDEN_MODELS", str(tmp_path / "models"))
    return brightness_graph(tmp_path / "tiny.onnx", YOLOX_2)


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    if isinstance(result.exception, AgentError):
        raise result.exception
    return result


def run_json(*arguments: object) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0
    return json.loads(result.stdout)


def test_a_model_that_was_added_is_listed_and_inspected(graph: Path, tmp_path: Path) -> None:
    added = run_json("add", graph, "--name", "tiny", "--labels", "cup,phone", "--mean", "1,2,3", "--scale", "0.5")
    assert (added["family"], added["labels"]) == ("yolox", ["cup", "phone"])
    assert (added["input"]["mean"], added["input"]["scale"]) == ([1, 2, 3], [0.5, 0.5, 0.5])
    assert added["folder"] == str(tmp_path / "models" / "tiny")
    assert run_json("inspect", "tiny") == added == run_json("inspect", tmp_path / "models" / "tiny")
    row = next(row for row in run_json("list") if row["name"] == "tiny")
    assert (row["family"], row["input"], row["labels"], row["precisions"]) == ("yolox", "64x48", 2, ["fp32"])
    assert "yolox" in run("list").stdout
    assert "cup, phone" in run("inspect", "tiny").stdout


def test_packages_may_lie_in_another_folder(graph: Path, tmp_path: Path) -> None:
    run("add", graph, "--name", "tiny", "--labels", "cup,phone", "--dir", tmp_path / "else")
    assert run_json("inspect", "tiny", "--dir", tmp_path / "else")["name"] == "tiny"
    assert (tmp_path / "else" / "tiny" / "model.toml").is_file()


def test_a_broken_package_is_listed_with_its_fault(graph: Path, tmp_path: Path) -> None:
    run("add", graph, "--name", "tiny", "--labels", "cup,phone")
    (tmp_path / "models" / "tiny" / "tiny.onnx").write_bytes(b"something else")
    (row,) = [row for row in run_json("list") if row["name"] == "tiny"]
    assert "not the file that model.toml names" in row["fault"]


def test_an_onnx_file_is_inspected_without_a_package(graph: Path, tmp_path: Path) -> None:
    shown = run_json("inspect", graph)
    assert shown["input"] == {"name": "images", "shape": [1, 3, 48, 64], "dtype": "float32"}
    assert shown["shapes"] == {"output": [1, 62, 7]}
    assert shown["families"][0] == {"family": "yolox", "classes": 2}
    assert shown["proposals"]["family"]["value"] == "yolox"
    assert run_json("inspect", classifier_graph(tmp_path / "classes.onnx"))["families"] == []
    open_size = brightness_graph(tmp_path / "open.onnx", YOLOX_2, open_size=True, batch="n")
    assert "--size" in run_json("inspect", open_size)["fault"]
    assert "?, 3, ?, ?" in run("inspect", open_size).stdout


def test_what_was_assumed_is_said_on_stderr(graph: Path) -> None:
    brightness_graph(graph, np.zeros((62, 85), np.float32))
    result = run("add", graph, "--name", "coco", "--json")
    assert "took them for COCO's" in result.stderr
    assert len(json.loads(result.stdout)["labels"]) == 80


def test_a_wrong_label_count_leaves_no_package(graph: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"2 classes apart, but 1 label\(s\)"):
        run("add", graph, "--name", "tiny", "--labels", "cup")
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize("wrong", [("--size", "4by5"), ("--mean", "1,2"), ("--scale", "x"), ("--pad", "300")])
def test_an_option_that_cannot_be_read_is_wrong_usage(graph: Path, wrong: tuple[str, str]) -> None:
    assert run("add", graph, "--name", "tiny", *wrong).exit_code == 2


def test_no_model_at_all_is_said(tmp_path: Path) -> None:
    assert run("list", "--dir", tmp_path / "nothing").exit_code == 0
