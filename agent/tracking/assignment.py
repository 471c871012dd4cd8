"""Which track gets which detection: the pairing of greatest total similarity."""

from __future__ import annotations

import lap
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Rows = NDArray[np.intp]

_REFUSED = 1e3
EXACT = 1e-9
"""Two equal pairs are left to the solver: both cannot be settled."""


def assign(rows: Rows, columns: Rows, similarity: Array) -> Rows:
    """Choose among K candidate pairs so that no row and no column is taken twice and the summed similarity is greatest.

    ``rows`` and ``columns``: indices ``[K]``, no pair twice; ``similarity``: 0..1 ``[K]``. Returns the indices of the
    chosen pairs. A pair that is worth at least as much as all others of its row and of its column together is settled
    at once: whoever gave it up could win no more by it. What is left goes to the Jonker-Volgenant solver of lapx, whose
    cost grows with the third power of its size.
    """
    chosen: list[Rows] = []
    left = np.arange(len(rows))
    while len(left):
        row, column, worth = rows[left], columns[left], similarity[left]
        of_row, of_column = np.bincount(row, worth), np.bincount(column, worth)
        settled = 3.0 * worth >= of_row[row] + of_column[column] + EXACT
        if not settled.any():
            chosen.append(left[_solve(row, column, worth)])
            break
        chosen.append(left[settled])
        of_row[row[settled]] = of_column[column[settled]] = -1.0
        left = left[(of_row[row] >= 0.0) & (of_column[column] >= 0.0)]
    return np.concatenate(chosen) if chosen else left


def _solve(rows: Rows, columns: Rows, similarity: Array) -> Rows:
    row, column = _numbered(rows), _numbered(columns)
    cost = np.full((row.max() + 1, column.max() + 1), _REFUSED)
    cost[row, column] = 1.0 - similarity
    chosen: Rows = lap.lapjv(cost, cost_limit=1.0, return_cost=False)[0]
    return np.asarray((chosen[row] == column).nonzero()[0])


def _numbered(indices: Rows) -> Rows:
    """The indices renumbered from 0 without gaps, so that the solver's matrix holds only what is contested."""
    present = np.zeros(indices.max() + 1, dtype=bool)
    present[indices] = True
    return np.asarray((present.cumsum() - 1)[indices])
