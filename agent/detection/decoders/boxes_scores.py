"""Detectors with two outputs, boxes ``[B, N, 4]`` and scores ``[B, N, C]``: UltraFace, DAMO-YOLO, and the DETR family.

Their shapes are alike; what boxes and scores mean differs, so each is a family of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agent.detection.decoders.base import Candidates
from agent.detection.decoders.grid import strides_for
from agent.detection.decoders.shapes import boxes_from_centres
from agent.errors import ModelError


class Pair(NamedTuple):
    """The names of the two outputs, how many rows both have, and how many columns the scores."""

    boxes: str
    scores: str
    rows: int
    columns: int


def pair_of(shapes: Mapping[str, Sequence[int]]) -> Pair | None:
    """Which of two outputs are the boxes: the one with four columns, by its name where both have four."""
    if len(shapes) != 2 or any(len(shape) != 3 for shape in shapes.values()):
        return None
    if len({shape[1] for shape in shapes.values()}) != 1:
        return None
    four = [name for name, shape in shapes.items() if shape[2] == 4]
    if not four:
        return None
    boxes = next((name for name in four if "box" in name.lower()), four[0])
    (scores,) = (name for name in shapes if name != boxes)
    return Pair(boxes, scores, shapes[boxes][1], shapes[scores][2])


class _TwoOutputs:
    """Finds out once which output is which."""

    def __init__(self, input_size: tuple[int, int], classes: int) -> None:
        self._size = np.array(input_size, np.float32)
        self._pair: Pair | None = None

    def _arrays(
        self, outputs: Mapping[str, NDArray[np.generic]]
    ) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        if self._pair is None:
            self._pair = pair_of({name: array.shape for name, array in outputs.items()})
        if self._pair is None:
            raise ModelError(f"two outputs, boxes and scores, are expected, not {', '.join(outputs)}")
        boxes, scores = (outputs[name].astype(np.float32, copy=False) for name in (self._pair.boxes, self._pair.scores))
        return list(zip(boxes, scores, strict=True))


class Ultraface(_TwoOutputs):
    """scores ``[B, N, 1 + C]`` (softmax done, column 0 is the background), boxes ``[B, N, 4]``: ``x1, y1, x2, y2`` as
    fractions of the input, decoded in the graph.

    Source: https://github.com/Linzaer/Ultra-Light-Fast-Generic-Face-Detector-1MB (vision/ssd/predictor.py).
    """

    family: ClassVar[str] = "ultraface"
    needs_nms: ClassVar[bool] = True

    @staticmethod
    def matches(shapes: Mapping[str, Sequence[int]], input_size: tuple[int, int]) -> int | None:
        """Classes, without the background, where N is the number of UltraFace's priors."""
        pair = pair_of(shapes)
        return pair.columns - 1 if pair and pair.columns > 1 and pair.rows == ultraface_priors(input_size) else None

    def decode(self, outputs: Mapping[str, NDArray[np.generic]], min_score: float) -> list[Candidates]:
        """Candidates at or above ``min_score``, in network pixels."""
        found = []
        for boxes, scores in self._arrays(outputs):
            kept = _likeliest(boxes, scores[:, 1:], min_score)
            found.append(kept._replace(boxes=kept.boxes * np.tile(self._size, 2)))
        return found


class DamoYolo(_TwoOutputs):
    """scores ``[B, N, C]`` (sigmoid done), boxes ``[B, N, 4]``: ``x1, y1, x2, y2`` in network pixels, one a cell.

    Source: Xu et al., DAMO-YOLO, https://arxiv.org/abs/2211.15444, and the ONNX export of
    https://github.com/tinyvision/DAMO-YOLO. PP-YOLOE and YOLO-NAS export the same.
    """

    family: ClassVar[str] = "damoyolo"
    needs_nms: ClassVar[bool] = True

    @staticmethod
    def matches(shapes: Mapping[str, Sequence[int]], input_size: tuple[int, int]) -> int | None:
        """Classes where N is the number of cells."""
        pair = pair_of(shapes)
        return pair.columns if pair and strides_for(input_size, pair.rows) else None

    def decode(self, outputs: Mapping[str, NDArray[np.generic]], min_score: float) -> list[Candidates]:
        """Candidates at or above ``min_score``, in network pixels."""
        return [_likeliest(boxes, scores, min_score) for boxes, scores in self._arrays(outputs)]


class Detr(_TwoOutputs):
    """RT-DETR, D-FINE and others of that form: logits ``[B, Q, C]``, boxes ``[B, Q, 4]``: ``cx, cy, w, h`` as
    fractions of the input; one object a query, nothing to suppress.

    score = sigmoid(logit); of all query-class pairs the Q best are the detections: a query may stand for two classes.
    Source: Zhao et al., DETRs Beat YOLOs on Real-time Object Detection, https://arxiv.org/abs/2304.08069; Peng et al.,
    D-FINE, https://arxiv.org/abs/2410.13842.
    """

    family: ClassVar[str] = "detr"
    needs_nms: ClassVar[bool] = False

    @staticmethod
    def matches(shapes: Mapping[str, Sequence[int]], input_size: tuple[int, int]) -> int | None:
        """Classes where N is not the number of cells or priors of another family: queries are a few hundred."""
        pair = pair_of(shapes)
        others = pair and (strides_for(input_size, pair.rows) or pair.rows == ultraface_priors(input_size))
        return pair.columns if pair and not others and pair.rows <= 1000 else None

    def decode(self, outputs: Mapping[str, NDArray[np.generic]], min_score: float) -> list[Candidates]:
        """Candidates at or above ``min_score``, in network pixels, best first."""
        return [self._picture(boxes, logits, min_score) for boxes, logits in self._arrays(outputs)]

    def _picture(self, boxes: NDArray[np.float32], logits: NDArray[np.float32], min_score: float) -> Candidates:
        with np.errstate(over="ignore"):
            scores: NDArray[np.float32] = np.float32(1) / (np.float32(1) + np.exp(-logits))
        # The sigmoid makes a believable score of an infinite logit.
        queries, class_ids = np.nonzero((scores >= np.float32(min_score)) & np.isfinite(logits))
        best = scores[queries, class_ids]
        order = np.argsort(-best, kind="stable")[: len(boxes)]
        chosen = boxes[queries[order]]
        pixels = boxes_from_centres(chosen[:, :2] * self._size, chosen[:, 2:] * self._size)
        return Candidates(pixels, best[order], class_ids[order].astype(np.int32))


def ultraface_priors(size: tuple[int, int]) -> int:
    """How many priors an input of that width and height has: three, two, two and three a cell of strides 8 to 64, each
    level rounded up."""
    levels = ((8, 3), (16, 2), (32, 2), (64, 3))
    return sum(each * -(-size[0] // step) * -(-size[1] // step) for step, each in levels)


def _likeliest(boxes: NDArray[np.float32], scores: NDArray[np.float32], min_score: float) -> Candidates:
    class_ids = scores.argmax(axis=1)
    best = scores[np.arange(len(scores)), class_ids]
    keep = best >= np.float32(min_score)
    return Candidates(boxes[keep], best[keep], class_ids[keep].astype(np.int32))
