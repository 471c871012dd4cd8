"""The DETR family with its post-processing in the graph: labels, boxes and scores, or Ultralytics' single output.

Raw logits and boxes are boxes_scores.py's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agent.detection.decoders.base import Candidates
from agent.detection.decoders.shapes import boxes_from_centres, only
from agent.errors import ModelError

QUERIES = 300
"""Of every RT-DETR that Ultralytics has."""
MOST_CLASSES = 1 << 24
"""A float32 holds whole numbers up to here."""


class Three(NamedTuple):
    """The names of the outputs."""

    labels: str
    boxes: str
    scores: str


def three_of(shapes: Mapping[str, Sequence[int]]) -> Three | None:
    """Which of three outputs is which: boxes ``[B, N, 4]`` by shape, labels and scores ``[B, N]`` by name."""
    boxes = [name for name, shape in shapes.items() if len(shape) == 3 and shape[2] == 4]
    if len(shapes) != 3 or len(boxes) != 1:
        return None
    lists = [name for name, shape in shapes.items() if len(shape) == 2 and shape[1] == shapes[boxes[0]][1]]
    scores = [name for name in lists if "score" in name.lower() or "conf" in name.lower()]
    labels = [name for name in lists if "label" in name.lower() or "class" in name.lower()]
    named = len(lists) == 2 and len(scores) == len(labels) == 1 and scores != labels
    return Three(labels[0], boxes[0], scores[0]) if named else None


class DetrEndToEnd:
    """``labels`` ``[B, Q]`` (counted from 0), ``boxes`` ``[B, Q, 4]``: ``x1, y1, x2, y2`` in network pixels, ``scores``
    ``[B, Q]``; nothing to suppress, and how many classes there are, the shapes do not say.

    The graph scales its boxes to its second input, ``orig_target_sizes``; one_input.py writes the network's own size
    there. Source: RTDETRPostProcessor and tools/export_onnx.py of https://github.com/lyuwenyu/RT-DETR;
    https://github.com/Peterande/D-FINE exports the same.
    """

    family: ClassVar[str] = "detr-end2end"
    needs_nms: ClassVar[bool] = False

    def __init__(self, input_size: tuple[int, int], classes: int) -> None:
        self._names: Three | None = None

    @staticmethod
    def matches(shapes: Mapping[str, Sequence[int]], input_size: tuple[int, int]) -> int | None:
        """0 (any number of classes) for three such outputs, by shape and name."""
        return 0 if three_of(shapes) else None

    def decode(self, outputs: Mapping[str, NDArray[np.generic]], min_score: float) -> list[Candidates]:
        """Candidates at or above ``min_score``, in network pixels."""
        if self._names is None:
            self._names = three_of({name: array.shape for name, array in outputs.items()})
        if self._names is None:
            raise ModelError(f"three outputs (labels, boxes, scores) are expected, not {', '.join(outputs)}")
        arrays = (outputs[name].astype(np.float32, copy=False) for name in self._names)
        pictures = zip(*arrays, strict=True)
        return [_picture(labels, boxes, scores, np.float32(min_score)) for labels, boxes, scores in pictures]


class DetrRows:
    """One output ``[B, 300, 4 + C]``: ``cx, cy, w, h`` as fractions of the input and C classes (sigmoids already), a
    query a row: its likeliest class counts, nothing to suppress.

    Source: RTDETRDecoder in nn/modules/head.py of https://github.com/ultralytics/ultralytics.
    """

    family: ClassVar[str] = "rtdetr-ultralytics"
    needs_nms: ClassVar[bool] = False

    def __init__(self, input_size: tuple[int, int], classes: int) -> None:
        self._size = np.array(input_size, np.float32)

    @staticmethod
    def matches(shapes: Mapping[str, Sequence[int]], input_size: tuple[int, int]) -> int | None:
        """Classes of a single ``[1, 300, 4 + C]``; with two of them it looks like end2end, and is taken for that."""
        shape = only(shapes)
        return shape[2] - 4 if shape and shape[1] == QUERIES and 5 <= shape[2] != 6 else None

    def decode(self, outputs: Mapping[str, NDArray[np.generic]], min_score: float) -> list[Candidates]:
        """Candidates at or above ``min_score``, in network pixels."""
        (raw,) = outputs.values()
        return [self._picture(rows, np.float32(min_score)) for rows in raw.astype(np.float32, copy=False)]

    def _picture(self, rows: NDArray[np.float32], min_score: np.float32) -> Candidates:
        class_ids = rows[:, 4:].argmax(axis=1)
        scores = rows[np.arange(len(rows)), class_ids + 4]
        keep = scores >= min_score
        boxes = boxes_from_centres(rows[keep, :2] * self._size, rows[keep, 2:4] * self._size)
        return Candidates(boxes, scores[keep], class_ids[keep].astype(np.int32))


def _picture(
    labels: NDArray[np.float32], boxes: NDArray[np.float32], scores: NDArray[np.float32], min_score: np.float32
) -> Candidates:
    # False for what is no number: a broken graph gives such labels.
    keep = (labels >= 0) & (labels < MOST_CLASSES) & (scores >= min_score)
    return Candidates(boxes[keep], scores[keep], labels[keep].astype(np.int32))
