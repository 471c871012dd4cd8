"""How the authors of each family feed their networks: colour, normalisation, resize, and labels that never change.

What a certain file shows of itself is inspection.py's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

Sure = Literal["certain", "likely", "guess"]

UNIT = (1 / 255, 1 / 255, 1 / 255)
ZERO, ONE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
FACE = ("face",)


class Custom(NamedTuple):
    """Values for ``[input]``, how sure one can be of them, and why; ``labels`` where the family knows but one."""

    values: Mapping[str, Any]
    sure: Sure
    why: str
    labels: tuple[str, ...] | None = None


def _input(colour: str, mean: object, scale: object, resize: str, pad: int) -> dict[str, Any]:
    return {"colour": colour, "mean": mean, "scale": scale, "resize": resize, "pad": pad}


ULTRALYTICS = _input("rgb", ZERO, UNIT, "letterbox", 114)
# Written as NanoDet's configuration files have it: BGR, mean and standard deviation of ImageNet in 0..255.
NANODET = _input("bgr", (103.53, 116.28, 123.675), (1 / 57.375, 1 / 57.12, 1 / 58.395), "letterbox", 0)

CUSTOMS: Mapping[str, Custom] = {
    "yolox": Custom(
        _input("bgr", ZERO, ONE, "letterbox-topleft", 114),
        "likely",
        "YOLOX since 0.2 takes BGR 0..255 as it is, padded from the corner",
    ),
    "yolov8": Custom(ULTRALYTICS, "likely", "every exporter of this form feeds RGB / 255, centred"),
    "yolov5": Custom(ULTRALYTICS, "likely", "YOLOv5 and YOLOv7 feed RGB / 255, centred"),
    "end2end": Custom(ULTRALYTICS, "likely", "YOLOv10, YOLO26 and exports with NMS inside feed RGB / 255, centred"),
    "nanodet": Custom(NANODET, "likely", "NanoDet's configurations normalise BGR by mean and deviation"),
    "yunet": Custom(
        _input("bgr", ZERO, ONE, "letterbox-topleft", 0),
        "likely",
        "YuNet takes BGR 0..255 as it is, padded to the right and below",
        FACE,
    ),
    "retinaface": Custom(
        _input("bgr", (104.0, 117.0, 123.0), ONE, "letterbox-topleft", 0),
        "likely",
        "RetinaFace subtracts (104, 117, 123) from BGR",
        FACE,
    ),
    "ultraface": Custom(
        _input("rgb", (127.0,) * 3, (1 / 128,) * 3, "stretch", 0),
        "likely",
        "UltraFace feeds RGB (x - 127) / 128, stretched",
        FACE,
    ),
    "detr": Custom(
        _input("rgb", ZERO, UNIT, "stretch", 0),
        "guess",
        "RT-DETR and D-FINE feed RGB / 255, stretched; other networks of this form subtract ImageNet's mean",
    ),
    "detr-end2end": Custom(
        _input("rgb", ZERO, UNIT, "stretch", 0), "likely", "RT-DETR and D-FINE feed RGB / 255, stretched"
    ),
    "rtdetr-ultralytics": Custom(
        _input("rgb", ZERO, UNIT, "stretch", 0), "likely", "Ultralytics feeds RT-DETR RGB / 255, stretched"
    ),
    "damoyolo": Custom(
        _input("rgb", ZERO, ONE, "letterbox-topleft", 0),
        "guess",
        "DAMO-YOLO feeds RGB 0..255 as it is; PP-YOLOE and YOLO-NAS, which export the same, do not",
    ),
    "yolov7-end2end": Custom(ULTRALYTICS, "likely", "YOLOv7 feeds RGB / 255, centred"),
    "tf-ssd": Custom(
        _input("rgb", ZERO, ONE, "stretch", 0), "likely", "TensorFlow's exports take RGB 0..255 and normalise inside"
    ),
    "tflite-ssd": Custom(
        _input("rgb", (127.5,) * 3, (1 / 127.5,) * 3, "stretch", 0), "guess", "float exports feed (x - 127.5) / 127.5"
    ),
    "efficientnms": Custom(ULTRALYTICS, "guess", "YOLO exports with TensorRT's NMS feed RGB / 255, centred"),
}


def custom_of(family: str, metadata: Mapping[str, str]) -> Custom | None:
    """The custom of a family for a graph with these texts of its exporter; None where none is known."""
    if {"names", "task", "imgsz"} <= set(metadata) and family in ("yolov8", "yolov5", "end2end"):
        return Custom(
            ULTRALYTICS, "certain", "exported by Ultralytics (metadata names, task, imgsz): RGB / 255, centred"
        )
    return CUSTOMS.get(family)
