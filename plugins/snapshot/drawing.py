"""Draws on a copy of a picture: the box, what it is, when it was; cuts the object out. Sizes follow the picture's."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any

import cv2

from agent import Box, draw_mask, text_mask

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]

FONT = cv2.FONT_HERSHEY_SIMPLEX
ORANGE = (0, 159, 230)  # BGR; of Okabe and Ito's palette, which the colour-blind can tell apart
BLACK = (0, 0, 0)
WHITE = (255, 255, 255)
TEXT_HEIGHT = 0.026
CAP_HEIGHT = 0.72  # of the em
MIN_TEXT_PIXELS = 9
CROP_MARGIN = 0.1


def annotate(pixels: Pixels, box: Box, caption: str, stamp: str) -> Pixels:
    """A copy of ``pixels`` (uint8 ``[H, W, 3]`` BGR) with the box and its caption, and the stamp at the lower left."""
    canvas: Pixels = pixels.copy()
    x1, y1, x2, y2 = _inside(canvas, box)
    width = line_width(canvas)
    cv2.rectangle(canvas, (x1, y1), (x2, y2), BLACK, width + 2, cv2.LINE_AA)
    cv2.rectangle(canvas, (x1, y1), (x2, y2), ORANGE, width, cv2.LINE_AA)
    _plate(canvas, caption, x1, y1, BLACK, ORANGE)
    _plate(canvas, stamp, 0, canvas.shape[0], WHITE, BLACK)
    return canvas


def crop(pixels: Pixels, box: Box) -> Pixels | None:
    """The object with a tenth around it, nothing drawn on it; None when the box holds no pixel."""
    height, width = pixels.shape[:2]
    dx, dy = (box[2] - box[0]) * CROP_MARGIN, (box[3] - box[1]) * CROP_MARGIN
    left, right = int(max(0, box[0] - dx)), int(min(width, box[2] + dx + 1))
    top, bottom = int(max(0, box[1] - dy)), int(min(height, box[3] + dy + 1))
    return pixels[top:bottom, left:right] if left < right and top < bottom else None


def ascii_text(text: str) -> str:
    """What OpenCV's own font can draw: accents are dropped, other scripts become ``?``."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return "".join(c if " " <= c <= "~" else "?" for c in plain)


def line_width(pixels: Pixels) -> int:
    """Pixels of a line that is seen when the whole picture is looked at."""
    height, width = pixels.shape[:2]
    return max(1, round(min(int(height), int(width)) / 300))


def jpeg(pixels: Pixels, quality: int) -> bytes:
    """The picture as JPEG. ValueError for one that has no JPEG form."""
    ok, buffer = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not ok:
        raise ValueError(f"a picture of shape {pixels.shape} cannot be encoded as JPEG")
    return bytes(buffer.tobytes())


def _plate(canvas: Pixels, text: str, x: int, bottom: int, ink: Any, paper: Any) -> None:
    """Text on a filled plate whose lower left corner is at ``x, bottom``, moved so that all of it is in the picture."""
    if not text.isascii() and _plate_any(canvas, text, (x, bottom), ink, paper):
        return
    text = ascii_text(text)
    scale, thickness = _scale(canvas, text)
    (width, height), below = cv2.getTextSize(text, FONT, scale, thickness)
    pad = max(2, height // 3)
    left = max(0, min(x, canvas.shape[1] - width - 2 * pad))
    foot = max(height + below + 2 * pad, min(bottom, canvas.shape[0]))
    cv2.rectangle(canvas, (left, foot - height - below - 2 * pad), (left + width + 2 * pad, foot), paper, cv2.FILLED)
    cv2.putText(canvas, text, (left + pad, foot - pad - below), FONT, scale, ink, thickness, cv2.LINE_AA)


def _plate_any(canvas: Pixels, text: str, corner: tuple[int, int], ink: Any, paper: Any) -> bool:
    """The same for any script; False where no font has its characters."""
    em = max(MIN_TEXT_PIXELS, TEXT_HEIGHT * min(canvas.shape[:2])) / CAP_HEIGHT
    mask = text_mask(text, round(em))
    if mask is None:
        return False
    if mask.alpha.shape[1] > 0.95 * canvas.shape[1]:
        mask = text_mask(text, int(em * 0.95 * canvas.shape[1] / mask.alpha.shape[1])) or mask
    height, width = mask.alpha.shape
    pad = max(2, height // 6)
    left = max(0, min(corner[0], canvas.shape[1] - width - 2 * pad))
    foot = max(height + pad, min(corner[1], canvas.shape[0]))
    cv2.rectangle(canvas, (left, foot - height - pad), (left + width + 2 * pad, foot), paper, cv2.FILLED)
    draw_mask(canvas, mask, (left + pad, foot - height - pad // 2), ink)
    return True


def _scale(canvas: Pixels, text: str) -> tuple[float, int]:
    """The font's scale and thickness for letters of a height that suits the picture, and a text that fits its width."""
    (width, height), _ = cv2.getTextSize(text, FONT, 1.0, 1)
    wanted = max(MIN_TEXT_PIXELS, TEXT_HEIGHT * min(canvas.shape[:2]))
    scale = min(wanted / max(1, height), 0.95 * canvas.shape[1] / max(1, width + height))
    return max(0.1, scale), max(1, round(scale * 1.6))


def _inside(pixels: Pixels, box: Box) -> tuple[int, int, int, int]:
    height, width = pixels.shape[:2]
    x1, x2 = (min(max(round(x), 0), width - 1) for x in (box[0], box[2]))
    y1, y2 = (min(max(round(y), 0), height - 1) for y in (box[1], box[3]))
    return x1, y1, x2, y2
