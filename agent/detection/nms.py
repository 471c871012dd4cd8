"""Non-maximum suppression: of boxes of one class that overlap too much, the best stays.

Exact is the greedy rule that everybody means by NMS, by OpenCV; fast and matrix do it in one step. Exact, which stops
when enough boxes stay, is the fastest too: of YOLOX-nano's 100, 1,000 and 3,000 best candidates .09, 2.7 and 3.0 ms a
picture, where matrix takes 3.4, 6.6 and 7.6 times that; mAP50-95 (mAP50) .3488 (.5082), fast .3453 (.5086), matrix
.3521 (.4990) (benchmarks/nms.py). None of them compares boxes of different classes.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Method = Literal["exact", "fast", "matrix"]

BLOCK = 400
FARTHEST = 1e6
LEAST = np.float32(1e-30)
"""OpenCV leaves out boxes whose score is 0: none is lower than this to it."""
MOST_AT_ONCE = 1000
"""Fast and matrix compare so many of the best with each other; their one matrix grows with the square."""


def suppress(
    method: Method,
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    class_ids: NDArray[np.int32],
    iou: float,
    max_detections: int,
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """By that method: indices of the boxes that stay, by score descending, and all scores (matrix lowers them)."""
    if method == "matrix":
        scores = matrix_decayed(boxes, scores, class_ids)
        kept = np.flatnonzero(scores > 0)
        order = kept[np.argsort(-scores[kept], kind="stable")]
        return order[:max_detections], scores
    chosen = (fast_nms if method == "fast" else nms)(boxes, scores, class_ids, iou, max_detections)
    return chosen, scores


def fast_nms(
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    class_ids: NDArray[np.int32],
    iou: float,
    max_detections: int,
) -> NDArray[np.intp]:
    """As ``nms``, but a box that was suppressed suppresses others all the same: one matrix, no order to follow, and a
    few boxes fewer. Source: Bolya et al., YOLACT, section 3.3, https://arxiv.org/abs/1904.02689."""
    order = np.argsort(-scores, kind="stable")[:MOST_AT_ONCE]
    sides, classes = np.ascontiguousarray(boxes[order].T), class_ids[order]
    with np.errstate(invalid="ignore", over="ignore"):
        later = np.triu(_conflicts(sides, classes, iou), k=1)
    return order[~later.any(axis=0)][:max_detections]


def matrix_decayed(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], class_ids: NDArray[np.int32]
) -> NDArray[np.float32]:
    """Scores ``[N]``, each lowered by the better boxes of its class that overlap it; nothing is removed but what is
    below the best thousand (0).

    decay = min over better boxes i of (1 - iou_ij) / (1 - max_k iou_ki): one that is itself suppressed counts for less.
    Source: Wang et al., SOLOv2, section 3.3, linear form, https://arxiv.org/abs/2003.10152.
    """
    order = np.argsort(-scores, kind="stable")[:MOST_AT_ONCE]
    overlap = np.triu(_overlaps(np.ascontiguousarray(boxes[order].T), class_ids[order]), k=1)
    covered = overlap.max(axis=0, initial=0.0)
    ratio = (1 - overlap) / np.maximum(1 - covered[:, None], 1e-6)
    decay = np.where(overlap > 0, ratio, 1.0).min(axis=0, initial=1.0)
    lowered = np.zeros_like(scores)
    lowered[order] = scores[order] * decay
    return lowered


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
    ``iou``. ``boxes``: ``[N, 4]`` xyxy; those without an area overlap nothing. ``scores``: 0..1 ``[N]``, of which those
    below 1e-30 are equal. Of many the sorted ones are taken in blocks, each with what stays so far, and the work ends
    when enough stay.
    """
    if len(scores) <= BLOCK:
        return _greedy(boxes, scores, class_ids, iou)[:max_detections]
    order: NDArray[np.intp] = np.argsort(-scores, kind="stable")
    kept = order[:0]
    for start in range(0, len(order), BLOCK):
        some = np.concatenate((kept, order[start : start + BLOCK]))
        kept = some[_greedy(boxes[some], scores[some], class_ids[some], iou)]
        if len(kept) >= max_detections:
            break
    return kept[:max_detections]


def _greedy(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], class_ids: NDArray[np.int32], iou: float
) -> NDArray[np.intp]:
    """All that stay, as ``nms`` says. OpenCV knows no classes: they are laid beside each other here, too far apart to
    overlap."""
    if len(boxes) < 2:
        return np.arange(len(boxes))
    rects = boxes.astype(np.float64)
    np.minimum(np.maximum(rects, -FARTHEST, out=rects), FARTHEST, out=rects)  # an infinite box is as large as can be
    rects[:, 2:] -= rects[:, :2]
    rects[:, 0] += class_ids * (4 * FARTHEST)
    if rects[:, 2:].min() <= 0:  # those without an area overlap nothing; to OpenCV all of them would be one
        empty = (rects[:, 2:] <= 0).any(axis=1)
        rects[empty] = [(-4 * FARTHEST - 2 * number, 0, 1, 1) for number in range(int(empty.sum()))]
    # It reads lists of boxes faster than an array of them, and leaves those of equal scores in their order.
    return np.asarray(cv2.dnn.NMSBoxes(rects.tolist(), np.maximum(scores, LEAST), 0.0, iou), np.intp)


def _overlaps(sides: NDArray[np.float32], classes: NDArray[np.int32]) -> NDArray[np.float32]:
    """IoU of each pair of boxes of one class, else 0: ``[N, N]``."""
    a, b = sides[:, :, None], sides[:, None, :]
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        width = np.minimum(a[2], b[2]) - np.maximum(a[0], b[0])
        height = np.minimum(a[3], b[3]) - np.maximum(a[1], b[1])
        common = np.maximum(width, 0) * np.maximum(height, 0)
        iou = common / (_area(a) + _area(b) - common)
    overlaps: NDArray[np.float32] = np.where(classes[:, None] == classes[None], np.nan_to_num(iou), 0)
    return overlaps


def _conflicts(sides: NDArray[np.float32], classes: NDArray[np.int32], iou: float) -> NDArray[np.bool_]:
    """``[N, N]``: same class and IoU above the threshold (without a division: empty boxes overlap nothing)."""
    a, b = sides[:, :, None], sides[:, None, :]
    width = np.minimum(a[2], b[2]) - np.maximum(a[0], b[0])
    height = np.minimum(a[3], b[3]) - np.maximum(a[1], b[1])
    common = np.maximum(width, 0) * np.maximum(height, 0)
    union = _area(a) + _area(b) - common
    result: NDArray[np.bool_] = (common > np.float32(iou) * union) & (classes[:, None] == classes[None])
    return result


def _area(sides: NDArray[np.float32]) -> NDArray[np.float32]:
    area: NDArray[np.float32] = (sides[2] - sides[0]) * (sides[3] - sides[1])
    return area
