"""Families and sources that installed plugins bring, on the command line."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from graphs import brightness_graph

from agent import hookimpl
from agent.cli.detect import command as detect
from agent.cli.model import command as model
from agent.detection.decoders.base import Candidates
from agent.host import loading
from agent.host.extensions import extensions


class Tripled:
    """A family of one output [1, 3, 6]: end2end with the score first."""

    family: ClassVar[str] = "tripled"
    needs_nms: ClassVar[bool] = False

    def __init__(self, input_size: tuple[int, int], classes: int) -> None:
        pass

    @staticmethod
    def matches(shapes: Any, input_size: tuple[int, int]) -> int | None:
        (shape,) = shapes.values()
        return 2 if tuple(shape[1:]) == (3, 6) else None

    def decode(self, outputs: Any, min_score: float) -> list[Candidates]:
        (raw,) = outputs.values()
        rows = raw[0][raw[0][:, 0] >= min_score]
        return [Candidates(rows[:, 1:5], rows[:, 0], rows[:, 5].astype(np.int32))]


class Bringer:
    """Brings the family."""

    @hookimpl
    def register_decoders(self, register: Callable[[str, Any], None]) -> None:
        register("tripled", Tripled)


class Broken:
    """Fails while it is made."""

    def __init__(self) -> None:
        raise RuntimeError("no licence")

    @hookimpl
    def register_decoders(self, register: Callable[[str, Any], None]) -> None:
        """Never called."""


def entries(*classes: type) -> list[EntryPoint]:
    return [EntryPoint(one.__name__.lower(), f"{__name__}:{one.__name__}", loading.GROUP) for one in classes]


def test_a_family_of_a_plugin_can_be_added_inspected_and_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: entries(Bringer))
    rows = np.zeros((3, 6), np.float32)
    rows[0] = (0.9, 8, 8, 40, 40, 1)
    graph = brightness_graph(tmp_path / "tripled.onnx", rows, np.zeros_like(rows))
    picture = tmp_path / "a.png"
    cv2.imwrite(str(picture), np.full((96, 128, 3), 90, np.uint8))
    runner = CliRunner()
    told = json.loads(runner.invoke(model, ["inspect", str(graph), "--json"]).output)
    assert "tripled" in [one["family"] for one in told["families"]]
    words = ["add", str(graph), "--name", "three", "--family", "tripled", "--labels", "cup,phone"]
    feed = ["--colour", "rgb", "--scale", "1", "--mean", "0", "--resize", "stretch", "--pad", "0"]
    added = runner.invoke(model, [*words, *feed, "--dir", str(tmp_path / "models")])
    assert added.exit_code == 0, added.output
    out = tmp_path / "out"
    done = runner.invoke(detect, [str(picture), "--model", str(tmp_path / "models" / "three"), "--out", str(out)])
    assert done.exit_code == 0, done.output
    (line,) = (out / "detections.jsonl").read_text().splitlines()
    assert [found["label"] for found in json.loads(line)["detections"]] == ["phone"]
    monkeypatch.setenv("EDGEWARDEN_CACHE", str(tmp_path / "cache"))
    three = str(tmp_path / "models" / "three")
    made = runner.invoke(
        model,
        [
            "prepare",
            three,
            "--precisions",
            "fp16,int8",
            "--calibrate",
            str(picture),
            "--evaluate",
            str(picture),
            "--json",
        ],
    )
    assert made.exit_code == 0, made.output
    told = [row["precision"] for row in json.loads(made.stdout)["variants"]]
    assert told == ["fp32", "fp16"]
    assert "int8: left out: nothing in this graph multiplies" in made.stderr
    judged = runner.invoke(model, ["evaluate", three, "--data", str(picture), "--json"])
    assert [row["f1"] for row in json.loads(judged.stdout)["variants"]] == [1.0, 1.0]


def test_a_plugin_that_fails_is_told_and_the_others_count(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = extensions(entries(Broken, Bringer))
    assert found.decoders == {"tripled": Tripled}
    assert "plugin broken: what it brings cannot be used: RuntimeError: no licence" in caplog.text
