"""How much boxes overlap: plain, and after growing them by what is not known about their place."""

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
    """Intersection over union of xyxy ``[N, 4]`` and ``[M, 4]``: ``[N, M]``."""
    low, high = np.maximum(first[:, None, 0], second[:, 0]), np.minimum(first[:, None, 2], second[:, 2])
    wide = np.maximum(high - low, 0.0)
    low, high = np.maximum(first[:, None, 1], second[:, 1]), np.minimum(first[:, None, 3], second[:, 3])
    shared = wide * np.maximum(high - low, 0.0)
    union = _area(_sides(first))[:, None] + _area(_sides(second)) - shared
    return np.asarray(shared / np.maximum(union, 1e-9))


def meeting(first: Array, second: Array, growth: Array) -> Pairs:
    """The pairs of xyxy ``[N, 4]`` and ``[M, 4]`` that meet when both boxes grow by ``growth[n]`` pixels on each side.

    Grown boxes still meet when the object moved further than its own size between two frames. After the buffered IoU
    of Yang et al., Hard to Track Objects with Irregular Motions and Similar Appearances? (C-BIoU, WACV 2023), with
    the filter's uncertainty in the place of a constant buffer.
    """
    extra = 2.0 * growth
    rows, columns = _meet_along(0, first, second, extra)
    one, other = first.take(rows, axis=0), second.take(columns, axis=0)
    upright = np.minimum(one[:, 3], other[:, 3]) - np.maximum(one[:, 1], other[:, 1])
    met = (upright > -extra[rows]).nonzero()[0]
    rows, columns = rows[met], columns[met]
    one, other, extra = one.take(met, axis=0), other.take(met, axis=0), extra[rows, None]
    common = np.minimum(one[:, 2:], other[:, 2:]) - np.maximum(one[:, :2], other[:, :2])
    plain = _ratio(np.maximum(common, 0.0), _sides(one), _sides(other))
    grown = _ratio(np.maximum(common + extra, 0.0), _sides(one) + extra, _sides(other) + extra)
    return Pairs(rows, columns, plain, grown)


def _meet_along(axis: int, first: Array, second: Array, extra: Array) -> tuple[Rows, Rows]:
    """The pairs whose extents along one axis meet. In float32: most of the N * M pairs only get so far."""
    low, high = first[:, axis, None].astype(np.float32), first[:, axis + 2, None].astype(np.float32)
    other_low, other_high = second[:, axis].astype(np.float32), second[:, axis + 2].astype(np.float32)
    common = np.minimum(high, other_high) - np.maximum(low, other_low)
    met = (common > -extra[:, None].astype(np.float32)).ravel().nonzero()[0]
    rows, columns = np.divmod(met, max(len(second), 1))
    return rows, columns


def _sides(boxes: Array) -> Array:
    return boxes[:, 2:] - boxes[:, :2]


def _area(sides: Array) -> Array:
    return np.asarray(sides[:, 0] * sides[:, 1])


def _ratio(common: Array, one: Array, other: Array) -> Array:
    """Intersection over union of K pairs, all given by their two sides ``[K, 2]``."""
    shared = _area(common)
    return np.asarray(shared / np.maximum(_area(one) + _area(other) - shared, 1e-9))
