"""The cells that anchor-free detectors predict for: one a stride step, row by row, finest stride first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

STRIDES = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32), (8, 16))


def cells(input_size: tuple[int, int], strides: Sequence[int], *, up: bool = False) -> int:
    """How many cells an input of that width and height has. ``up``: a cell cut off by the edge counts too."""
    return sum(columns * rows for columns, rows in _levels(input_size, strides, up))


def strides_for(input_size: tuple[int, int], count: int) -> tuple[int, ...] | None:
    """The usual set of strides that gives so many cells, None if none does."""
    return next((strides for strides in STRIDES if cells(input_size, strides) == count), None)


def grid(
    input_size: tuple[int, int], strides: Sequence[int], *, up: bool = False
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Column and row of each cell, float32 ``[N, 2]``, and its stride, float32 ``[N, 1]``. ``up``: as for ``cells``."""
    corners, steps = [], []
    for stride, (width, height) in zip(strides, _levels(input_size, strides, up), strict=True):
        rows, columns = np.mgrid[:height, :width]
        corners.append(np.stack((columns.ravel(), rows.ravel()), axis=1))
        steps.append(np.full((rows.size, 1), stride))
    return np.concatenate(corners).astype(np.float32), np.concatenate(steps).astype(np.float32)


def _levels(input_size: tuple[int, int], strides: Sequence[int], up: bool) -> list[tuple[int, int]]:
    """Columns and rows of each stride's level."""
    width, height = input_size
    return [(-(-width // step), -(-height // step)) if up else (width // step, height // step) for step in strides]
