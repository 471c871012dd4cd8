"""YuNet: faces with five landmarks, anchor-free, class and objectness apart."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from agent.detection.decoders.base import Candidates
from agent.detection.decoders.grid import cells, grid
from agent.detection.decoders.shapes import boxes_from_centres
from agent.errors import ModelError

STRIDES = (8, 16, 32)
COLUMNS = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}
POINTS = 5


class Yunet:
    """Twelve outputs, ``cls``, ``obj``, ``bbox``, ``kps`` for each stride 8, 16, 32: ``[B, N, 1 | 1 | 4 | 10]``.

    score = cls * obj (both sigmoids already; the reference code multiplies, OpenCV takes the root of the product),
    centre = (cell + dxy) * stride, size = exp(dwh) * stride, landmark = (cell + dxy) * stride. One class. Source: Wu et
    al., YuNet: A Tiny Millisecond-level Face Detector, and https://github.com/ShiqiYu/libfacedetection.train.
    """

    family: ClassVar[str] = "yunet"
    needs_nms: ClassVar[bool] = True

    def __init__(self, input_size: tuple[int, int], classes: int) -> None:
        self._corners, self._strides = grid(input_size, STRIDES)
        self._input_size = input_size
        self._names: dict[str, list[str]] | None = None

    @staticmethod
    def matches(shapes: Mapping[str, Sequence[int]], input_size: tuple[int, int]) -> int | None:
        """1 for outputs with these names and shapes."""
        names = _names(shapes)
        if names is None:
            return None
        fits = all(
            tuple(shapes[name][1:]) == (cells(input_size, (stride,)), COLUMNS[part])
            for part, some in names.items()
            for name, stride in zip(some, STRIDES, strict=True)
        )
        return 1 if fits else None

    def decode(self, outputs: Mapping[str, NDArray[np.generic]], min_score: float) -> list[Candidates]:
        """Candidates at or above ``min_score``, in network pixels, with landmarks ``[N, 5, 2]``: right eye, left eye,
        nose, right and left corner of the mouth."""
        if self._names is None:
            self._names = _names({name: array.shape for name, array in outputs.items()})
        if self._names is None:
            raise ModelError(f"yunet: outputs cls_8 to kps_32 are expected, not {', '.join(outputs)}")
        parts = {
            part: np.concatenate([outputs[name] for name in some], axis=1).astype(np.float32, copy=False)
            for part, some in self._names.items()
        }
        pictures = zip(parts["cls"], parts["obj"], parts["bbox"], parts["kps"], strict=True)
        return [self._picture(*picture, np.float32(min_score)) for picture in pictures]

    def _picture(
        self,
        classes: NDArray[np.float32],
        objectness: NDArray[np.float32],
        boxes: NDArray[np.float32],
        points: NDArray[np.float32],
        min_score: np.float32,
    ) -> Candidates:
        scores = classes[:, 0] * objectness[:, 0]
        keep = np.flatnonzero(scores >= min_score)
        corners, strides = self._corners[keep], self._strides[keep]
        with np.errstate(over="ignore"):
            sizes = np.exp(boxes[keep, 2:]) * strides
        pixels = boxes_from_centres((boxes[keep, :2] + corners) * strides, sizes)
        landmarks = (points[keep].reshape(-1, POINTS, 2) + corners[:, None]) * strides[:, None]
        return Candidates(pixels, scores[keep], np.zeros(len(keep), np.int32), landmarks)


def _names(shapes: Mapping[str, Sequence[int]]) -> dict[str, list[str]] | None:
    """The outputs by part, finest stride first."""
    if len(shapes) != len(COLUMNS) * len(STRIDES) or any(len(shape) != 3 for shape in shapes.values()):
        return None
    by_end = {match[0]: name for name in shapes if (match := re.search(r"(cls|obj|bbox|kps)_(8|16|32)$", name))}
    wanted = {part: [f"{part}_{stride}" for stride in STRIDES] for part in COLUMNS}
    if set(by_end) != {name for some in wanted.values() for name in some}:
        return None
    return {part: [by_end[name] for name in some] for part, some in wanted.items()}
