"""Detectors whose graph chooses its boxes itself (YOLOv10, YOLO26, exports with NMS inside): nothing to suppress."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from agent.detection.decoders.base import Candidates
from agent.detection.decoders.shapes import only

MOST_CLASSES = 1 << 24


class EndToEnd:
    """One output ``[B, N, 6]``: ``x1, y1, x2, y2`` in network pixels, score, class; unused rows score 0 or class -1.

    How many classes there are, the shape does not say. Source: Wang et al., YOLOv10: Real-Time End-to-End Object
    Detection, https://arxiv.org/abs/2405.14458, and the ``end2end`` export of https://docs.ultralytics.com.
    """

    family: ClassVar[str] = "end2end"
    needs_nms: ClassVar[bool] = False

    def __init__(self, input_size: tuple[int, int], classes: int) -> None:
        pass

    @staticmethod
    def matches(shapes: Mapping[str, Sequence[int]], input_size: tuple[int, int]) -> int | None:
        """0 (any number of classes) for a single ``[1, N, 6]``."""
        shape = only(shapes)
        return 0 if shape is not None and shape[2] == 6 else None

    def decode(self, outputs: Mapping[str, NDArray[np.generic]], min_score: float) -> list[Candidates]:
        """Candidates at or above ``min_score``, in network pixels."""
        (raw,) = outputs.values()
        return [_picture(rows, np.float32(min_score)) for rows in raw]


def _picture(rows: NDArray[np.generic], min_score: np.float32) -> Candidates:
    near = rows[rows[:, 4] >= min_score].astype(np.float32, copy=False)
    near = near[(near[:, 5] >= 0) & (near[:, 5] < MOST_CLASSES)]  # what is no number is neither
    return Candidates(near[:, :4], near[:, 4], near[:, 5].astype(np.int32))
