"""Whether what was found is there at all: the proof that a tentative track gathers until it is taken for real."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Rows = NDArray[np.intp]
Mask = NDArray[np.bool_]

STEP = 0.05
"""Seconds between two sights that count as two: what a fast camera sees in two frames running it has seen once."""
EVEN = 0.5
"""A sight of this score says nothing, a higher one speaks for the track."""
SIGHTS = 3
"""So many sights that just reach the confirming score are enough, or fewer surer ones."""
MEMORY = 1.0
"""Seconds over which the mean score is taken, with nothing for a frame in which it was not found."""
FLICKER = 0.6
"""Share of the confirming score that this mean must reach: what is found now and then is a look-alike."""


class Evidence:
    """Of N tracks. ``hits``: sights that each needs at least; ``score``: what the mean of its best ones must reach."""

    def __init__(self, hits: int, score: float) -> None:
        self._score = score
        self._best = np.empty((0, hits))
        self._excess = np.empty(0)
        self._sight = np.empty(0)
        self._since = np.empty(0)
        self._sum = np.empty(0)
        self._weight = np.empty(0)

    def retune(self, hits: int, score: float) -> None:
        """Ask for more or less from now on; of the best sights so far the best are kept."""
        kept = self._best[:, max(0, self._best.shape[1] - hits) :]  # ascending
        self._best = np.pad(kept, ((0, 0), (hits - kept.shape[1], 0)))
        self._score = score

    def add(self, scores: Array, now: float) -> None:
        """Tracks that begin with a sight of these scores ``[K]``."""
        count = len(scores)
        self._best = np.concatenate([self._best, np.zeros((count, self._best.shape[1]))])
        self._excess = np.concatenate([self._excess, np.zeros(count)])
        self._sight = np.concatenate([self._sight, scores])
        self._since = np.concatenate([self._since, np.full(count, now)])
        self._sum = np.concatenate([self._sum, scores])
        self._weight = np.concatenate([self._weight, np.ones(count)])

    def fade(self, dt: float) -> None:
        """Another frame, ``dt`` seconds after the last one; what is not seen in it counts as nothing."""
        decay = math.exp(-dt / MEMORY)
        self._sum *= decay
        self._weight *= decay
        self._weight += 1.0

    def see(self, rows: Rows, scores: Array, now: float) -> None:
        """The tracks ``rows`` were found with these scores."""
        self._sum[rows] += scores
        another = now - self._since[rows] >= STEP
        ended = rows[another]
        best = self._best[ended]
        best[:, 0] = np.maximum(best[:, 0], self._sight[ended])
        self._best[ended] = np.sort(best, axis=1)
        self._excess[ended] += np.maximum(self._sight[ended] - EVEN, 0.0)
        self._since[ended] = now
        self._sight[rows] = np.where(another, scores, np.maximum(self._sight[rows], scores))

    def proven(self, rows: Rows) -> Mask:
        """Which of the tracks ``rows`` are there for certain."""
        best, sight = self._best[rows], self._sight[rows]
        # The sight that goes on takes the place of the worst of the best, where it is better.
        sights = best.sum(axis=1) + np.maximum(sight - best[:, 0], 0.0)
        excess = self._excess[rows] + np.maximum(sight - EVEN, 0.0)
        sure = sights >= self._score * best.shape[1] - 1e-9
        enough = excess >= SIGHTS * max(self._score - EVEN, 0.0) - 1e-9
        return np.asarray(sure & enough & (self._sum[rows] >= FLICKER * self._score * self._weight[rows]))

    def keep(self, mask: Mask) -> None:
        """Forget the tracks whose ``mask`` is False."""
        self._best, self._excess, self._sight = self._best[mask], self._excess[mask], self._sight[mask]
        self._since, self._sum, self._weight = self._since[mask], self._sum[mask], self._weight[mask]
