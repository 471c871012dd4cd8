"""Average precision of boxes on scenes, by pycocotools: what shows too little is ignored, as COCO ignores crowds."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from desk_scenes import LEAST_VISIBLE
from numpy.typing import NDArray

from agent.sources.desk.compose import Truth
from agent.sources.desk.things import LABELS


class Found(NamedTuple):
    """One detection: xyxy in pixels of the picture."""

    label: str
    score: float
    box: tuple[float, float, float, float]


class Score(NamedTuple):
    """Mean average precision over the classes at IoU .50, over IoU .50:.95, and at IoU .50 by class."""

    map50: float
    map50_95: float
    by_class: dict[str, float]


def _xywh(box: Sequence[float]) -> list[float]:
    return [float(box[0]), float(box[1]), float(box[2] - box[0]), float(box[3] - box[1])]


def _annotations(truths: Sequence[Sequence[Truth]]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for image, objects in enumerate(truths):
        for one in objects:
            box = _xywh(one.box)
            row = {"id": len(rows) + 1, "image_id": image, "category_id": LABELS.index(one.label), "bbox": box}
            rows.append(row | {"area": box[2] * box[3], "iscrowd": int(one.visible < LEAST_VISIBLE)})
    return rows


def _results(found: Sequence[Sequence[Found]]) -> list[dict[str, Any]]:
    return [
        {"image_id": image, "category_id": LABELS.index(one.label), "bbox": _xywh(one.box), "score": float(one.score)}
        for image, ones in enumerate(found)
        for one in ones
    ]


def score(found: Sequence[Sequence[Found]], truths: Sequence[Sequence[Truth]]) -> Score:
    """Detections against truths, picture by picture."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    results = _results(found)
    if not results:
        return Score(0.0, 0.0, dict.fromkeys(LABELS, 0.0))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "info": {},
            "images": [{"id": image} for image in range(len(truths))],
            "categories": [{"id": index, "name": label} for index, label in enumerate(LABELS)],
            "annotations": _annotations(truths),
        }
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precision: NDArray[np.float64] = evaluation.eval["precision"][0, :, :, 0, 2]
    by_class = {label: float(precision[:, index].mean()) for index, label in enumerate(LABELS)}
    return Score(float(evaluation.stats[1]), float(evaluation.stats[0]), by_class)
