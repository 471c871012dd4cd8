"""Zones, lines and masks drawn over a picture, so that people see what they configured."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.config import LineConfig, MaskConfig, ZoneConfig
from agent.detection.overlay import BLACK, PALETTE, WHITE, Colour
from agent.detection.text import draw_mask, text_mask

Pixels = NDArray[np.uint8]
FONT = cv2.FONT_HERSHEY_SIMPLEX
TINT = 0.25


def draw_places(
    pixels: Pixels, zones: Sequence[ZoneConfig], lines: Sequence[LineConfig], masks: Sequence[MaskConfig]
) -> Pixels:
    """A copy of a BGR picture: zones tinted, lines with an arrow into their first direction, masks hatched."""
    canvas = np.array(pixels, np.uint8)
    unit = max(1.0, max(canvas.shape[:2]) / 800)
    for mask in masks:
        _hatch(canvas, _corners(canvas, mask.polygon), unit)
    for index, zone in enumerate(zones):
        _tint(canvas, _corners(canvas, zone.polygon), PALETTE[index % len(PALETTE)], unit)
    for index, line in enumerate(lines, start=len(zones)):
        _line(canvas, line, PALETTE[index % len(PALETTE)], unit)
    for mask in masks:
        _write(canvas, mask_title(mask), _middle(_corners(canvas, mask.polygon)), WHITE, unit)
    for index, zone in enumerate(zones):
        _write(canvas, zone_title(zone), _middle(_corners(canvas, zone.polygon)), PALETTE[index % len(PALETTE)], unit)
    return canvas


def zone_title(zone: ZoneConfig) -> str:
    """The name and what is asked of the zone, in a few words."""
    asked = [
        *zone.labels,
        zone.anchor if zone.anchor != "foot" else "",
        f"loiter {zone.loiter_after:g} s" if zone.loiter_after is not None else "",
        f"left {zone.left_after:g} s" if zone.left_after is not None else "",
        "removed" if zone.removed else "",
    ]
    wanted = ", ".join(word for word in asked if word)
    return f"{zone.name} ({wanted})" if wanted else zone.name


def mask_title(mask: MaskConfig) -> str:
    """That it is a mask, and for what."""
    what = "" if mask.hides == "all" else f" what is {mask.hides}"
    return f"mask{what}{' ' if mask.labels else ''}{', '.join(mask.labels)}"


def _corners(canvas: Pixels, points: Sequence[tuple[float, float]]) -> NDArray[np.int32]:
    height, width = canvas.shape[:2]
    return np.array([(round(x * (width - 1)), round(y * (height - 1))) for x, y in points], np.int32)


def _middle(corners: NDArray[np.int32]) -> tuple[int, int]:
    low, high = corners.min(axis=0), corners.max(axis=0)
    return int(low[0] + high[0]) // 2, int(low[1] + high[1]) // 2


def _tint(canvas: Pixels, corners: NDArray[np.int32], colour: Colour, unit: float) -> None:
    filled = canvas.copy()
    cv2.fillPoly(filled, [corners], colour)
    cv2.addWeighted(filled, TINT, canvas, 1.0 - TINT, 0.0, canvas)
    _outline(canvas, corners, colour, unit, closed=True)


def _outline(canvas: Pixels, corners: NDArray[np.int32], colour: Colour, unit: float, *, closed: bool) -> None:
    """With a dark edge, so that it is seen on any ground."""
    cv2.polylines(canvas, [corners], closed, BLACK, round(4 * unit), cv2.LINE_AA)
    cv2.polylines(canvas, [corners], closed, colour, round(2 * unit), cv2.LINE_AA)


def _hatch(canvas: Pixels, corners: NDArray[np.int32], unit: float) -> None:
    height, width = canvas.shape[:2]
    inside = np.zeros((height, width), np.uint8)
    cv2.fillPoly(inside, [corners], 255)
    stripes = np.zeros((height, width), np.uint8)
    step = round(14 * unit)
    for start in range(-height, width, step):
        cv2.line(stripes, (start, height), (start + height, 0), 255, round(4 * unit))
    canvas[(inside > 0) & (stripes > 0)] //= 4
    _outline(canvas, corners, WHITE, unit, closed=True)


def _line(canvas: Pixels, line: LineConfig, colour: Colour, unit: float) -> None:
    corners = _corners(canvas, line.points)
    _outline(canvas, corners, colour, unit * 1.5, closed=False)
    cv2.circle(canvas, tuple(corners[0].tolist()), round(5 * unit), colour, cv2.FILLED, cv2.LINE_AA)
    piece = (len(corners) - 1) // 2
    start, end = corners[piece].astype(float), corners[piece + 1].astype(float)
    along = (end - start) / max(float(np.hypot(*(end - start))), 1.0)
    right, middle, reach = np.array([-along[1], along[0]]), (start + end) / 2.0, 36 * unit
    tip = (middle + right * reach).round().astype(int).tolist()
    cv2.arrowedLine(canvas, tuple(middle.round().astype(int).tolist()), tuple(tip), BLACK, round(5 * unit), cv2.LINE_AA)
    cv2.arrowedLine(
        canvas, tuple(middle.round().astype(int).tolist()), tuple(tip), colour, round(3 * unit), cv2.LINE_AA
    )
    for text, way in ((f"{line.name}: {line.directions[0]}", right), (line.directions[1], -right)):
        (wide, high), _ = cv2.getTextSize(text, FONT, 0.5 * unit, max(1, round(unit)))
        clear = reach + 8 * unit + (abs(way[0]) * wide + abs(way[1]) * high) / 2.0
        _write(canvas, text, _point(middle + way * clear), colour, unit)


def _point(at: NDArray[np.float64]) -> tuple[int, int]:
    return round(float(at[0])), round(float(at[1]))


def _write(canvas: Pixels, text: str, middle: tuple[int, int], colour: Colour, unit: float) -> None:
    """Dark letters on a plate of the colour about the middle, moved so that all of it is in the picture."""
    mask = None if text.isascii() else text_mask(text, round(15 * unit))
    (width, height), below = cv2.getTextSize(text, FONT, 0.5 * unit, max(1, round(unit)))
    if mask is not None:
        height, width = mask.alpha.shape[:2]
    pad = round(4 * unit)
    left = max(pad, min(middle[0] - width // 2, canvas.shape[1] - width - pad))
    foot = max(height + below + pad, min(middle[1] + height // 2, canvas.shape[0] - below - pad))
    corner, opposite = (left - pad, foot - height - pad), (left + width + pad, foot + below + pad)
    cv2.rectangle(canvas, corner, opposite, colour, cv2.FILLED)
    if mask is not None:
        draw_mask(canvas, mask, (left, foot - height), BLACK)
    else:
        cv2.putText(canvas, text, (left, foot), FONT, 0.5 * unit, BLACK, max(1, round(unit)), cv2.LINE_AA)
