"""What a track is called: a vote of its hits, each weighted with its score, so that a flicker changes nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MARGIN = 1.25
"""A challenger takes the label over when it has so many times the incumbent's votes, so that a tie does not flap."""

SAME, SEEN, OTHER = 1.0, 0.9, 0.7
FLICKER_IOU = 0.5


class Votes:
    """N tracks and the classes their hits were given. A class gets a column when it is first seen."""

    def __init__(self) -> None:
        self.labels: dict[int, str] = {}
        self._classes = np.empty(0, dtype=np.int32)  # by column
        self._sorted = np.empty(0, dtype=np.intp)  # the columns by class
        self._votes = np.zeros((0, 0))
        self._winner = np.empty(0, dtype=np.intp)

    def __len__(self) -> int:
        return len(self._winner)

    def columns(self, class_ids: NDArray[np.int32], labels: Sequence[str]) -> NDArray[np.intp]:
        """The column of each class; new classes get one."""
        self.labels.update(zip(class_ids.tolist(), labels, strict=True))
        if len(self.labels) > len(self._classes):
            self._classes = np.array(list(self.labels), dtype=np.int32)
            self._sorted = np.argsort(self._classes)
            self._votes = np.pad(self._votes, ((0, 0), (0, len(self._classes) - self._votes.shape[1])))
        return np.asarray(self._sorted[self._classes[self._sorted].searchsorted(class_ids)])

    def weights(self, rows: NDArray[np.intp], columns: NDArray[np.intp], iou: Array) -> Array:
        """How well the class of a hit fits a track, 0..1, for K pairs of a track, a class column and their IoU.

        A class that the track never had counts only where the boxes lie on each other: the network called the
        same thing by another name. Elsewhere it is another thing.
        """
        weights = np.full(len(rows), SAME)
        other = (self._winner[rows] != columns).nonzero()[0]
        if len(other):
            seen = self._votes[rows[other], columns[other]] > 0.0
            weights[other] = np.where(seen, SEEN, np.where(iou[other] >= FLICKER_IOU, OTHER, 0.0))
        return weights

    def cast(self, rows: NDArray[np.intp], columns: NDArray[np.intp], scores: Array) -> None:
        """Count one hit for each of the ``rows``."""
        self._votes[rows, columns] += scores
        other = (self._winner[rows] != columns).nonzero()[0]
        if len(other):  # a vote for who holds the label cannot take it from him
            self._count(rows[other])

    def _count(self, rows: NDArray[np.intp]) -> None:
        """Who holds the label of the ``rows`` now."""
        best, held = self._votes[rows].argmax(axis=1), self._winner[rows]
        wins = self._votes[rows, best] > MARGIN * self._votes[rows, held]
        self._winner[rows] = np.where(wins, best, held)

    def add(self, columns: NDArray[np.intp], scores: Array) -> None:
        """Begin one track for each of the hits."""
        fresh = np.zeros((len(columns), self._votes.shape[1]))
        fresh[np.arange(len(columns)), columns] = scores
        self._votes = np.concatenate([self._votes, fresh])
        self._winner = np.concatenate([self._winner, columns])

    def keep(self, mask: NDArray[np.bool_]) -> None:
        """Forget the tracks whose ``mask`` is False."""
        self._votes, self._winner = self._votes[mask], self._winner[mask]

    def winners(self) -> list[int]:
        """The class id of each track."""
        winners: list[int] = self._classes[self._winner].tolist()
        return winners
