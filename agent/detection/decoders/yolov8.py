"""YOLOv8 and what followed in that form (YOLO11 and others): anchor-free, boxes decoded in the graph, no objectness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from agent.detection.decoders.base import Candidates
from agent.detection.decoders.grid import strides_for
from agent.detection.decoders.shapes import boxes_from_centres, only
from agent.engines.base import Head


class Yolov8:
    """One output ``[B, 4 + C, N]``: ``cx, cy, w, h`` in network pixels, then C class scores (sigmoids already).

    Source: the ONNX export that https://docs.ultralytics.com/modes/export/ documents; the box head is that of Li et
    al., Generalized Focal Loss, https://arxiv.org/abs/2006.04388, integrated in the graph.
    """

    family: ClassVar[str] = "yolov8"
    needs_nms: ClassVar[bool] = True

    def __init__(self, input_size: tuple[int, int], classes: int) -> None:
        pass

    @staticmethod
    def matches(shapes: Mapping[str, Sequence[int]], input_size: tuple[int, int]) -> int | None:
        """Classes of a single ``[1, 4 + C, N]`` whose N is the number of cells."""
        shape = only(shapes)
        if shape is None or shape[1] < 5 or strides_for(input_size, shape[2]) is None:
            return None
        return shape[1] - 4

    def decode(self, outputs: Mapping[str, NDArray[np.generic]], min_score: float) -> list[Candidates]:
        """Candidates at or above ``min_score``, in network pixels."""
        (raw,) = outputs.values()
        return [_picture(columns, np.float32(min_score)) for columns in raw]

    def heads(self, shapes: Mapping[str, Sequence[int]]) -> tuple[Head, ...]:
        """The same for a device."""
        ((name, shape),) = shapes.items()
        cells = np.zeros((shape[2], 3), np.float32)
        return (Head(name, name, "centre", shape[1] - 4, cells, class_at=4, cells_last=True),)


def _picture(columns: NDArray[np.generic], min_score: np.float32) -> Candidates:
    keep = np.flatnonzero(columns[4:].max(axis=0) >= min_score)
    near = columns[:, keep].astype(np.float32, copy=False)
    class_ids = near[4:].argmax(axis=0)
    scores = near[class_ids + 4, np.arange(len(keep))]
    return Candidates(boxes_from_centres(near[:2].T, near[2:4].T), scores, class_ids.astype(np.int32))
