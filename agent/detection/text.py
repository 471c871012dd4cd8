"""Text in any script as a mask to be drawn with: FreeType through Pillow, shaped by libraqm where Pillow has it.

Pillow is imported when the first such text is drawn. Which font has the characters is fonts.py's question.
"""

from __future__ import annotations

import functools
import logging
import unicodedata
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agent.detection.fonts import FontFile, font_for

log = logging.getLogger(__name__)

CAP_HEIGHT = 0.714  # of the em, in the fonts that ship
ASCENT, DESCENT = 0.78, 0.22
CACHED = 512
"""Masks; those of a picture of 4K have some ten kilobytes each."""


class TextMask(NamedTuple):
    """How much of each pixel a text covers, uint8 ``[H, W]``; its baseline is ``ascent`` rows below the top."""

    alpha: NDArray[np.uint8]
    ascent: int


def text_mask(text: str, em: int, *, once: bool = False) -> TextMask | None:
    """The text with letters of ``em`` pixels, rendered once and cached; None where no font has its characters.

    ``once``: not cached, for what is not drawn again, like the time. Every line end and control character is a space.
    What is missing is logged once a text.
    """
    return (_render if once else _rendered)(unicodedata.normalize("NFC", text), max(4, em))


def text_row(texts: Sequence[str], em: int, *, once: bool = False) -> TextMask | None:
    """Texts side by side on one baseline, each cached by itself: labels are few, scores too, their pairs many."""
    masks = [text_mask(text, em, once=once) for text in texts]
    parts = [mask for mask in masks if mask is not None]
    if not parts or len(parts) < len(masks):
        return None
    ascent = max(part.ascent for part in parts)
    height = ascent + max(part.alpha.shape[0] - part.ascent for part in parts)
    row = np.zeros((height, sum(part.alpha.shape[1] for part in parts)), np.uint8)
    left = 0
    for part in parts:
        top = ascent - part.ascent
        row[top : top + part.alpha.shape[0], left : left + part.alpha.shape[1]] = part.alpha
        left += part.alpha.shape[1]
    return TextMask(row, ascent)


def draw_mask(canvas: NDArray[np.uint8], mask: TextMask, corner: tuple[int, int], ink: Sequence[float]) -> None:
    """Blend ``ink`` (BGR) into a picture, uint8 ``[H, W, 3]``; ``corner``: left and top. What lies outside is cut."""
    left, top = corner
    x1, y1 = max(0, left), max(0, top)
    place = canvas[y1 : max(0, top + mask.alpha.shape[0]), x1 : max(0, left + mask.alpha.shape[1])]
    alpha = mask.alpha[y1 - top :, x1 - left :][: place.shape[0], : place.shape[1], None].astype(np.uint16)
    colour = np.round(np.asarray(ink[:3])).astype(np.uint16)
    place[:] = ((place * (255 - alpha) + colour * alpha + 127) // 255).astype(np.uint8)


def _render(text: str, em: int) -> TextMask | None:
    text = "".join(" " if unicodedata.category(character) in ("Cc", "Zl", "Zp") else character for character in text)
    file = font_for(text)
    font = None if file is None else _loaded(file, em)
    return None if font is None else _mask(font, text, em)


_rendered = functools.lru_cache(maxsize=CACHED)(_render)


def _mask(font: Any, text: str, em: int) -> TextMask:
    from PIL import Image, ImageDraw

    _note_shaping(text)
    left, top, right, bottom = font.getbbox(text, anchor="ls")
    ascent, descent = max(-int(top), round(ASCENT * em)), max(int(bottom), round(DESCENT * em))
    indent = max(0, -int(left))
    width = indent + max(1, int(right), round(font.getlength(text)))
    image = Image.new("L", (width, ascent + descent))
    ImageDraw.Draw(image).text((indent, ascent), text, fill=255, font=font, anchor="ls")
    alpha = np.array(image, np.uint8)
    alpha.setflags(write=False)
    return TextMask(alpha, ascent)


@functools.lru_cache(maxsize=32)
def _loaded(file: FontFile, em: int) -> Any:
    try:
        from PIL import ImageFont

        return ImageFont.truetype(str(file.path), em, index=file.face)
    except (ImportError, OSError) as error:
        log.warning("%s: cannot be drawn with: %s", file.path, error)
        return None


def _note_shaping(text: str) -> None:
    if any(unicodedata.bidirectional(character) in ("R", "AL") for character in text):
        _note_no_raqm()


@functools.lru_cache(maxsize=1)
def _note_no_raqm() -> None:
    from PIL import features

    if not (features.check("raqm") and features.check("fribidi")):
        log.warning("this Pillow has no libraqm or fribidi: labels written from right to left are drawn unshaped")
