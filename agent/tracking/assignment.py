"""Which track gets which detection: the pairing of greatest total similarity."""

from __future__ import annotations

import lap
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Rows = NDArray[np.intp]

EXACT = 1e-9
"""Two equal pairs are left to the solver: both cannot be settled."""
TIE = 1e-12
"""What a column's number counts against it, so that of two equal pairs always the one with the lower column is chosen:
detections come with the surest first."""
FEW = 24
"""So many pairs are looked through one by one in less time than by arrays, and the solver has chosen among them sooner
than they are looked through once more."""


def assign(rows: Rows, columns: Rows, similarity: Array) -> Rows:
    """Choose among K candidate pairs so that no row and no column is taken twice and the summed similarity is greatest.

    ``rows`` and ``columns``: indices ``[K]``, no pair twice; ``similarity``: 0..1 ``[K]``. Returns the indices of the
    chosen pairs. A pair that is worth at least as much as all others of its row and of its column together is settled
    at once: whoever gave it up could win no more by it. What is left goes to the Jonker-Volgenant solver of lapx, whose
    cost grows with the third power of its size.
    """
    if len(rows) <= FEW and len(set(rows.tolist())) == len(set(columns.tolist())) == len(rows):
        return np.arange(len(rows))  # nobody wants what another wants
    chosen: list[Rows] = []
    left, row, column, worth = np.arange(len(rows)), rows, columns, similarity
    while len(left):
        of_row, of_column = np.bincount(row, worth), np.bincount(column, worth)
        settled = (3.0 * worth >= of_row[row] + of_column[column] + EXACT).nonzero()[0]
        chosen.append(left[settled])
        of_row[row[settled]] = of_column[column[settled]] = -1.0
        still = ((of_row[row] >= 0.0) & (of_column[column] >= 0.0)).nonzero()[0]
        left, row, column, worth = left[still], row[still], column[still], worth[still]
        if not len(settled) or len(left) <= FEW:
            break
    if len(left):
        chosen.append(left[_solve(row, column, worth)])
    return np.concatenate(chosen) if chosen else left


def _solve(rows: Rows, columns: Rows, similarity: Array) -> Rows:
    """What is no candidate is worth nothing, so that all can be paired off in a square."""
    row, column = _numbered(rows), _numbered(columns)
    size = max(max(row), max(column)) + 1
    cost = np.ones((size, size))
    cost[row, column] = 1.0 - similarity + TIE * columns
    chosen: Rows = lap.lapjv(cost, return_cost=False)[0]
    return np.asarray((chosen[row] == column).nonzero()[0])


def _numbered(indices: Rows) -> list[int]:
    """The indices renumbered from 0 without gaps, so that the solver's matrix holds only what is contested."""
    numbers: dict[int, int] = {}
    return [numbers.setdefault(index, len(numbers)) for index in indices.tolist()]
