"""Boxes and labels drawn on a picture, for people to look at."""

from __future__ import annotations

import colorsys

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.data import Detections
from agent.detection.text import draw_mask, text_row

FONT = cv2.FONT_HERSHEY_SIMPLEX
FONT_SCALE = 0.45
EM = 14  # letters as high as the other font's


def draw(pixels: NDArray[np.uint8], detections: Detections) -> NDArray[np.uint8]:
    """A copy of a BGR picture with every box, its label and its score; what is surest is drawn last, on top.

    OpenCV's own font knows ASCII alone: as soon as one label is in another script, all of the picture's are drawn
    with a font that has them, and a label that no font has becomes the number of its class.
    """
    write = _write if all(label.isascii() for label in detections.labels) else _write_any
    canvas = np.array(pixels, np.uint8)
    unit = max(1.0, max(canvas.shape[:2]) / 640)
    for index in reversed(range(len(detections))):
        left, top, right, bottom = (round(float(side)) for side in detections.boxes[index])
        colour = colour_of(int(detections.class_ids[index]))
        cv2.rectangle(canvas, (left, top), (right, bottom), colour, round(1.5 * unit))
        texts = detections.labels[index], f" {detections.scores[index]:.2f}"
        write(canvas, texts, int(detections.class_ids[index]), (left, top), colour, unit)
    return canvas


def colour_of(class_id: int) -> tuple[int, int, int]:
    """A BGR colour for a class; neighbours in number lie far apart in hue."""
    red, green, blue = colorsys.hsv_to_rgb(class_id * 0.618034 % 1.0, 0.75, 0.95)
    return round(blue * 255), round(green * 255), round(red * 255)


def _write(
    canvas: NDArray[np.uint8],
    texts: tuple[str, str],
    _class_id: int,
    corner: tuple[int, int],
    colour: tuple[int, int, int],
    unit: float,
) -> None:
    """The text on a ground of its colour above the corner, or inside the picture where there is no room above."""
    text, thickness = "".join(texts), max(1, round(unit))
    (width, height), below = cv2.getTextSize(text, FONT, FONT_SCALE * unit, thickness)
    left, top = _ground(canvas, corner, (width, height + below), colour)
    bottom = top + height + below - below // 2
    cv2.putText(canvas, text, (left, bottom), FONT, FONT_SCALE * unit, (0, 0, 0), thickness, cv2.LINE_AA)


def _write_any(
    canvas: NDArray[np.uint8],
    texts: tuple[str, str],
    class_id: int,
    corner: tuple[int, int],
    colour: tuple[int, int, int],
    unit: float,
) -> None:
    """The same for any script."""
    mask = text_row(texts, round(EM * unit))
    if mask is None:
        _write(canvas, (f"class {class_id}", texts[1]), class_id, corner, colour, unit)
        return
    height, width = mask.alpha.shape
    draw_mask(canvas, mask, _ground(canvas, corner, (width, height), colour), (0, 0, 0))


def _ground(
    canvas: NDArray[np.uint8], corner: tuple[int, int], size: tuple[int, int], colour: tuple[int, int, int]
) -> tuple[int, int]:
    """Fill what the text will stand on; its left and top."""
    (width, height), (x, y) = size, corner
    left, bottom = max(0, min(x, canvas.shape[1] - width)), max(y, height)
    cv2.rectangle(canvas, (left, bottom - height), (left + width, bottom), colour, cv2.FILLED)
    return left, bottom - height
