"""What is drawn on an event's picture, and what is cut out of it. How it is drawn is the agent's ``Overlay``."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import cv2

from agent import Box, Mark, Overlay, colour_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]

CROP_MARGIN = 0.1

Zones = Mapping[str, Sequence[tuple[float, float]]]
"""Polygons in fractions of the picture, by name."""


def annotate(
    pixels: Pixels,
    box: Box,
    label: str,
    stamp: Sequence[str],
    *,
    caption: str = "",
    zones: Zones | None = None,
    lit: Collection[str] = (),
) -> Pixels:
    """A copy of ``pixels`` (uint8 ``[H, W, 3]`` BGR) with the zones, the box, its label and what else is said of it,
    and the stamp at the lower left. ``lit``: zones in which the object is."""
    overlay = Overlay(pixels)
    for name, polygon in (zones or {}).items():
        overlay.zone(name, polygon, lit=name in lit)
    texts = (label, caption) if caption else (label,)
    overlay.mark([Mark(box, texts, colour_of(label), instead=f"?{caption}")])
    overlay.stamp(*stamp)
    return overlay.canvas


def crop_box(size: tuple[int, int], box: Box) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the object with a tenth around it, within a picture of that width and height."""
    dx, dy = (box[2] - box[0]) * CROP_MARGIN, (box[3] - box[1]) * CROP_MARGIN
    left, right = int(max(0, box[0] - dx)), int(min(size[0], box[2] + dx + 1))
    top, bottom = int(max(0, box[1] - dy)), int(min(size[1], box[3] + dy + 1))
    return left, top, right, bottom


def crop(pixels: Pixels, box: Box) -> Pixels | None:
    """The object with a tenth around it, nothing drawn on it; None when the box holds no pixel."""
    height, width = pixels.shape[:2]
    left, top, right, bottom = crop_box((int(width), int(height)), box)
    return pixels[top:bottom, left:right] if left < right and top < bottom else None


def jpeg(pixels: Pixels, quality: int) -> bytes:
    """The picture as JPEG. ValueError for one that has no JPEG form."""
    ok, buffer = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not ok:
        raise ValueError(f"a picture of shape {pixels.shape} cannot be encoded as JPEG")
    return bytes(buffer.tobytes())
