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
        self._columns: dict[int, int] = {}
        self._votes = np.zeros((0, 0))
        self._winner = np.empty(0, dtype=np.intp)

    def __len__(self) -> int:
        return len(self._winner)

    def columns(self, class_ids: NDArray[np.int32], labels: Sequence[str]) -> NDArray[np.intp]:
        """The column of each class; new classes get one."""
        ids = class_ids.tolist()
        self.labels.update(zip(ids, labels, strict=True))
        if len(self.labels) > len(self._columns):
            for class_id in self.labels:
                self._columns.setdefault(class_id, len(self._columns))
            self._votes = np.pad(self._votes, ((0, 0), (0, len(self._columns) - self._votes.shape[1])))
        return np.array(list(map(self._columns.__getitem__, ids)), dtype=np.intp)

    def weights(self, rows: NDArray[np.intp], columns: NDArray[np.intp], iou: Array) -> Array:
        """How well the class of a hit fits a track, 0..1, for K pairs of a track, a class column and their IoU.

        A class that the track never had counts only where the boxes lie on each other: the network called the
        same thing by another name. Elsewhere it is another thing.
        """
        seen = np.where(self._votes[rows, columns] > 0.0, SEEN, np.where(iou >= FLICKER_IOU, OTHER, 0.0))
        return np.where(self._winner[rows] == columns, SAME, seen)

    def cast(self, rows: NDArray[np.intp], columns: NDArray[np.intp], scores: Array) -> None:
        """Count one hit for each of the ``rows``."""
        self._votes[rows, columns] += scores
        best = self._votes[rows].argmax(axis=1)
        held = self._winner[rows]
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
        ids = list(self._columns)
        return [ids[column] for column in self._winner.tolist()]
