"""The cells that anchor-free detectors predict for: one a stride step, row by row, finest stride first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

STRIDES = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32), (8, 16))


def cells(input_size: tuple[int, int], strides: Sequence[int]) -> int:
    """How many cells an input of that width and height has."""
    width, height = input_size
    return sum((width // stride) * (height // stride) for stride in strides)


def strides_for(input_size: tuple[int, int], count: int) -> tuple[int, ...] | None:
    """The usual set of strides that gives so many cells, None if none does."""
    return next((strides for strides in STRIDES if cells(input_size, strides) == count), None)


def grid(input_size: tuple[int, int], strides: Sequence[int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Column and row of each cell, float32 ``[N, 2]``, and its stride, float32 ``[N, 1]``."""
    width, height = input_size
    corners, steps = [], []
    for stride in strides:
        rows, columns = np.mgrid[: height // stride, : width // stride]
        corners.append(np.stack((columns.ravel(), rows.ravel()), axis=1))
        steps.append(np.full((rows.size, 1), stride))
    return np.concatenate(corners).astype(np.float32), np.concatenate(steps).astype(np.float32)
