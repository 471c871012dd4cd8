"""YOLOv5, YOLOv7 and what exports like them: boxes decoded in the graph, objectness beside the classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from agent.detection.decoders.base import Candidates
from agent.detection.decoders.grid import strides_for
from agent.detection.decoders.shapes import boxes_from_centres, only
from agent.engines.base import Head

ANCHORS = 3
"""Predictions a cell of the networks that have anchors."""
MOST_PICTURES, MOST_CLASSES = 4096, 1 << 24
"""Rows that name others are no detections; a broken graph gives them."""


class Yolov5:
    """One output ``[B, N, 5 + C]``: ``cx, cy, w, h`` in network pixels, objectness, C classes (sigmoids already).

    score = objectness * class. N is three predictions (anchors) a cell of strides 8, 16, 32 (and 64), or one a cell for
    YOLOX exported with ``--decode_in_inference``, whose shape is that of plain YOLOX. Source: the ONNX export of
    https://github.com/ultralytics/yolov5, and Wang et al., YOLOv7, https://arxiv.org/abs/2207.02696.
    """

    family: ClassVar[str] = "yolov5"
    needs_nms: ClassVar[bool] = True

    def __init__(self, input_size: tuple[int, int], classes: int) -> None:
        pass

    @staticmethod
    def matches(shapes: Mapping[str, Sequence[int]], input_size: tuple[int, int]) -> int | None:
        """Classes of a single ``[1, N, 5 + C]`` whose N is the number of cells, or three times that."""
        shape = only(shapes)
        if shape is None or shape[2] < 6:
            return None
        three, rest = divmod(shape[1], ANCHORS)
        known = (rest == 0 and strides_for(input_size, three)) or strides_for(input_size, shape[1])
        return shape[2] - 5 if known else None

    def decode(self, outputs: Mapping[str, NDArray[np.generic]], min_score: float) -> list[Candidates]:
        """Candidates at or above ``min_score``, in network pixels."""
        (raw,) = outputs.values()
        return [_picture(rows, np.float32(min_score)) for rows in raw]

    def heads(self, shapes: Mapping[str, Sequence[int]]) -> tuple[Head, ...]:
        """The same for a device."""
        ((name, shape),) = shapes.items()
        cells = np.zeros((shape[1], 3), np.float32)
        return (Head(name, name, "centre", shape[2] - 5, cells, objectness=4, class_at=5),)


class Yolov7EndToEnd:
    """One output ``[N, 7]`` for a whole batch: picture, ``x1, y1, x2, y2`` in network pixels, class, score.

    The graph has suppressed duplicates. How many classes there are, the shape does not say. Source: the ``--end2end``
    export for ONNX Runtime of https://github.com/WongKinYiu/yolov7.
    """

    family: ClassVar[str] = "yolov7-end2end"
    needs_nms: ClassVar[bool] = False

    def __init__(self, input_size: tuple[int, int], classes: int) -> None:
        pass

    @staticmethod
    def matches(shapes: Mapping[str, Sequence[int]], input_size: tuple[int, int]) -> int | None:
        """0 (any number of classes) for a single ``[N, 7]``."""
        if len(shapes) != 1:
            return None
        (shape,) = shapes.values()
        return 0 if len(shape) == 2 and shape[1] == 7 else None

    def decode(self, outputs: Mapping[str, NDArray[np.generic]], min_score: float) -> list[Candidates]:
        """Candidates at or above ``min_score``, in network pixels; pictures up to the last one with a box."""
        (raw,) = outputs.values()
        rows = raw.astype(np.float32, copy=False)
        known = (rows[:, 0] >= 0) & (rows[:, 0] < MOST_PICTURES) & (rows[:, 5] >= 0) & (rows[:, 5] < MOST_CLASSES)
        rows = rows[known & (rows[:, 6] >= np.float32(min_score))]
        pictures = max(1, int(rows[:, 0].max(initial=0)) + 1)
        return [_rows_of(rows[rows[:, 0] == picture]) for picture in range(pictures)]


def _rows_of(rows: NDArray[np.float32]) -> Candidates:
    return Candidates(rows[:, 1:5], rows[:, 6], rows[:, 5].astype(np.int32))


def _picture(rows: NDArray[np.generic], min_score: np.float32) -> Candidates:
    # No class lifts a prediction above its objectness, so most go before anything is computed for them.
    near = rows[rows[:, 4] >= min_score].astype(np.float32, copy=False)
    class_ids = near[:, 5:].argmax(axis=1)
    scores = near[:, 4] * near[np.arange(len(near)), class_ids + 5]
    keep = scores >= min_score
    boxes = boxes_from_centres(near[keep, :2], near[keep, 2:4])
    return Candidates(boxes, scores[keep], class_ids[keep].astype(np.int32))
