"""Points, polygons and lines in the plane, many points at once. What lies in what is all that is asked here."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


def inside(points: Array, polygon: Array) -> Mask:
    """Which of the points ``[N, 2]`` lie in the polygon ``[K, 2]``, by the even-odd rule; its corners in any order of
    turning, the last joined to the first. What lies exactly on an edge may count either way."""
    x, y = points.T
    start, end = _edges(polygon, closed=True)
    (x1, y1), (x2, y2) = _upright(start), _upright(end)
    spans = (y1 > y) != (y2 > y)
    rise = np.where(y2 == y1, 1.0, y2 - y1)
    crosses = spans & (x < (x2 - x1) * (y - y1) / rise + x1)
    return np.asarray(np.logical_xor.reduce(crosses, axis=0))


def distances(points: Array, corners: Array, *, closed: bool) -> Array:
    """How far each of the points ``[N, 2]`` is from the nearest piece of a chain of corners ``[K, 2]``: ``[N]``."""
    x, y = points.T
    start, end = _edges(corners, closed=closed)
    (x1, y1), (along_x, along_y) = _upright(start), _upright(end - start)
    off_x, off_y = x - x1, y - y1
    length = np.maximum(along_x**2 + along_y**2, 1e-12)
    share = np.minimum(np.maximum((off_x * along_x + off_y * along_y) / length, 0.0), 1.0)
    squares = (off_x - share * along_x) ** 2 + (off_y - share * along_y) ** 2
    return np.asarray(np.sqrt(squares.min(axis=0)))


def crossed(before: Array, after: Array, line: Array) -> NDArray[np.int64]:
    """How the steps from ``before`` to ``after`` (both ``[N, 2]``) cross a line of corners ``[K, 2]``: ``[N]``.

    1: from its left to its right as one walks from its first corner to its last, in a picture whose y grows
    downwards; -1: the other way; 0: not at all, or there and back. What lies on the line lies left of it.
    """
    start, end = _edges(line, closed=False)
    here, there = _side(before, start, end), _side(after, start, end)
    first, second = _side_of_ends(start, before, after), _side_of_ends(end, before, after)
    meets = ((here <= 0.0) != (there <= 0.0)) & ((first <= 0.0) != (second <= 0.0))
    return np.asarray(np.sign(np.where(meets, np.where(there > here, 1, -1), 0).sum(axis=0)))


def _edges(corners: Array, *, closed: bool) -> tuple[Array, Array]:
    """Where the pieces of a chain of corners begin and where they end."""
    if closed:
        return corners, np.concatenate([corners[1:], corners[:1]])
    return corners[:-1], corners[1:]


def _upright(corners: Array) -> tuple[Array, Array]:
    """Their x and their y, each ``[K, 1]``: with a row of N points before it numpy runs fastest."""
    return corners[:, :1], corners[:, 1:]


def _side(points: Array, start: Array, end: Array) -> Array:
    """``[K, N]``: above 0 for points on the right of each piece of the line."""
    (x, y), (x1, y1), (along_x, along_y) = points.T, _upright(start), _upright(end - start)
    return np.asarray(along_x * (y - y1) - along_y * (x - x1))


def _side_of_ends(corners: Array, before: Array, after: Array) -> Array:
    """``[K, N]``: on which side of each step the corners lie."""
    (x1, y1), (x, y), (along_x, along_y) = _upright(corners), before.T, (after - before).T
    return np.asarray(along_x * (y1 - y) - along_y * (x1 - x))


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
