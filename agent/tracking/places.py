"""The zones, lines and masks of one camera in pixels: who stands in what, who crossed what, with a little hysteresis.

One frame at a time, many objects at once. What it means that somebody is there is presence.py's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from agent.config import Anchor, LineConfig, MaskConfig, ZoneConfig
from agent.errors import ConfigError
from agent.tracking.geometry import area, crossed, crosses_itself, distances, inside

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

MARGIN = 0.1
"""Body lengths by which an object must be outside to have left a zone, or beside a line to have crossed it: boxes
tremble."""
LEAST_AREA = 1e-5
"""Of the picture. A region that is smaller is a slip."""


class Seen:
    """N objects in one picture: ``boxes`` xyxy ``[N, 4]``, ``labels``, and the picture's width and height."""

    def __init__(self, boxes: Array, labels: Sequence[str], size: tuple[int, int]) -> None:
        self.boxes = boxes
        self.labels = labels
        self.size = size
        self._everyone = np.ones(len(labels), dtype=bool)
        self._anchors: dict[Anchor, Array] = {}
        self._lengths: Array | None = None

    def anchors(self, which: Anchor) -> Array:
        """The point of each that counts, ``[N, 2]``: the middle of its lower edge or of all; never outside the
        picture, whose lower edge belongs to it."""
        if which not in self._anchors:
            x = (self.boxes[:, 0] + self.boxes[:, 2]) / 2.0
            y = self.boxes[:, 3] if which == "foot" else (self.boxes[:, 1] + self.boxes[:, 3]) / 2.0
            width, height = self.size
            inside_x = np.minimum(np.maximum(x, 0.5), width - 0.5)
            self._anchors[which] = np.stack([inside_x, np.minimum(np.maximum(y, 0.5), height - 0.5)], axis=1)
        return self._anchors[which]

    def lengths(self) -> Array:
        """The body length of each, pixels ``[N]``."""
        if self._lengths is None:
            sides = np.maximum(self.boxes[:, 2:] - self.boxes[:, :2], 1.0)
            self._lengths = np.asarray(np.sqrt(sides[:, 0] * sides[:, 1]))
        return self._lengths

    def wanted(self, labels: Sequence[str]) -> Mask:
        """Which are of these labels; all when there are none. Not to be written to."""
        if not labels:
            return self._everyone
        return np.array([label in labels for label in self.labels], dtype=bool)


def check_region(points: Sequence[tuple[float, float]], what: str) -> None:
    """Raise ConfigError, with ``what`` before it, for a polygon whose edges cross or that holds nothing."""
    polygon = np.array(points, dtype=np.float64)
    if crosses_itself(polygon):
        raise ConfigError(f"{what}: the edges of its polygon cross each other; give its corners in their order")
    if area(polygon) < LEAST_AREA:
        raise ConfigError(f"{what}: its polygon has no area; the corners are fractions of the picture, 0 to 1")


class Region:
    """One polygon and those who stand in it."""

    def __init__(self, place: ZoneConfig | MaskConfig) -> None:
        self.labels = place.labels
        self._anchor: Anchor = place.anchor
        self._fractions = np.array(place.polygon, dtype=np.float64)

    def holds(self, seen: Seen) -> Mask:
        """Who stands in it now."""
        holds = inside(seen.anchors(self._anchor), self._fractions * seen.size)
        return holds & seen.wanted(self.labels) if self.labels else holds

    def keeps(self, seen: Seen, were: Mask) -> Mask:
        """The same, where those who ``were`` in it have left only when they are outside by a margin."""
        holds = self.holds(seen)
        doubtful = were & ~holds & seen.wanted(self.labels)
        if doubtful.any():
            points = seen.anchors(self._anchor)[doubtful]
            near = distances(points, self._fractions * seen.size, closed=True) < MARGIN * seen.lengths()[doubtful]
            holds[np.flatnonzero(doubtful)[near]] = True
        return holds


class Line:
    """One line and on which side of it everybody was last seen for sure, by a number of theirs."""

    def __init__(self, config: LineConfig) -> None:
        self.config = config
        self.name = config.name
        self.directions = config.directions
        self._labels = config.labels
        self._anchor: Anchor = config.anchor
        self._fractions = np.array(config.points, dtype=np.float64)
        self._settled: dict[int, tuple[float, ...]] = {}

    def crossings(self, seen: Seen, ids: Sequence[int]) -> dict[int, int]:
        """By id: 0 for who crossed from its left to its right (of ``directions`` the first), 1 for the other way."""
        line, points = self._fractions * seen.size, seen.anchors(self._anchor)
        clear = distances(points, line, closed=False) >= MARGIN * seen.lengths()
        rows = np.flatnonzero(clear & seen.wanted(self._labels))
        now, owners = points[rows], [ids[row] for row in rows.tolist()]
        before = np.array(
            [self._settled.get(owner, tuple(point)) for owner, point in zip(owners, now.tolist(), strict=True)],
            dtype=np.float64,
        ).reshape(-1, 2)
        signs = crossed(before, now, line).tolist()
        self._settled.update(zip(owners, map(tuple, now.tolist()), strict=True))
        return {owner: int(sign < 0) for owner, sign in zip(owners, signs, strict=True) if sign}

    def forget(self, object_id: int) -> None:
        """It is gone."""
        self._settled.pop(object_id, None)
