"""YOLOX: anchor-free, decoupled head, objectness beside the classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from agent.detection.decoders.base import Candidates
from agent.detection.decoders.grid import grid, strides_for
from agent.detection.decoders.shapes import boxes_from_centres, only
from agent.engines.base import Head
from agent.errors import ModelError


class Yolox:
    """One output ``[B, N, 5 + C]``, N cells of strides 8, 16, 32: ``x, y, w, h, objectness, class…``, raw boxes.

    centre = (xy + cell) * stride, size = exp(wh) * stride, score = objectness * class; the last two are sigmoids
    already. Source: Ge et al., YOLOX: Exceeding YOLO Series in 2021, https://arxiv.org/abs/2107.08430, and the ONNX
    export of https://github.com/Megvii-BaseDetection/YOLOX (without ``--decode_in_inference``).
    """

    family: ClassVar[str] = "yolox"
    needs_nms: ClassVar[bool] = True

    def __init__(self, input_size: tuple[int, int], classes: int) -> None:
        self._input_size = input_size
        self._corners = np.empty((2, 0), np.float32)
        self._strides = np.empty(0, np.float32)

    @staticmethod
    def matches(shapes: Mapping[str, Sequence[int]], input_size: tuple[int, int]) -> int | None:
        """Classes of a single ``[1, N, 5 + C]`` whose N is the number of cells."""
        shape = only(shapes)
        if shape is None or shape[2] < 6 or strides_for(input_size, shape[1]) is None:
            return None
        return shape[2] - 5

    def decode(self, outputs: Mapping[str, NDArray[np.generic]], min_score: float) -> list[Candidates]:
        """Candidates at or above ``min_score``, in network pixels."""
        (raw,) = outputs.values()
        if raw.shape[1] != len(self._strides):
            self._make_grid(raw.shape[1])
        return [self._picture(rows, np.float32(min_score)) for rows in raw]

    def heads(self, shapes: Mapping[str, Sequence[int]]) -> tuple[Head, ...]:
        """The same for a device."""
        ((name, shape),) = shapes.items()
        self._make_grid(shape[1])
        cells = np.vstack((self._corners, self._strides)).T
        return (Head(name, name, "cell", shape[2] - 5, cells, objectness=4, class_at=5),)

    def _picture(self, rows: NDArray[np.generic], min_score: np.float32) -> Candidates:
        # No class lifts a cell above its objectness, so most cells go before anything is computed for them.
        cells = (rows[:, 4] >= min_score).nonzero()[0]
        near = rows.take(cells, axis=0).astype(np.float32, copy=False)
        class_ids = near[:, 5:].argmax(axis=1)
        scores = near[:, 4] * near[np.arange(len(near)), class_ids + 5]
        keep = (scores >= min_score).nonzero()[0]
        boxes = self._boxes(near.T[:4].take(keep, axis=1), cells[keep])
        return Candidates(boxes, scores[keep], class_ids[keep].astype(np.int32))

    def _boxes(self, raw: NDArray[np.float32], cells: NDArray[np.intp]) -> NDArray[np.float32]:
        """Of ``x, y, w, h``, raw, ``[4, N]``: numpy is fastest along the cells."""
        strides = self._strides[cells]
        with np.errstate(over="ignore"):  # a wild size becomes infinite, and is clipped to the picture
            sizes = np.exp(raw[2:]) * strides
        centres = (raw[:2] + self._corners.take(cells, axis=1)) * strides
        return boxes_from_centres(centres.T, sizes.T)

    def _make_grid(self, count: int) -> None:
        strides = strides_for(self._input_size, count)
        if strides is None:
            raise ModelError(f"yolox: {count} predictions fit no input of {self._input_size[0]}x{self._input_size[1]}")
        corners, steps = grid(self._input_size, strides)
        self._corners, self._strides = np.ascontiguousarray(corners.T), steps[:, 0]
