"""Boxes, labels, zones and times drawn on a picture, for people to look at: legible at any size, on any ground.

Sizes follow the picture's shorter side. Colours are Okabe and Ito's, which colour-blind people can tell apart; every
line has a dark edge, every text a plate, and of black and white the ink is the one that contrasts more.
"""

from __future__ import annotations

import unicodedata
import zlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.data import Box, Detections
from agent.detection.text import TextMask, draw_mask, text_row

Pixels = NDArray[np.uint8]
Colour = tuple[int, int, int]

# BGR: orange, sky blue, bluish green, yellow, blue, vermilion, reddish purple.
PALETTE: tuple[Colour, ...] = (
    (0, 159, 230),
    (233, 180, 86),
    (115, 158, 0),
    (66, 228, 240),
    (178, 114, 0),
    (0, 94, 213),
    (167, 121, 204),
)
BLACK: Colour = (0, 0, 0)
WHITE: Colour = (255, 255, 255)
FONT = cv2.FONT_HERSHEY_SIMPLEX
FONT_HEIGHT = 30.0
"""Pixels from foot to cap, and above, of that font at scale 1."""
EM = 0.034
SMALLEST_EM = 12
LINE = 1 / 320
DASHES = 9
TINT = 0.18


class Spot(NamedTuple):
    """Where a plate stands: left, top, width and height in pixels."""

    left: int
    top: int
    width: int
    height: int


class Mark(NamedTuple):
    """A thing to be marked: its box in pixels of the picture, the parts of its caption, a colour; ``dashed`` tells it
    from another of that colour. ``instead``: what is written where no font has the caption."""

    box: Box
    caption: tuple[str, ...]
    colour: Colour
    dashed: bool = False
    instead: str = "?"


def draw(pixels: Pixels, detections: Detections) -> Pixels:
    """A copy of a BGR picture with every box, its label and its score; what is surest is drawn last, on top."""
    overlay = Overlay(pixels)
    overlay.mark(
        Mark(
            (float(box[0]), float(box[1]), float(box[2]), float(box[3])),
            (label, f" {score:.2f}"),
            colour_of(int(number)),
            int(number) // len(PALETTE) % 2 == 1,
            f"class {number} {score:.2f}",
        )
        for box, label, score, number in zip(
            detections.boxes, detections.labels, detections.scores, detections.class_ids, strict=True
        )
    )
    return overlay.canvas


def colour_of(what: int | str) -> Colour:
    """The BGR colour of a class by its number, or of a label; people are orange everywhere."""
    number = what if isinstance(what, int) else 0 if what == "person" else zlib.crc32(what.encode()) % len(PALETTE)
    return PALETTE[number % len(PALETTE)]


def ink_on(colour: Colour) -> Colour:
    """Black or white, whichever contrasts more with a BGR colour (relative luminance and contrast of WCAG 2)."""
    linear = [(c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4) for c in colour]
    luminance = 0.0722 * linear[0] + 0.7152 * linear[1] + 0.2126 * linear[2]
    return BLACK if (luminance + 0.05) / 0.05 >= 1.05 / (luminance + 0.05) else WHITE


class Overlay:
    """Draws on a copy of a picture, uint8 ``[H, W, 3]`` BGR; ``canvas`` is what there is so far.

    Coordinates of boxes are pixels, those of polygons fractions of the picture. What lies outside is cut.
    """

    def __init__(self, pixels: Pixels) -> None:
        self.canvas: Pixels = np.array(pixels, np.uint8)
        self._shorter = min(int(self.canvas.shape[0]), int(self.canvas.shape[1]))
        self._em = max(SMALLEST_EM, round(EM * self._shorter))
        self._line: int = max(2, round(self._shorter * LINE))
        self._names: list[tuple[Spot, _Words]] = []

    def mark(self, marks: Iterable[Mark]) -> None:
        """Boxes with their captions; the first is drawn last, and its caption placed first."""
        placed: list[tuple[Mark, Spot, _Words]] = []
        taken = [spot for spot, _ in self._names]
        for mark in marks:
            words = self._words(mark.caption, mark.instead, self._em_for(mark.box))
            taken.append(self._place(mark.box, words, taken))
            placed.append((mark, taken[-1], words))
        for mark, _, _ in reversed(placed):
            self._box(mark)
        for spot, words in self._names:
            self._plate(spot, words, WHITE)
        for mark, spot, words in reversed(placed):
            self._plate(spot, words, mark.colour)

    def zone(self, name: str, polygon: Sequence[tuple[float, float]], *, lit: bool = False) -> None:
        """A white outline with its name, before any mark; ``lit``: something is in it, so it is tinted."""
        corners = self._corners(polygon)
        if len(corners) < 2:
            return
        if lit:
            self._tint(corners, WHITE)
        cv2.polylines(self.canvas, [corners], True, BLACK, self._line + 2 * self._edge, cv2.LINE_AA)
        cv2.polylines(self.canvas, [corners], True, WHITE, self._line, cv2.LINE_AA)
        words = self._words((name,), ascii_text(name), max(SMALLEST_EM, round(0.8 * self._em)))
        left, top = (int(side) for side in corners.min(axis=0))
        self._names.append((self._inside(left, top, words), words))
        self._plate(*self._names[-1], WHITE)

    def stamp(self, *texts: str) -> None:
        """A line of text at the lower left: which camera, when."""
        text = "  ".join(filter(None, texts))
        words = self._words((text,), ascii_text(text), self._em, once=True)
        self._plate(self._inside(0, self.canvas.shape[0], words), words, BLACK)

    @property
    def _edge(self) -> int:
        return max(1, self._line // 2)

    def _em_for(self, box: Box) -> int:
        """Smaller letters for a small thing, so that its neighbours are still seen; never too small to be read."""
        wanted = 0.3 * max(box[3] - box[1], box[2] - box[0])
        return round(max(SMALLEST_EM, 0.6 * self._em, min(self._em, wanted)))

    def _box(self, mark: Mark) -> None:
        left, top, right, bottom = self._cut(mark.box)
        cv2.rectangle(self.canvas, (left, top), (right, bottom), BLACK, self._line + 2 * self._edge)
        cv2.rectangle(self.canvas, (left, top), (right, bottom), mark.colour, self._line)
        if mark.dashed:
            self._dash((left, top, right, bottom))

    def _dash(self, box: tuple[int, int, int, int]) -> None:
        """Dark gaps in the box's lines."""
        left, top, right, bottom = box
        for step in range(1, DASHES, 2):
            x1, x2 = (round(left + (right - left) * part / DASHES) for part in (step, step + 1))
            y1, y2 = (round(top + (bottom - top) * part / DASHES) for part in (step, step + 1))
            for start, end in (((x1, top), (x2, top)), ((x1, bottom), (x2, bottom))):
                cv2.line(self.canvas, start, end, BLACK, self._line + 1)
            for start, end in (((left, y1), (left, y2)), ((right, y1), (right, y2))):
                cv2.line(self.canvas, start, end, BLACK, self._line + 1)

    def _tint(self, corners: NDArray[np.int32], colour: Colour) -> None:
        left, top, width, height = cv2.boundingRect(corners)
        x, y = max(0, left), max(0, top)
        part = self.canvas[y : max(y, top + height), x : max(x, left + width)]
        if part.size:
            filled = part.copy()
            cv2.fillPoly(filled, [corners], colour, offset=(-x, -y))
            part[:] = cv2.addWeighted(filled, TINT, part, 1 - TINT, 0.0)

    def _place(self, box: Box, words: _Words, taken: Sequence[Spot]) -> Spot:
        """Above the box, else below it, within it or near it, wherever it covers least of other captions."""
        left, top, right, bottom = self._cut(box)
        width, height = self._plate_size(words)
        rows = [top - height, bottom, top, bottom - height, top - 2 * height, bottom + height, top - 3 * height]
        corners = [(left, row) for row in rows] + [(right, top), (left - width, top)]
        spots = [self._inside(x, y, words) for x, y in corners]
        moved = [abs(spot.top - y) + abs(spot.left - x) for spot, (x, y) in zip(spots, corners, strict=True)]
        return min(zip(_covered(spots, taken), moved, range(len(spots)), spots, strict=True))[-1]

    def _plate_size(self, words: _Words) -> tuple[int, int]:
        return words.size[0] + 2 * words.pad, words.size[1] + words.pad

    def _inside(self, left: int, top: int, words: _Words) -> Spot:
        """A plate near a corner, moved so that all of it is in the picture."""
        width, height = self._plate_size(words)
        x = max(0, min(left, self.canvas.shape[1] - width))
        y = max(0, min(top, self.canvas.shape[0] - height))
        return Spot(x, y, width, height)

    def _plate(self, spot: Spot, words: _Words, colour: Colour) -> None:
        low = spot.left + spot.width - 1, spot.top + spot.height - 1
        cv2.rectangle(self.canvas, (spot.left, spot.top), low, colour, cv2.FILLED)
        if colour != BLACK:
            cv2.rectangle(self.canvas, (spot.left, spot.top), low, BLACK, 1)
        words.write(self.canvas, (spot.left + words.pad, spot.top + words.pad // 2), ink_on(colour))

    def _words(self, texts: tuple[str, ...], instead: str, em: int, *, once: bool = False) -> _Words:
        """The text in letters of that size, or of one with which it fits the picture's width."""
        room = self.canvas.shape[1] - 2 * max(2, em // 4)
        words = _Words.of(texts, instead, em, once=once)
        if words.size[0] > room:
            words = _Words.of(texts, instead, max(4, int(em * room / words.size[0])), once=once)
        return words

    def _corners(self, polygon: Sequence[tuple[float, float]]) -> NDArray[np.int32]:
        height, width = self.canvas.shape[:2]
        return np.array([(round(x * (width - 1)), round(y * (height - 1))) for x, y in polygon], np.int32)

    def _cut(self, box: Box) -> tuple[int, int, int, int]:
        height, width = self.canvas.shape[:2]
        x1, x2 = (min(max(round(x), 0), width - 1) for x in (box[0], box[2]))
        y1, y2 = (min(max(round(y), 0), height - 1) for y in (box[1], box[3]))
        return x1, y1, x2, y2


class _Words(NamedTuple):
    """Text that is ready to be written: as a mask, or with OpenCV's font where no other has its characters."""

    size: tuple[int, int]
    pad: int
    mask: TextMask | None
    text: str
    em: int

    @classmethod
    def of(cls, texts: tuple[str, ...], instead: str, em: int, *, once: bool) -> _Words:
        pad, mask = max(2, em // 4), text_row(texts, em, once=once)
        if mask is not None:
            return cls((int(mask.alpha.shape[1]), int(mask.alpha.shape[0])), pad, mask, "", em)
        mask = text_row((instead,), em, once=once)
        if mask is not None:
            return cls((int(mask.alpha.shape[1]), int(mask.alpha.shape[0])), pad, mask, "", em)
        (width, height), below = cv2.getTextSize(ascii_text(instead), FONT, em / FONT_HEIGHT, max(1, em // 14))
        return cls((width, height + below), pad, None, ascii_text(instead), em)

    def write(self, canvas: Pixels, corner: tuple[int, int], ink: Colour) -> None:
        if self.mask is not None:
            draw_mask(canvas, self.mask, corner, ink)
            return
        scale, thickness = self.em / FONT_HEIGHT, max(1, self.em // 14)
        (_, height), _ = cv2.getTextSize(self.text, FONT, scale, thickness)
        cv2.putText(canvas, self.text, (corner[0], corner[1] + height), FONT, scale, ink, thickness, cv2.LINE_AA)


def _covered(spots: Sequence[Spot], taken: Sequence[Spot]) -> list[int]:
    """Of each spot the pixels, in sum, that others cover."""
    if not taken:
        return [0] * len(spots)
    mine, others = np.array(spots)[:, None], np.array(taken)[None]
    low = np.maximum(mine[..., :2], others[..., :2])
    high = np.minimum(mine[..., :2] + mine[..., 2:], others[..., :2] + others[..., 2:])
    covered: list[int] = np.clip(high - low, 0, None).prod(axis=2).sum(axis=1).tolist()
    return covered


def ascii_text(text: str) -> str:
    """What OpenCV's own font can draw: accents are dropped, other scripts become ``?``."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return "".join(c if " " <= c <= "~" else "?" for c in plain)
