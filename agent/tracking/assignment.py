"""Which track gets which detection: the pairing of greatest total similarity."""

from __future__ import annotations

import lap
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Rows = NDArray[np.intp]

_REFUSED = 1e3


def assign(rows: Rows, columns: Rows, similarity: Array) -> Rows:
    """Choose among K candidate pairs so that no row and no column is taken twice and the summed similarity is greatest.

    ``rows`` and ``columns``: indices ``[K]``, no pair twice; ``similarity``: 0..1 ``[K]``. Returns the indices of the
    chosen pairs. A pair whose row and whose column have no other candidate is settled at once; what is left goes to
    the Jonker-Volgenant solver of lapx, whose cost grows with the third power of its size.
    """
    if not len(rows):
        return rows
    lone = (np.bincount(rows)[rows] == 1) & (np.bincount(columns)[columns] == 1)
    if lone.all():
        return np.arange(len(rows))
    contested = np.flatnonzero(~lone)
    solved = _solve(rows[contested], columns[contested], similarity[contested])
    return np.concatenate([np.flatnonzero(lone), contested[solved]])


def _solve(rows: Rows, columns: Rows, similarity: Array) -> Rows:
    row, column = _numbered(rows), _numbered(columns)
    cost = np.full((row.max() + 1, column.max() + 1), _REFUSED)
    cost[row, column] = 1.0 - similarity
    chosen: Rows = lap.lapjv(cost, cost_limit=1.0, return_cost=False)[0]
    return np.flatnonzero(chosen[row] == column)


def _numbered(indices: Rows) -> Rows:
    """The indices renumbered from 0 without gaps, so that the solver's matrix holds only what is contested."""
    present = np.zeros(indices.max() + 1, dtype=bool)
    present[indices] = True
    return np.asarray((present.cumsum() - 1)[indices])
