"""Points, polygons and lines in the plane, many points at once. What lies in what is all that is asked here."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


def inside(points: Array, polygon: Array) -> Mask:
    """Which of the points ``[N, 2]`` lie in the polygon ``[K, 2]``, by the even-odd rule; its corners in any order of
    turning, the last joined to the first. What lies exactly on an edge may count either way."""
    start, end = polygon, np.roll(polygon, -1, axis=0)
    x, y = points[:, 0, None], points[:, 1, None]
    spans = (start[:, 1] > y) != (end[:, 1] > y)
    rise = np.where(end[:, 1] == start[:, 1], 1.0, end[:, 1] - start[:, 1])
    crosses = spans & (x < (end[:, 0] - start[:, 0]) * (y - start[:, 1]) / rise + start[:, 0])
    return np.asarray(crosses.sum(axis=1) % 2 == 1)


def distances(points: Array, corners: Array, *, closed: bool) -> Array:
    """How far each of the points ``[N, 2]`` is from the nearest piece of a chain of corners ``[K, 2]``: ``[N]``."""
    start = corners if closed else corners[:-1]
    along = (np.roll(corners, -1, axis=0) if closed else corners[1:]) - start
    offset = points[:, None, :] - start
    length = np.maximum((along**2).sum(axis=1), 1e-12)
    share = np.clip((offset * along).sum(axis=2) / length, 0.0, 1.0)
    return np.asarray(np.sqrt(((offset - share[:, :, None] * along) ** 2).sum(axis=2).min(axis=1)))


def crossed(before: Array, after: Array, line: Array) -> NDArray[np.int64]:
    """How the steps from ``before`` to ``after`` (both ``[N, 2]``) cross a line of corners ``[K, 2]``: ``[N]``.

    1: from its left to its right as one walks from its first corner to its last, in a picture whose y grows
    downwards; -1: the other way; 0: not at all, or there and back. What lies on the line lies left of it.
    """
    start, end = line[:-1], line[1:]
    here, there = _side(before, start, end), _side(after, start, end)
    first, second = _side_of_ends(start, before, after), _side_of_ends(end, before, after)
    meets = ((here <= 0.0) != (there <= 0.0)) & ((first <= 0.0) != (second <= 0.0))
    return np.asarray(np.sign(np.where(meets, np.where(there > here, 1, -1), 0).sum(axis=1)))


def _side(points: Array, start: Array, end: Array) -> Array:
    """``[N, K]``: above 0 for points on the right of each piece of the line."""
    along, offset = end - start, points[:, None, :] - start
    return np.asarray(along[:, 0] * offset[:, :, 1] - along[:, 1] * offset[:, :, 0])


def _side_of_ends(corners: Array, before: Array, after: Array) -> Array:
    """``[N, K]``: on which side of each step the corners lie."""
    along, offset = (after - before)[:, None, :], corners[None, :, :] - before[:, None, :]
    return np.asarray(along[:, :, 0] * offset[:, :, 1] - along[:, :, 1] * offset[:, :, 0])


def crosses_itself(polygon: Array) -> bool:
    """Whether two edges of a polygon ``[K, 2]`` that are not neighbours meet."""
    count = len(polygon)
    for index in range(count):
        first = polygon[[index]], polygon[[(index + 1) % count]]
        others = [other for other in range(index + 2, count) if (other + 1) % count != index]
        if any(crossed(*first, polygon[[other, (other + 1) % count]])[0] for other in others):
            return True
    return False


def area(polygon: Array) -> float:
    """Of a polygon ``[K, 2]`` that does not cross itself: the shoelace formula."""
    x, y = polygon[:, 0], polygon[:, 1]
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2.0)
