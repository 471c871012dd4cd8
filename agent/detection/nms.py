"""Non-maximum suppression: of boxes of one class that overlap too much, the best stays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK = 128


def nms(
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    class_ids: NDArray[np.int32],
    iou: float,
    max_detections: int,
) -> NDArray[np.intp]:
    """Indices of the boxes that stay, by score descending (equal scores: the earlier one first), the first
    ``max_detections`` of them.

    Exact and greedy: a box goes when one that stays, of its class and a higher score, overlaps it by more than
    ``iou``. ``boxes``: ``[N, 4]`` xyxy. The sorted boxes are taken in blocks: each block is compared with all that
    stay so far in one matrix and then within itself, and the work ends when enough stay.
    """
    order = np.argsort(-scores, kind="stable")
    sides = np.ascontiguousarray(boxes[order].T)
    classes = class_ids[order]
    kept = np.empty(0, np.intp)
    for start in range(0, len(order), BLOCK):
        block = np.arange(start, min(start + BLOCK, len(order)))
        with np.errstate(invalid="ignore", over="ignore"):  # a box of infinite size overlaps nothing
            if len(kept):
                block = block[~_conflicts(sides, classes, kept, block, iou).any(axis=0)]
            kept = np.concatenate((kept, block[_survivors(_conflicts(sides, classes, block, block, iou))]))
        if len(kept) >= max_detections:
            break
    return order[kept[:max_detections]]


def _conflicts(
    sides: NDArray[np.float32],
    classes: NDArray[np.int32],
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    iou: float,
) -> NDArray[np.bool_]:
    """``[rows, columns]``: same class and IoU above the threshold (without a division: empty boxes overlap nothing)."""
    a, b = sides[:, rows, None], sides[:, None, columns]
    width = np.minimum(a[2], b[2]) - np.maximum(a[0], b[0])
    height = np.minimum(a[3], b[3]) - np.maximum(a[1], b[1])
    common = np.maximum(width, 0) * np.maximum(height, 0)
    union = _area(a) + _area(b) - common
    result: NDArray[np.bool_] = (common > np.float32(iou) * union) & (classes[rows, None] == classes[None, columns])
    return result


def _area(sides: NDArray[np.float32]) -> NDArray[np.float32]:
    area: NDArray[np.float32] = (sides[2] - sides[0]) * (sides[3] - sides[1])
    return area


def _survivors(conflicts: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which of a block stay, greedily in order; only rows that suppress anything are walked through."""
    later = np.triu(conflicts, k=1)
    alive = np.ones(len(later), np.bool_)
    for row in np.flatnonzero(later.any(axis=1)):
        if alive[row]:
            alive &= ~later[row]
    return alive
