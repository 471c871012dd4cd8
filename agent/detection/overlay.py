"""Boxes and labels drawn on a picture, for people to look at."""

from __future__ import annotations

import colorsys

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.data import Detections

FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw(pixels: NDArray[np.uint8], detections: Detections) -> NDArray[np.uint8]:
    """A copy of a BGR picture with every box, its label and its score; what is surest is drawn last, on top."""
    canvas = np.array(pixels, np.uint8)
    unit = max(1.0, max(canvas.shape[:2]) / 640)
    for index in reversed(range(len(detections))):
        left, top, right, bottom = (round(float(side)) for side in detections.boxes[index])
        colour = colour_of(int(detections.class_ids[index]))
        cv2.rectangle(canvas, (left, top), (right, bottom), colour, round(1.5 * unit))
        text = f"{detections.labels[index]} {detections.scores[index]:.2f}"
        _write(canvas, text, (left, top), colour, unit)
    return canvas


def colour_of(class_id: int) -> tuple[int, int, int]:
    """A BGR colour for a class; neighbours in number lie far apart in hue."""
    red, green, blue = colorsys.hsv_to_rgb(class_id * 0.618034 % 1.0, 0.75, 0.95)
    return round(blue * 255), round(green * 255), round(red * 255)


def _write(
    canvas: NDArray[np.uint8], text: str, corner: tuple[int, int], colour: tuple[int, int, int], unit: float
) -> None:
    """The text on a ground of its colour above the corner, or inside the picture where there is no room above."""
    thickness = max(1, round(unit))
    (width, height), below = cv2.getTextSize(text, FONT, 0.45 * unit, thickness)
    left = max(0, min(corner[0], canvas.shape[1] - width))
    bottom = max(corner[1], height + below)
    cv2.rectangle(canvas, (left, bottom - height - below), (left + width, bottom), colour, cv2.FILLED)
    cv2.putText(canvas, text, (left, bottom - below // 2), FONT, 0.45 * unit, (0, 0, 0), thickness, cv2.LINE_AA)
