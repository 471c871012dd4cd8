"""The families of detectors by name: those built in, and those that plugins register."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from agent.config import did_you_mean
from agent.detection.decoders.base import Decoder
from agent.detection.decoders.boxes_scores import DamoYolo, Detr, Ultraface
from agent.detection.decoders.detr_processed import DetrEndToEnd, DetrRows
from agent.detection.decoders.end_to_end import EndToEnd
from agent.detection.decoders.four_tensors import EfficientNms, TfliteSsd, TfSsd
from agent.detection.decoders.nanodet import Nanodet
from agent.detection.decoders.ssd_priors import RetinaFace
from agent.detection.decoders.yolov5 import Yolov5, Yolov7EndToEnd
from agent.detection.decoders.yolov8 import Yolov8
from agent.detection.decoders.yolox import Yolox
from agent.detection.decoders.yunet import Yunet
from agent.errors import ModelError

FAMILIES: tuple[type[Decoder], ...] = (
    Yunet,
    RetinaFace,
    Ultraface,
    EfficientNms,
    TfSsd,
    TfliteSsd,
    Yolox,
    Nanodet,
    Yolov8,
    Yolov5,
    DamoYolo,
    Detr,
    DetrEndToEnd,
    EndToEnd,
    Yolov7EndToEnd,
    DetrRows,
)
"""The most particular first: where the shapes fit two of them, the earlier one is the likelier."""

BUILT_IN: Mapping[str, type[Decoder]] = {decoder.family: decoder for decoder in FAMILIES}

EXPECTED = {
    "yunet": "12 outputs cls_8 … kps_32",
    "retinaface": "[1, N, 4], [1, N, 2] and [1, N, 10]",
    "ultraface": "[1, N, 4] and [1, N, 2]",
    "efficientnms": "num_dets, det_boxes, det_scores, det_classes",
    "tf-ssd": "num_detections, detection_boxes, detection_scores, detection_classes",
    "tflite-ssd": "four outputs of NMS without names",
    "yolox": "[1, N, 5 + classes]",
    "nanodet": "[1, N, classes] and [1, N, 32] a stride, or [1, N, classes + 32]",
    "yolov8": "[1, 4 + classes, N]",
    "yolov5": "[1, 3 N, 5 + classes]",
    "damoyolo": "[1, N, 4] and [1, N, classes]",
    "detr": "[1, queries, 4] and [1, queries, classes]",
    "detr-end2end": "labels, boxes, scores",
    "end2end": "[1, N, 6]",
    "yolov7-end2end": "[N, 7]",
    "rtdetr-ultralytics": "[1, 300, 4 + classes]",
}
USUAL_CLASSES = 80
"""COCO's: of two readings of one shape, the one that gives so many classes is the likelier."""


class Match(NamedTuple):
    """A family that outputs fit; ``classes`` is 0 where their shapes do not say how many there are."""

    family: str
    classes: int


def decoder_class(family: str, extra: Mapping[str, type[Decoder]] | None = None) -> type[Decoder]:
    """The decoder of a family; ``extra`` holds those of plugins. Raises ModelError for an unknown name."""
    known = {**BUILT_IN, **(extra or {})}
    if family not in known:
        raise ModelError(f"family {family!r} is not known{did_you_mean(family, known)}")
    return known[family]


def recognise(
    shapes: Mapping[str, Sequence[int]],
    input_size: tuple[int, int],
    extra: Mapping[str, type[Decoder]] | None = None,
) -> list[Match]:
    """The families that outputs of these shapes (batch 1) fit, the most particular first."""
    known = {**BUILT_IN, **(extra or {})}
    found = ((family, decoder.matches(shapes, input_size)) for family, decoder in known.items())
    matches = [Match(family, classes) for family, classes in found if classes is not None]
    return sorted(matches, key=lambda match: match.classes not in (0, USUAL_CLASSES))
