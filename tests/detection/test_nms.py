from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from agent.detection.nms import nms

Scene = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int32]]


def overlap(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Intersection over union of two boxes, one number after the other."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    common = float(width) * float(height)
    return common / (float(a[2] - a[0]) * float(a[3] - a[1]) + float(b[2] - b[0]) * float(b[3] - b[1]) - common)


def greedy(boxes: NDArray[Any], scores: NDArray[Any], classes: NDArray[Any], iou: float, most: int) -> list[int]:
    """The textbook's loop."""
    kept: list[int] = []
    for index in sorted(range(len(scores)), key=lambda index: -scores[index]):
        same = [other for other in kept if classes[other] == classes[index]]
        if all(overlap(boxes[other], boxes[index]) <= iou for other in same):
            kept.append(index)
    return kept[:most]


@st.composite
def scenes(draw: st.DrawFn, most: int = 40) -> Scene:
    """Boxes on a coarse grid, so that many of them overlap, touch or coincide."""
    count = draw(st.integers(0, most))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 12, (count, 2))
    sizes = rng.integers(0, 8, (count, 2))
    boxes = np.concatenate([corners, corners + sizes], axis=1).astype(np.float32)
    scores = (rng.integers(0, 20, count) / 20).astype(np.float32)
    return boxes, scores, rng.integers(0, 3, count).astype(np.int32)


@given(scenes(), st.sampled_from([0.0, 0.3, 0.45, 0.65, 1.0]), st.sampled_from([1, 5, 300]))
def test_it_keeps_what_the_textbooks_loop_keeps_in_the_same_order(scene: Scene, iou: float, most: int) -> None:
    assert nms(*scene, iou, most).tolist() == greedy(*scene, iou, most)


@given(scenes())
def test_what_stays_is_sorted_and_does_not_overlap_within_a_class(scene: Scene) -> None:
    boxes, scores, classes = scene
    kept = nms(boxes, scores, classes, 0.5, 300)
    assert (np.diff(scores[kept]) <= 0).all()
    for place, index in enumerate(kept):
        for other in kept[:place]:
            assert classes[index] != classes[other] or overlap(boxes[index], boxes[other]) <= 0.5


@given(scenes())
def test_a_second_pass_changes_nothing(scene: Scene) -> None:
    boxes, scores, classes = scene
    kept = nms(boxes, scores, classes, 0.5, 300)
    again = nms(boxes[kept], scores[kept], classes[kept], 0.5, 300)
    assert again.tolist() == list(range(len(kept)))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(400, 700))
def test_more_boxes_than_are_looked_at_first_give_the_same_as_the_textbooks_loop(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 100, (count, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(1, 40, (count, 2))], axis=1).astype(np.float32)
    scores = rng.uniform(0, 1, count).astype(np.float32)
    classes = rng.integers(0, 4, count).astype(np.int32)
    assert nms(boxes, scores, classes, 0.5, 300).tolist() == greedy(boxes, scores, classes, 0.5, 300)


@pytest.mark.filterwarnings("error")
def test_boxes_of_no_or_infinite_size_suppress_nothing() -> None:
    boxes = np.array([[0, 0, np.inf, np.inf], [1, 1, 1, 1], [1, 1, 1, 1], [5, 5, 2, 2], [0, 0, 9, 9]], np.float32)
    kept = nms(boxes, np.array([0.9, 0.8, 0.7, 0.6, 0.5], np.float32), np.zeros(5, np.int32), 0.5, 300)
    assert kept.tolist() == [0, 1, 2, 3, 4]


@given(scenes())
def test_classes_however_many_do_not_touch_each_other(scene: Scene) -> None:
    boxes, scores, classes = scene
    away = np.concatenate([boxes - 500, boxes + 5000])
    both = nms(away, np.tile(scores, 2), np.concatenate([classes + 79, classes]), 0.5, 300)
    alone = nms(boxes, scores, classes, 0.5, 300)
    assert sorted(both % len(scores)) == sorted([*alone, *alone]) if len(scores) else not len(both)
