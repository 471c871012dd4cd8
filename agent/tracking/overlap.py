"""How much boxes overlap: plain, and after growing them by what is not known about their place.

N boxes are an array ``[4, N]`` (x1, y1, x2, y2): each coordinate lies in one piece, over which numpy runs fastest.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Rows = NDArray[np.intp]


class Pairs(NamedTuple):
    """K pairs of a first and a second box: their indices, their IoU, and the IoU of the grown boxes."""

    rows: Rows
    columns: Rows
    iou: Array
    grown: Array


def iou(first: Array, second: Array) -> Array:
    """Intersection over union of xyxy ``[4, N]`` and ``[4, M]``: ``[N, M]``."""
    one, other = first[:, :, None], second[:, None, :]
    common = np.maximum(np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2]), 0.0)
    return _ratio(common, _sides(one), _sides(other))


def meeting(first: Array, second: Array, growth: Array) -> Pairs:
    """The pairs of xyxy ``[4, N]`` and ``[4, M]`` that meet when both boxes grow by ``growth[n]`` pixels on each side.

    Grown boxes still meet when the object moved further than its own size between two frames. After the buffered IoU
    of Yang et al., Hard to Track Objects with Irregular Motions and Similar Appearances? (C-BIoU, WACV 2023), with
    the filter's uncertainty in the place of a constant buffer.
    """
    extra = 2.0 * growth
    rows, columns = _meet(first, second, extra)
    one, other, extra = first.take(rows, axis=1), second.take(columns, axis=1), extra[rows]
    common = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    sides, other_sides = _sides(one), _sides(other)
    plain = _ratio(np.maximum(common, 0.0), sides, other_sides)
    grown = _ratio(np.maximum(common + extra, 0.0), sides + extra, other_sides + extra)
    return Pairs(rows, columns, plain, grown)


def _meet(first: Array, second: Array, extra: Array) -> tuple[Rows, Rows]:
    """The pairs of which each begins before the other ends, ``extra[n]`` granted, along both axes. In float32: most of
    the N * M pairs only get so far, and of the rest those that barely meet count for nothing."""
    ends = np.concatenate([first[2:] + extra, extra - first[:2]], dtype=np.float32)
    begins = np.concatenate([second[:2], -second[2:]], dtype=np.float32)
    met = (ends[:, :, None] > begins[:, None, :]).all(axis=0).ravel().nonzero()[0]
    rows, columns = np.divmod(met, max(second.shape[1], 1))
    return rows, columns


def _sides(boxes: Array) -> Array:
    return boxes[2:] - boxes[:2]


def _ratio(common: Array, one: Array, other: Array) -> Array:
    """Intersection over union of boxes that are given by their two sides ``[2, …]``, and so is what they share."""
    shared = common[0] * common[1]
    return np.asarray(shared / np.maximum(one[0] * one[1] + other[0] * other[1] - shared, 1e-9))
