"""NanoDet and NanoDet-Plus: anchor-free, each side of a box a distribution over distances (GFL)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agent.detection.decoders.base import Candidates
from agent.detection.decoders.grid import cells, grid
from agent.engines.base import Head
from agent.errors import ModelError

BINS = 8
SIDES = 4 * BINS
LEVELS = ((8, 16, 32), (8, 16, 32, 64))


class Layout(NamedTuple):
    """``scores`` and ``sides``: names of the outputs, finest stride first; the same one where both are one output."""

    strides: tuple[int, ...]
    scores: tuple[str, ...]
    sides: tuple[str, ...]
    classes: int


class Nanodet:
    """Classes and sides, level by level or in one output.

    NanoDet-m: ``[B, N, C]`` and ``[B, N, 32]`` for each of the strides 8, 16, 32; NanoDet-Plus: one ``[B, N, C + 32]``,
    strides 8, 16, 32, 64. A cell that the edge cuts off counts. Scores are sigmoids already. A side is the mean of the
    distances 0..7 under the softmax of its 8 bins, times the stride; box = centre -+ sides. centre = cell * stride +
    (stride - 1) / 2 for NanoDet-m, and cell * stride for NanoDet-Plus. Source: Li et al., Generalized Focal Loss,
    https://arxiv.org/abs/2006.04388, and the heads of https://github.com/RangiLyu/nanodet (gfl_head.py,
    nanodet_plus_head.py).
    """

    family: ClassVar[str] = "nanodet"
    needs_nms: ClassVar[bool] = True

    def __init__(self, input_size: tuple[int, int], classes: int) -> None:
        self._input_size = input_size
        self._layout: Layout | None = None
        self._centres = np.empty((0, 2), np.float32)
        self._strides = np.empty((0, 1), np.float32)

    @staticmethod
    def matches(shapes: Mapping[str, Sequence[int]], input_size: tuple[int, int]) -> int | None:
        """Classes, where each level has as many rows as it has cells and 32 numbers for the sides."""
        layout = _layout(shapes, input_size)
        return None if layout is None else layout.classes

    def decode(self, outputs: Mapping[str, NDArray[np.generic]], min_score: float) -> list[Candidates]:
        """Candidates at or above ``min_score``, in network pixels."""
        layout = self._layout or self._lay_out({name: array.shape for name, array in outputs.items()})
        if layout.scores == layout.sides:
            (raw,) = outputs.values()
            levels = [(raw[..., : layout.classes], raw[..., layout.classes :])]
        else:
            levels = [(outputs[one], outputs[other]) for one, other in zip(layout.scores, layout.sides, strict=True)]
        pictures = range(len(levels[0][0]))
        return [self._picture([(a[at], b[at]) for a, b in levels], np.float32(min_score)) for at in pictures]

    def heads(self, shapes: Mapping[str, Sequence[int]]) -> tuple[Head, ...]:
        """The same for a device: a head a level."""
        layout = self._lay_out(shapes)
        table = np.concatenate((self._centres, self._strides), axis=1)
        ends = np.cumsum([shapes[name][1] for name in layout.scores])
        levels = zip(layout.scores, layout.sides, np.split(table, ends[:-1]), strict=True)
        box_at = layout.classes if layout.scores == layout.sides else 0
        return tuple(Head(scores, sides, "sides", layout.classes, at, box_at=box_at) for scores, sides, at in levels)

    def _picture(
        self, levels: Sequence[tuple[NDArray[np.generic], NDArray[np.generic]]], min_score: np.float32
    ) -> Candidates:
        """``levels``: scores ``[N, classes]`` and sides ``[N, 32]`` of each. Cells without a score are left early."""
        rows = [np.unique(np.flatnonzero(scores >= min_score) // scores.shape[1]) for scores, _ in levels]
        scores = np.concatenate([one[at] for (one, _), at in zip(levels, rows, strict=True)])
        sides = np.concatenate([one[at] for (_, one), at in zip(levels, rows, strict=True)])
        starts = np.cumsum([0, *(len(one) for one, _ in levels[:-1])])
        cells = np.concatenate([at + start for at, start in zip(rows, starts, strict=True)])
        class_ids = scores.argmax(axis=1)
        best = scores[np.arange(len(scores)), class_ids].astype(np.float32, copy=False)
        keep = np.flatnonzero(best >= min_score)  # a NaN beside a score makes the cell worthless
        cells = cells[keep]
        distances = _distances(sides[keep].astype(np.float32, copy=False)) * self._strides[cells]
        boxes = np.concatenate(
            (self._centres[cells] - distances[:, :2], self._centres[cells] + distances[:, 2:]), axis=1
        )
        return Candidates(boxes, best[keep], class_ids[keep].astype(np.int32))

    def _lay_out(self, shapes: Mapping[str, Sequence[int]]) -> Layout:
        layout = _layout(shapes, self._input_size)
        if layout is None:
            raise ModelError(f"nanodet: these outputs fit no input of {self._input_size[0]}x{self._input_size[1]}")
        corners, self._strides = grid(self._input_size, layout.strides, up=True)
        plus = layout.scores == layout.sides
        self._centres = corners * self._strides + (0 if plus else (self._strides - 1) / 2)
        self._layout = layout
        return layout


def _distances(sides: NDArray[np.float32]) -> NDArray[np.float32]:
    """``[N, 32]`` logits to left, top, right, bottom ``[N, 4]`` in strides."""
    bins = sides.reshape(len(sides), 4, BINS)
    weights = np.exp(bins - bins.max(axis=2, keepdims=True))
    distances: NDArray[np.float32] = weights @ np.arange(BINS, dtype=np.float32) / weights.sum(axis=2)
    return distances


def _layout(shapes: Mapping[str, Sequence[int]], input_size: tuple[int, int]) -> Layout | None:
    if any(len(shape) != 3 for shape in shapes.values()):
        return None
    for strides in LEVELS:
        found = _one(shapes, input_size, strides) or _by_level(shapes, input_size, strides)
        if found is not None:
            return found
    return None


def _one(shapes: Mapping[str, Sequence[int]], input_size: tuple[int, int], strides: tuple[int, ...]) -> Layout | None:
    if len(shapes) != 1:
        return None
    ((name, shape),) = shapes.items()
    fits = shape[1] == cells(input_size, strides, up=True) and shape[2] > SIDES
    return Layout(strides, (name,), (name,), shape[2] - SIDES) if fits else None


def _by_level(
    shapes: Mapping[str, Sequence[int]], input_size: tuple[int, int], strides: tuple[int, ...]
) -> Layout | None:
    if len(shapes) != 2 * len(strides):
        return None
    scores, sides = [], []
    for stride in strides:
        rows = [name for name, shape in shapes.items() if shape[1] == cells(input_size, (stride,), up=True)]
        narrow = [name for name in rows if shapes[name][2] == SIDES]
        others = [name for name in rows if name not in narrow[-1:]]  # with 32 classes, the classes come first
        if len(rows) != 2 or not narrow:
            return None
        sides.append(narrow[-1])
        scores.append(others[0])
    classes = {shapes[name][2] for name in scores}
    return Layout(strides, tuple(scores), tuple(sides), classes.pop()) if len(classes) == 1 else None
