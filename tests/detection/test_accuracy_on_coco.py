"""What `detect --format coco` writes, judged by pycocotools against an independent implementation's figures."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pytest
from click.testing import CliRunner

from agent.cli.detect import command
from agent.detection.add import Wishes, add_model
from agent.engines.onnx import OnnxEngine

# mAP50-95 and mAP50 on the 64 images, measured with another program; ours may differ by TOLERANCE.
FIGURES = [
    ("yolox_nano_416", 0.3476, 0.5073),
    ("nanodet_m_320", 0.2965, 0.4587),
    ("yolo11n_int8_agpl", 0.3290, 0.4575),
    ("yolo26n_int8_agpl", 0.4372, 0.6339),
]
TOLERANCE = 0.005


def mean_average_precision(truth: Path, results: Path) -> tuple[float, float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(truth))
        evaluation = COCOeval(coco, coco.loadRes(str(results)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0]), float(evaluation.stats[1])


@pytest.mark.parametrize(("name", "map50_95", "map50"), FIGURES, ids=[name for name, *_ in FIGURES])
def test_mean_average_precision_on_coco_is_that_of_an_independent_implementation(
    material: Path, tmp_path: Path, name: str, map50_95: float, map50: float
) -> None:
    onnx = material / "models" / f"{name}.onnx"
    package = add_model(onnx, Wishes(name=name, labels="coco80"), tmp_path, OnnxEngine, replace=False).package
    truth = material / "images" / "coco" / "instances_val.json"
    options = ["--model", package.folder, "--out", tmp_path, "--format", "coco", "--annotations", truth]
    measure = ["--score", "0.001", "--iou", "0.65", "--max-detections", "300"]
    images = material / "images" / "coco" / "val"
    result = CliRunner().invoke(command, [str(argument) for argument in (images, *options, *measure)])
    assert result.exit_code == 0, result.output
    measured = mean_average_precision(truth, tmp_path / "detections.json")
    assert measured == pytest.approx((map50_95, map50), abs=TOLERANCE)
