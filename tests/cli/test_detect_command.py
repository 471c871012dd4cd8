from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result
from graphs import brightness_graph

from agent.cli.detect import command
from agent.detection.add import Wishes, add_model
from agent.engines.onnx import OnnxEngine
from agent.errors import AgentError, MissingError, ModelError

# One cup whose score is the picture's brightness, one phone that is always seen.
ROWS = np.array([[8, 8, 40, 40, 0.0, 0], [0, 0, 64, 48, 0.5, 1]], np.float32)
WEIGHT = np.zeros_like(ROWS)
WEIGHT[0, 4] = 1.0


@pytest.fixture
def model(tmp_path: Path) -> Path:
    graph = brightness_graph(tmp_path / "tiny.onnx", ROWS, WEIGHT)
    wishes = Wishes(name="tiny", labels="cup,phone", resize="stretch")
    return add_model(graph, wishes, tmp_path / "models", OnnxEngine, replace=False).package.folder


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, grey in (("img1.png", 0), ("img2.png", 230), ("img10.png", 128)):
        cv2.imwrite(str(folder / name), np.full((96, 128, 3), grey, np.uint8))
    return folder


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    if isinstance(result.exception, AgentError):
        raise result.exception
    return result


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "detections.jsonl").read_text().splitlines()]


def test_every_picture_of_a_folder_gets_a_line_in_natural_order(model: Path, pictures: Path, tmp_path: Path) -> None:
    result = run(pictures, "--model", model, "--out", tmp_path / "out", "--json")
    assert result.exit_code == 0
    summary = json.loads(result.stdout)
    assert (summary["pictures"], summary["detections"], summary["errors"]) == (3, 5, [])
    assert summary["files"] == [str(tmp_path / "out" / "detections.jsonl")]
    found = lines(tmp_path / "out")
    assert [line["file_name"] for line in found] == ["img1.png", "img2.png", "img10.png"]
    assert [[d["label"] for d in line["detections"]] for line in found] == [
        ["phone"],
        ["cup", "phone"],
        ["cup", "phone"],
    ]
    assert found[1]["detections"][0]["box"] == [16, 16, 80, 80]


def test_a_bad_picture_is_told_in_one_line_and_the_others_are_done(model: Path, pictures: Path, tmp_path: Path) -> None:
    (pictures / "img3.jpg").touch()
    result = run(pictures, "--model", model, "--out", tmp_path / "out", "--json")
    assert result.exit_code == 1
    assert [line for line in result.stderr.splitlines() if "img3.jpg" in line] == [
        f"edgewarden: {pictures / 'img3.jpg'}: is an empty file"
    ]
    assert len(json.loads(result.stdout)["errors"]) == 1
    assert len(lines(tmp_path / "out")) == 3


def test_a_clip_gets_a_line_a_frame_and_an_annotated_clip(model: Path, tmp_path: Path) -> None:
    clip = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for grey in range(0, 250, 25):
        clip.write(np.full((48, 64, 3), grey, np.uint8))
    clip.release()
    out = tmp_path / "out"
    result = run(tmp_path / "clip.avi", "--model", model, "--out", out, "--format", "jsonl,annotated", "--score", "0.2")
    assert result.exit_code == 0
    assert [(line["frame"], line["position"]) for line in lines(out)] == [(i, pytest.approx(i / 10)) for i in range(10)]
    scores = [line["detections"][0]["score"] for line in lines(out)]
    assert scores == sorted(scores)
    assert cv2.VideoCapture(str(out / "annotated" / "clip.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 10
    run(tmp_path / "clip.avi", "--model", model, "--out", out, "--frames", 4)
    assert len(lines(out)) == 4


def test_coco_results_take_their_ids_from_the_annotations(model: Path, pictures: Path, tmp_path: Path) -> None:
    truth = {
        "images": [{"id": 7, "file_name": "img1.png"}, {"id": 9, "file_name": "img2.png"}],
        "categories": [{"id": 47, "name": "cup"}, {"id": 77, "name": "phone"}],
    }
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    out = tmp_path / "out"
    arguments = ("--model", model, "--out", out, "--format", "coco")
    result = run(pictures, *arguments, "--annotations", tmp_path / "gt.json")
    entries = json.loads((out / "detections.json").read_text())
    assert [(e["image_id"], e["category_id"]) for e in entries] == [(7, 77), (9, 47), (9, 77)]
    assert "left out that the annotations do not hold" in result.stderr
    run(pictures, *arguments)
    entries = json.loads((out / "detections.json").read_text())
    assert [(e["image_id"], e["category_id"]) for e in entries] == [(1, 1), (2, 0), (2, 1), (3, 0), (3, 1)]


def test_a_source_or_model_that_is_not_there_ends_it_before_any_work(
    model: Path, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for sources in ([pictures, tmp_path / "nothing.jpg"], [tmp_path / "nowhere"]):
        with pytest.raises(MissingError) as error:
            run(*sources, "--model", model, "--out", out)
        assert error.value.exit_code == 69
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingError, match="no images or clips in this folder"):
        run(tmp_path / "empty", "--model", model, "--out", out)
    with pytest.raises(MissingError, match="no such model package"):
        run(pictures, "--model", "nothing", "--out", out)
    assert not out.exists()


def test_a_precision_that_the_package_has_not_is_refused(model: Path, pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has no int8 variant, only fp32"):
        run(pictures, "--model", model, "--out", tmp_path / "out", "--precision", "int8")


def test_an_unknown_format_is_wrong_usage(model: Path, pictures: Path, tmp_path: Path) -> None:
    result = run(pictures, "--model", model, "--out", tmp_path / "out", "--format", "jsonl,xml")
    assert result.exit_code == 2
    assert "'xml' is none of jsonl, coco, annotated" in result.stderr


def test_an_output_folder_that_cannot_be_made_is_named(model: Path, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AgentError, match="cannot be made"):
        run(pictures, "--model", model, "--out", tmp_path / "file" / "out")


def test_a_truncated_clip_keeps_what_could_be_read(model: Path, material: Path, tmp_path: Path) -> None:
    whole = (material / "video" / "classroom.mjpg.avi").read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: len(whole) // 2])
    result = run(tmp_path / "cut.avi", "--model", model, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "cut.avi" in result.stderr
    assert 10 < len(lines(tmp_path / "out")) < 45


def test_openvino_finds_the_same(model: Path, pictures: Path, tmp_path: Path) -> None:
    for backend in ("onnxruntime", "openvino"):
        out = tmp_path / backend
        assert run(pictures, "--model", model, "--out", out, "--backend", backend).exit_code == 0
    one, other = (lines(tmp_path / backend) for backend in ("onnxruntime", "openvino"))
    assert [line["file_name"] for line in one] == [line["file_name"] for line in other]
    for mine, its in zip(one, other, strict=True):
        assert [d["label"] for d in mine["detections"]] == [d["label"] for d in its["detections"]]
        np.testing.assert_allclose(
            [d["score"] for d in mine["detections"]], [d["score"] for d in its["detections"]], atol=1e-4
        )
