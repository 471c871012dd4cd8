"""How far two detectors agree on the same pictures, where nobody knows the truth: matched boxes and their scores.

Pure: detections in, numbers out. Accuracy against ground truth is accuracy.py's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agent.data import Detections

SAME_OBJECT = 0.5
"""Boxes of one class that overlap by this IoU are the same object."""


class Agreement(NamedTuple):
    """``f1`` of matched boxes (1 where neither found anything), and the mean absolute difference of their scores."""

    f1: float
    score_difference: float


class Match(NamedTuple):
    """Indices into both sides and the IoU, all ``[M]``."""

    first: NDArray[np.intp]
    second: NDArray[np.intp]
    iou: NDArray[np.float32]


def matched(first: Detections, second: Detections) -> Match:
    """Pairs of boxes of one class with an IoU of at least .5, greedily from the surest of ``first``; each box once."""
    overlap = _iou(first.boxes, second.boxes)
    overlap[first.class_ids[:, None] != second.class_ids[None]] = 0.0
    pairs = []
    for row in np.argsort(-first.scores, kind="stable"):
        if not overlap.shape[1]:
            break
        column = int(overlap[row].argmax())
        if overlap[row, column] >= SAME_OBJECT:
            pairs.append((int(row), column, overlap[row, column]))
            overlap[:, column] = 0.0
    rows, columns, values = zip(*pairs, strict=True) if pairs else ((), (), ())
    return Match(np.array(rows, np.intp), np.array(columns, np.intp), np.array(values, np.float32))


def agreement(reference: Sequence[Detections], other: Sequence[Detections]) -> Agreement:
    """F1 of the boxes of ``other`` against those of ``reference``, picture by picture, over all of them."""
    pairs = found = 0
    differences: list[NDArray[np.float32]] = []
    for one, two in zip(reference, other, strict=True):
        match = matched(one, two)
        pairs += len(match.first)
        found += len(one.scores) + len(two.scores)
        differences.append(np.abs(one.scores[match.first] - two.scores[match.second]))
    every = np.concatenate(differences) if differences else np.empty(0, np.float32)
    return Agreement(2 * pairs / found if found else 1.0, float(every.mean()) if len(every) else 0.0)


def disagreement(reference: Sequence[Detections], other: Sequence[Detections]) -> float:
    """What ``other`` gets wrong, as a share of the scores of ``reference``: 0 where both are equal.

    A matched box costs its difference in score, and what its IoU lacks of 1 times its score; a box that one side alone
    has costs its score. It changes with every small error, which F1 does not, so it ranks nodes of a graph well.
    """
    cost = total = 0.0
    for one, two in zip(reference, other, strict=True):
        match = matched(one, two)
        score = one.scores[match.first]
        cost += float(np.abs(score - two.scores[match.second]).sum() + (score * (1 - match.iou)).sum())
        cost += float(np.delete(one.scores, match.first).sum() + np.delete(two.scores, match.second).sum())
        total += float(one.scores.sum())
    return cost / total if total else cost


def _iou(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(-1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(-1) for boxes in (first, second)]
    union = areas[0][:, None] + areas[1][None] - common
    iou: NDArray[np.float32] = common / np.maximum(union, 1e-9)
    return iou
