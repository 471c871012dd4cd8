"""Which boxes stay where they are, and since when. The boxes come from the tracker."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Rows = NDArray[np.intp]
Mask = NDArray[np.bool_]

REACH = 0.35
"""Body lengths from where it came to rest within which a box stays in its place: detectors tremble."""
AWAY = 1.0
"""Seconds that one which has long been still must be elsewhere to have moved: somebody who passes in front of it cuts
its box for a moment."""
GONE = 0.75
"""Body lengths from its place at which it has moved at once: no cut box lies so far off."""


class Stillness:
    """N boxes in pixels. ``after``: seconds in one place from which on a box is still."""

    def __init__(self, after: float) -> None:
        self._after = after
        self._place = np.empty((2, 0))
        self._since = np.empty(0)
        self._away = np.empty(0)

    def retune(self, after: float) -> None:
        """Another patience from now on."""
        self._after = after

    def add(self, centres: Array, now: float) -> None:
        """Boxes that are seen for the first time, by their centres ``[2, K]``."""
        count = centres.shape[1]
        self._place = np.concatenate([self._place, centres], axis=1)
        self._since = np.concatenate([self._since, np.full(count, now)])
        self._away = np.concatenate([self._away, np.full(count, np.inf)])

    def see(self, rows: Rows, centres: Array, lengths: Array, now: float) -> None:
        """Where the centres ``[2, K]`` of the boxes ``rows`` are now, and their body lengths ``[K]``."""
        across, upright = centres - self._place.take(rows, axis=1)
        off = np.hypot(across, upright) / lengths
        away = (off > REACH).nonzero()[0]
        left_since = self._away[rows[away]]
        self._away[rows] = np.inf
        if len(away):
            self._stray(rows[away], centres.take(away, axis=1), off[away], np.minimum(left_since, now), now)

    def _stray(self, rows: Rows, centres: Array, off: Array, since: Array, now: float) -> None:
        """Those off their place, ``since`` when: for a moment, or have they moved?"""
        self._away[rows] = since
        patience = AWAY * (now - self._since[rows] >= self._after)
        moved = ((off > GONE) | (now - since >= patience)).nonzero()[0]
        gone = rows[moved]
        self._place[:, gone], self._since[gone], self._away[gone] = centres.take(moved, axis=1), now, np.inf

    def keep(self, mask: Mask) -> None:
        """Forget the boxes whose ``mask`` is False."""
        self._place, self._since, self._away = self._place[:, mask], self._since[mask], self._away[mask]

    def lasted(self, last: Array) -> Array:
        """Seconds that each had been in its place when it was ``last`` seen; 0 for what was on its way from there."""
        return np.asarray(np.where(np.isinf(self._away), last - self._since, 0.0))

    def still(self, last: Array) -> Mask:
        """Which were still when they were ``last`` seen."""
        return np.asarray(last - self._since >= self._after)
