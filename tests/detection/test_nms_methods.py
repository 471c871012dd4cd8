"""Fast and matrix NMS beside the exact one."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agent.detection.nms import fast_nms, matrix_decayed, nms, suppress


def crowd(seed: int, count: int = 60) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 60, (count, 2))
    boxes = np.concatenate([low, low + rng.uniform(2, 40, (count, 2))], axis=1).astype(np.float32)
    return boxes, rng.uniform(0, 1, count).astype(np.float32), rng.integers(0, 3, count).astype(np.int32)


def overlap(a: Any, b: Any) -> float:
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    common = float(np.prod(np.maximum(sides, 0)))
    return common / (float(np.prod(a[2:] - a[:2])) + float(np.prod(b[2:] - b[:2])) - common)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.3, 0.6]))
def test_fast_keeps_what_no_better_box_of_the_class_overlaps_which_exact_keeps_too(seed: int, iou: float) -> None:
    boxes, scores, classes = crowd(seed)
    kept = set(fast_nms(boxes, scores, classes, iou, 300).tolist())
    order = np.argsort(-scores, kind="stable").tolist()
    for place, index in enumerate(order):
        better = [one for one in order[:place] if classes[one] == classes[index]]
        assert (index in kept) == (not any(overlap(boxes[one], boxes[index]) > iou for one in better))
    assert kept <= set(nms(boxes, scores, classes, iou, 300).tolist())


@given(st.integers(0, 2**32 - 1))
def test_matrix_lowers_scores_as_its_formula_says_and_never_raises_one(seed: int) -> None:
    boxes, scores, classes = crowd(seed, 12)
    lowered = matrix_decayed(boxes, scores, classes)
    order = np.argsort(-scores, kind="stable").tolist()
    for place, index in enumerate(order):
        factors = [1.0]
        for rank, one in enumerate(order[:place]):
            iou = overlap(boxes[one], boxes[index]) if classes[one] == classes[index] else 0.0
            worse = [overlap(boxes[k], boxes[one]) for k in order[:rank] if classes[k] == classes[one]]
            if iou > 0:
                factors.append((1 - iou) / max(1 - max(worse, default=0.0), 1e-6))
        np.testing.assert_allclose(lowered[index], scores[index] * min(factors), rtol=1e-3, atol=1e-5)
    assert (lowered <= scores * (1 + 1e-6)).all()


def test_every_method_copes_with_nothing_and_with_one_box() -> None:
    none = np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int32)
    one = np.array([[0, 0, 4, 4]], np.float32), np.array([0.5], np.float32), np.array([0], np.int32)
    for method in ("exact", "fast", "matrix"):
        assert suppress(method, *none, 0.5, 10)[0].tolist() == []
        assert suppress(method, *one, 0.5, 10)[0].tolist() == [0]
