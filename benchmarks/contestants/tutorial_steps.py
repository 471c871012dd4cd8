"""Preprocessing and decoding as tutorials and the models' own demos do them: new arrays each frame, every cell decoded.

The floor is fed by the same functions, so that its input is a real picture. Families: yolox, nanodet, yolov8.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Found = tuple[Array, Array, Array]
"""Boxes ``[N, 4]`` xyxy in network pixels, scores, class ids."""
MEAN = np.array([103.53, 116.28, 123.675], np.float32)
STD = np.array([57.375, 57.12, 58.395], np.float32)
SCORE, IOU = 0.4, 0.6


class Recipe(NamedTuple):
    """How a family is fed and read."""

    preprocess: Callable[[Array, int], Array]
    decode: Callable[[Sequence[Array], int], Found]


def yolox_input(picture: Array, side: int) -> Array:
    """BGR 0..255, letterbox at the upper left, padded with 114."""
    padded = np.ones((side, side, 3), np.uint8) * 114
    ratio = min(side / picture.shape[0], side / picture.shape[1])
    small = cv2.resize(picture, (int(picture.shape[1] * ratio), int(picture.shape[0] * ratio)))
    padded[: small.shape[0], : small.shape[1]] = small
    return np.ascontiguousarray(padded.transpose(2, 0, 1), dtype=np.float32)[None]


def yolox_decode(outputs: Sequence[Array], side: int) -> Found:
    """As the demo of YOLOX does: the grids made for each picture, all cells decoded, then filtered."""
    raw = outputs[0][0].copy()
    grids, strides = [], []
    for stride in (8, 16, 32):
        cells = side // stride
        x, y = np.meshgrid(np.arange(cells), np.arange(cells))
        grids.append(np.stack((x, y), 2).reshape(-1, 2))
        strides.append(np.full((cells * cells, 1), stride))
    grid, step = np.concatenate(grids), np.concatenate(strides)
    centres, sizes = (raw[:, :2] + grid) * step, np.exp(raw[:, 2:4]) * step
    scores = raw[:, 4:5] * raw[:, 5:]
    return _best(np.concatenate((centres - sizes / 2, centres + sizes / 2), axis=1), scores)


def nanodet_input(picture: Array, side: int) -> Array:
    """BGR, normalised, centred letterbox, padded with 0."""
    padded = np.zeros((side, side, 3), np.uint8)
    ratio = min(side / picture.shape[0], side / picture.shape[1])
    small = cv2.resize(picture, (int(picture.shape[1] * ratio), int(picture.shape[0] * ratio)))
    top, left = (side - small.shape[0]) // 2, (side - small.shape[1]) // 2
    padded[top : top + small.shape[0], left : left + small.shape[1]] = small
    scaled = (padded.astype(np.float32) - MEAN) / STD
    return np.ascontiguousarray(scaled.transpose(2, 0, 1))[None]


def nanodet_decode(outputs: Sequence[Array], side: int) -> Found:
    """Softmax over the bins of every cell, distances to boxes, then filtered."""
    classes = [array.reshape(array.shape[-2:]) for array in outputs if array.shape[-1] == 80]
    bins = [array.reshape(array.shape[-2:]) for array in outputs if array.shape[-1] == 32]
    boxes = []
    for some, stride in zip(bins, (8, 16, 32), strict=True):
        cells = side // stride
        x, y = np.meshgrid(np.arange(cells), np.arange(cells))
        centres = np.stack((x, y), 2).reshape(-1, 2) * stride + (stride - 1) / 2
        powers = np.exp(some.reshape(-1, 4, 8))
        distances = (powers / powers.sum(axis=2, keepdims=True)) @ np.arange(8) * stride
        boxes.append(np.concatenate((centres - distances[:, :2], centres + distances[:, 2:]), axis=1))
    return _best(np.concatenate(boxes), np.concatenate(classes))


def yolov8_input(picture: Array, side: int) -> Array:
    """RGB 0..1, centred letterbox, padded with 114."""
    ratio = min(side / picture.shape[0], side / picture.shape[1])
    small = cv2.resize(picture, (int(picture.shape[1] * ratio), int(picture.shape[0] * ratio)))
    high, wide = side - small.shape[0], side - small.shape[1]
    padded = cv2.copyMakeBorder(
        small, high // 2, high - high // 2, wide // 2, wide - wide // 2, cv2.BORDER_CONSTANT, value=(114, 114, 114)
    )
    rgb = cv2.cvtColor(padded, cv2.COLOR_BGR2RGB)
    return np.ascontiguousarray(rgb.transpose(2, 0, 1)[None].astype(np.float32) / 255.0)


def yolov8_decode(outputs: Sequence[Array], _side: int) -> Found:
    """``[1, 4 + C, N]``: transposed, filtered."""
    rows = outputs[0][0].T
    centres, sizes = rows[:, :2], rows[:, 2:4]
    return _best(np.concatenate((centres - sizes / 2, centres + sizes / 2), axis=1), rows[:, 4:])


def _best(boxes: Array, scores: Array) -> Found:
    """The likeliest class of each cell, those above the threshold, NMS by OpenCV."""
    classes, best = scores.argmax(axis=1), scores.max(axis=1)
    keep = best > SCORE
    boxes, best, classes = boxes[keep], best[keep], classes[keep]
    if not len(boxes):
        return boxes, best, classes
    corners = np.concatenate((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), axis=1)
    # Apart by class, as everybody does it.
    shifted = corners + np.concatenate((classes[:, None], classes[:, None], 0 * corners[:, :2]), axis=1) * 4096
    chosen = np.asarray(cv2.dnn.NMSBoxes(shifted.tolist(), best.tolist(), SCORE, IOU)).reshape(-1).astype(np.intp)
    return boxes[chosen], best[chosen], classes[chosen]


RECIPES = {
    "yolox": Recipe(yolox_input, yolox_decode),
    "nanodet": Recipe(nanodet_input, nanodet_decode),
    "yolov8": Recipe(yolov8_input, yolov8_decode),
}


def first_input(clip: str, family: str, side: int) -> Array:
    """The first picture of a clip as the network's input."""
    device = cv2.VideoCapture(clip)
    read, picture = device.read()
    device.release()
    if not read:
        raise SystemExit(f"{clip}: not one picture of it can be read")
    return RECIPES[family].preprocess(picture, side)
