"""Whatever stands in the outputs of a broken graph, a detector answers, and its answer is finite."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from test_more_decoders import FAMILIES, SIZE, Family

from agent.data import Detections, Frame
from agent.detection.decoders.boxes_scores import Detr
from agent.detection.decoders.yolov5 import Yolov7EndToEnd
from agent.detection.detector import Detector
from agent.detection.manifest import InputSpec, Variant
from agent.detection.model import ModelPackage
from agent.engines.base import TensorSpec

BAD = [math.nan, math.inf, -math.inf, 3e38, -1.0]
PICTURE: NDArray[np.uint8] = np.zeros((128, 192, 3), np.uint8)


class Recorded:
    """An engine whose outputs are given."""

    backend = "recorded"
    slots = 1
    max_batch: int | None = None
    outputs: tuple[TensorSpec, ...] = ()

    def __init__(self, outputs: Mapping[str, NDArray[Any]]) -> None:
        self.input = TensorSpec("images", (None, 3, SIZE[1], SIZE[0]), "float32")
        self._outputs = outputs

    def submit(self, batch: NDArray[np.generic]) -> int:
        return len(batch)

    def collect(self, ticket: int) -> Mapping[str, NDArray[Any]]:
        return self._outputs

    def close(self) -> None:
        pass


def found(family: str, classes: int, outputs: Mapping[str, NDArray[Any]], pictures: int = 1) -> list[Detections]:
    package = ModelPackage(
        name="poisoned",
        family=family,
        labels=tuple(f"class {number}" for number in range(classes)),
        input=InputSpec(size=SIZE),
        variant=(Variant(precision="fp32", file="tiny.onnx", sha256="0" * 64),),
        folder=Path("nowhere"),
    )
    detector = Detector(package, Recorded(outputs), score=0.3)
    return detector.collect(detector.submit([Frame("door", n, PICTURE, 0.0, 0.0) for n in range(pictures)]))


def is_sound(one: Detections, classes: int) -> bool:
    boxes = one.boxes
    inside = (boxes >= 0).all() and (boxes <= [192, 128, 192, 128]).all() and (boxes[:, 2:] > boxes[:, :2]).all()
    points = one.landmarks is None or bool(np.isfinite(one.landmarks).all())
    known = ((one.class_ids >= 0) & (one.class_ids < classes)).all()
    return bool(inside and np.isfinite(one.scores).all() and (np.diff(one.scores) <= 0).all() and points and known)


def draw_detr(rng: np.random.Generator, batch: int) -> dict[str, NDArray[Any]]:
    boxes, logits = rng.uniform(0.1, 0.5, (batch, 20, 4)), rng.normal(0, 2, (batch, 20, 3))
    return {"logits": logits.astype(np.float32), "pred_boxes": boxes.astype(np.float32)}


def draw_end_to_end(rng: np.random.Generator, batch: int) -> dict[str, NDArray[Any]]:
    low, score = rng.uniform(0, 60, (20, 2)), rng.uniform(0, 1, (20, 1))
    parts = [np.zeros((20, 1)), low, low + rng.uniform(1, 30, (20, 2)), rng.integers(0, 2, (20, 1)), score]
    return {"output": np.concatenate(parts, axis=1).astype(np.float32)}


MORE = [
    pytest.param(Family(Detr, 3, draw_detr, lambda _: []), id="detr"),
    pytest.param(Family(Yolov7EndToEnd, 2, draw_end_to_end, lambda _: []), id="yolov7-end2end"),
]


@pytest.mark.parametrize("family", FAMILIES + MORE)
@pytest.mark.filterwarnings("error::RuntimeWarning")
@given(seed=st.integers(0, 2**32 - 1), bad=st.sampled_from(BAD), everywhere=st.booleans())
def test_whatever_stands_in_the_outputs_the_answer_is_finite_and_in_the_picture(
    family: Family, seed: int, bad: float, everywhere: bool
) -> None:
    rng = np.random.default_rng(seed)
    outputs = family.draw(rng, 1)
    for array in outputs.values():
        flat = array.reshape(-1)
        flat[slice(None) if everywhere else rng.integers(0, array.size, max(1, array.size // 10))] = bad
    (one,) = found(family.decoder.family, family.classes, outputs)
    assert is_sound(one, family.classes)


@pytest.mark.parametrize("bad", [*BAD, 1e9, 0.5])
def test_a_row_of_no_picture_of_the_batch_is_passed_over(bad: float) -> None:
    rows = np.array([[1, 5, 6, 70, 40, 0, 0.5], [bad, 1, 2, 30, 40, 0, 0.75]], np.float32)
    first, second = found(Yolov7EndToEnd.family, 2, {"output": rows}, pictures=2)
    assert (len(first), len(second)) == (0, 1)
