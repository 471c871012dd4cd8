"""Detectors whose graph ends in non-maximum suppression with four outputs: how many, boxes, scores, classes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agent.detection.decoders.base import Candidates
from agent.errors import ModelError

MOST_CLASSES = 1 << 24
"""A float32 holds whole numbers up to here."""


class Four(NamedTuple):
    """The names of the outputs."""

    number: str
    boxes: str
    scores: str
    classes: str


def four_of(shapes: Mapping[str, Sequence[int]]) -> Four | None:
    """Which of four outputs is which: boxes ``[B, N, 4]`` and the count by shape, scores and classes by name.

    Where the names do not tell, the order of TensorFlow's exporters does: boxes, classes, scores, count.
    """
    boxes = [name for name, shape in shapes.items() if len(shape) == 3 and shape[2] == 4]
    if len(shapes) != 4 or len(boxes) != 1:
        return None
    rows = shapes[boxes[0]][1]
    lists = [name for name, shape in shapes.items() if len(shape) == 2 and shape[1] == rows and not _counts(name)]
    counts = [name for name in shapes if name not in (*boxes, *lists)]
    if len(lists) != 2 or len(counts) != 1 or int(np.prod(shapes[counts[0]])) != 1:
        return None
    named = [name for name in lists if "score" in name.lower() or "conf" in name.lower()]
    scores = named[0] if len(named) == 1 else lists[1]
    return Four(counts[0], boxes[0], scores, next(name for name in lists if name != scores))


def _count(told: float, rows: int) -> int:
    """How many of the rows count: what the graph says, 0 where that is no number."""
    return int(min(max(told, 0), rows)) if math.isfinite(told) else 0


def _counts(name: str) -> bool:
    return "num" in name.lower() or "count" in name.lower()


class _FourOutputs:
    """Finds out once which output is which, and takes the rows that count."""

    needs_nms: ClassVar[bool] = False
    FIRST_CLASS: ClassVar[int] = 0

    def __init__(self, input_size: tuple[int, int], classes: int) -> None:
        self._size = np.array(input_size, np.float32)
        self._names: Four | None = None

    def decode(self, outputs: Mapping[str, NDArray[np.generic]], min_score: float) -> list[Candidates]:
        """Candidates at or above ``min_score``, in network pixels."""
        if self._names is None:
            self._names = four_of({name: (1, *array.shape[1:]) for name, array in outputs.items()})
        if self._names is None:
            raise ModelError(f"four outputs (count, boxes, scores, classes) are expected, not {', '.join(outputs)}")
        count, boxes, scores, classes = (outputs[name] for name in self._names)
        counts = np.asarray(count).reshape(len(boxes), -1)[:, 0]
        rows = zip(counts, boxes, scores, classes, strict=True)
        return [self._picture(_count(float(n), len(s)), b, s, c, min_score) for n, b, s, c in rows]

    def _picture(
        self,
        count: int,
        boxes: NDArray[np.generic],
        scores: NDArray[np.generic],
        classes: NDArray[np.generic],
        min_score: float,
    ) -> Candidates:
        best = scores[:count].astype(np.float32, copy=False)
        numbers = classes[:count].astype(np.float32)
        known = (numbers >= self.FIRST_CLASS) & (numbers < MOST_CLASSES)  # false for what is no number
        keep = known & (best >= np.float32(min_score))
        near = boxes[:count][keep].astype(np.float32, copy=False)
        return Candidates(self._pixels(near), best[keep], self._classes(numbers[keep]))

    def _pixels(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        raise NotImplementedError

    def _classes(self, classes: NDArray[np.float32]) -> NDArray[np.int32]:
        whole: NDArray[np.int32] = np.rint(classes).astype(np.int32)
        return whole


class TfSsd(_FourOutputs):
    """TensorFlow's object detection models: ``detection_boxes`` ``[B, N, 4]`` as ``y1, x1, y2, x2`` fractions of the
    input, ``detection_scores``, ``detection_classes`` ``[B, N]`` (floats, counted from 1), ``num_detections`` ``[B]``.

    Source: https://github.com/tensorflow/models, research/object_detection/exporter_lib_v2.py.
    """

    family: ClassVar[str] = "tf-ssd"
    FIRST_CLASS: ClassVar[int] = 1

    @staticmethod
    def matches(shapes: Mapping[str, Sequence[int]], input_size: tuple[int, int]) -> int | None:
        """0 (any number of classes) for four such outputs, one of them called ``detection_…``."""
        names = " ".join(shapes).lower()
        return 0 if four_of(shapes) and "detection" in names and "postprocess" not in names else None

    def _pixels(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        return boxes[:, (1, 0, 3, 2)] * np.tile(self._size, 2)

    def _classes(self, classes: NDArray[np.float32]) -> NDArray[np.int32]:
        return super()._classes(classes) - self.FIRST_CLASS


class TfliteSsd(TfSsd):
    """The same from TFLite's ``TFLite_Detection_PostProcess``: classes are counted from 0, names may say nothing."""

    family: ClassVar[str] = "tflite-ssd"
    FIRST_CLASS: ClassVar[int] = 0

    @staticmethod
    def matches(shapes: Mapping[str, Sequence[int]], input_size: tuple[int, int]) -> int | None:
        """0 (any number of classes) for four such outputs that no other family of them claims."""
        claimed = TfSsd.matches(shapes, input_size) is not None or EfficientNms.matches(shapes, input_size) is not None
        return 0 if four_of(shapes) and not claimed else None


class EfficientNms(_FourOutputs):
    """TensorRT's EfficientNMS plug-in: ``num_dets`` ``[B, 1]``, ``det_boxes`` ``[B, N, 4]`` as ``x1, y1, x2, y2`` in
    network pixels, ``det_scores`` and ``det_classes`` ``[B, N]``, counted from 0.

    Source: https://github.com/NVIDIA/TensorRT, plugin/efficientNMSPlugin/README.md.
    """

    family: ClassVar[str] = "efficientnms"

    @staticmethod
    def matches(shapes: Mapping[str, Sequence[int]], input_size: tuple[int, int]) -> int | None:
        """0 (any number of classes) for four such outputs, called ``num_det…`` and ``det_boxes``, or the like."""
        names = {name.lower() for name in shapes}
        plugin = any(name.startswith(("det_", "nmsed")) for name in names)
        return 0 if four_of(shapes) and plugin else None

    def _pixels(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        return boxes
