"""From sprites laid on a table top to a picture and its truth: shadows, motion blur, occlusion, light, sensor noise.

What lies where is decided by scene.py (stills) and motion.py (the camera).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np

from agent.sources.desk.canvas import Image, Rng, Sprite
from agent.sources.desk.lights import Light

Window = tuple[int, int, int, int]
MOST_THINGS = 250
"""Owners are counted in a byte."""


class Truth(NamedTuple):
    """One labelled thing: the box of what can be seen of it (``x1, y1, x2, y2``, pixels of the picture, float), and
    which share of the whole thing that is, 0..1 (the rest lies behind something or outside the picture)."""

    label: str
    box: tuple[float, float, float, float]
    visible: float


@dataclass(frozen=True)
class Laid:
    """A sprite on the desk: where its anchor lies, how far it moves during one exposure, its label if it has one."""

    sprite: Sprite
    x: float
    y: float
    motion: tuple[float, float] = (0.0, 0.0)
    label: str = ""


@dataclass
class Stage:
    """A picture in the making. ``owner`` [H, W]: whose each pixel is, 0 the desk's, k + 1 the k-th thing's."""

    pixels: Image
    owner: Image = field(init=False)
    laid: list[Laid] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.owner = np.zeros(self.pixels.shape[:2], np.uint8)


def _window(stage: Stage, x: float, y: float, size: tuple[int, int], margin: int = 0) -> Window | None:
    """The part of the picture that a sprite at x, y reaches; None when it lies outside."""
    height, width = stage.owner.shape
    left, top = max(0, math.floor(x) - margin), max(0, math.floor(y) - margin)
    right = min(width, math.floor(x) + size[0] + 1 + margin)
    bottom = min(height, math.floor(y) + size[1] + 1 + margin)
    return (left, top, right, bottom) if left < right and top < bottom else None


def _shifted(image: Image, x: float, y: float, window: Window) -> Image:
    """The sprite's part of the window, moved by fractions of a pixel."""
    left, top, right, bottom = window
    matrix = np.array([[1, 0, x - left], [0, 1, y - top]], np.float64)
    return cv2.warpAffine(image, matrix, (right - left, bottom - top), flags=cv2.INTER_LINEAR)


def _smear(image: Image, motion: tuple[float, float]) -> Image:
    """Blurred along the way it goes during one exposure."""
    length = math.hypot(*motion)
    if length < 1.5:
        return image
    side = 2 * math.ceil(length / 2) + 1
    kernel = np.zeros((side, side), np.float32)
    middle, half = side // 2, np.array(motion) / 2
    start, end = (middle - half).round().astype(int), (middle + half).round().astype(int)
    cv2.line(kernel, start.tolist(), end.tolist(), 1.0)
    return cv2.filter2D(image, -1, kernel / kernel.sum(), borderType=cv2.BORDER_CONSTANT)


def _cast_shadow(stage: Stage, laid: Laid, light: Light, corner: tuple[float, float]) -> None:
    sprite, soft = laid.sprite, 2.0 + laid.sprite.height * 0.35
    x = corner[0] + light.shadow[0] * sprite.height + 1
    y = corner[1] + light.shadow[1] * sprite.height + 1
    height, width = sprite.mask.shape
    window = _window(stage, x, y, (width, height), math.ceil(2 * soft))
    if window is None:
        return
    alpha = _shifted(cv2.extractChannel(sprite.pixels, 3), x, y, window)
    box = 2 * round(soft * 0.9) + 1
    soft_alpha = cv2.blur(cv2.blur(alpha, (box, box)), (box, box))
    gain = 255 - cv2.convertScaleAbs(soft_alpha, alpha=light.depth)
    left, top, right, bottom = window
    ground = stage.pixels[top:bottom, left:right]
    cv2.multiply(ground, cv2.merge([gain, gain, gain]), dst=ground, scale=1 / 255)


def lay(stage: Stage, laid: Laid, light: Light) -> None:
    """Put one thing on top of what is there, with its shadow under it."""
    sprite = laid.sprite
    corner = laid.x - sprite.anchor[0], laid.y - sprite.anchor[1]
    _cast_shadow(stage, laid, light, corner)
    stage.laid.append(laid)
    stage.whole.append(float(cv2.countNonZero((sprite.mask > 127).astype(np.uint8))) if laid.label else 0.0)
    height, width = sprite.mask.shape
    window = _window(stage, *corner, (width, height), math.ceil(math.hypot(*laid.motion) / 2))
    if window is not None:
        _paint(stage, laid, corner, window)


def _paint(stage: Stage, laid: Laid, corner: tuple[float, float], window: Window) -> None:
    left, top, right, bottom = window
    pixels = _smear(_shifted(laid.sprite.pixels, *corner, window), laid.motion)
    alpha = cv2.extractChannel(pixels, 3)
    ground, owner = stage.pixels[top:bottom, left:right], stage.owner[top:bottom, left:right]
    rest = 255 - alpha
    cv2.multiply(ground, cv2.merge([rest, rest, rest]), dst=ground, scale=1 / 255)
    cv2.add(ground, cv2.cvtColor(pixels, cv2.COLOR_BGRA2BGR), dst=ground)
    owner[alpha > 127] = 0
    if laid.label:
        mask = _smear(_shifted(laid.sprite.mask, *corner, window), laid.motion)
        owner[mask > 127] = len(stage.laid)


def truths(stage: Stage) -> list[Truth]:
    """What can be seen of each labelled thing, in the order in which they were laid."""
    counts = np.bincount(stage.owner.ravel(), minlength=len(stage.laid) + 1)
    found = []
    for index, (laid, whole) in enumerate(zip(stage.laid, stage.whole, strict=True)):
        if laid.label and counts[index + 1]:
            x, y, w, h = cv2.boundingRect(cv2.inRange(stage.owner, index + 1, index + 1))
            visible = min(1.0, float(counts[index + 1]) / whole)
            found.append(Truth(laid.label, (float(x), float(y), float(x + w), float(y + h)), visible))
    return found


def photographed(pixels: Image, gain: Image, rng: Rng, grain: Image, exposure: float = 1.0) -> Image:
    """The lit desk as the sensor reports it.

    ``gain``: float32 [H, W, 3]; ``grain``: int16 noise, larger than the picture: another part of it is taken each time.
    """
    height, width = pixels.shape[:2]
    top = int(rng.integers(grain.shape[0] - height + 1))
    left = int(rng.integers(grain.shape[1] - width + 1))
    lit = cv2.multiply(pixels, gain, scale=exposure, dtype=cv2.CV_8U)
    return cv2.add(lit, grain[top : top + height, left : left + width], dtype=cv2.CV_8U)


@functools.lru_cache(maxsize=4)
def _unit_grain(height: int, width: int) -> Image:
    """One field of noise a size: what is seen of it, and how strong, is drawn for each picture."""
    field = np.random.default_rng(height * 10007 + width).standard_normal((height, width, 3), dtype=np.float32)
    return 0.75 * field + 1.2 * cv2.blur(field, (3, 3))


def sensor_grain(height: int, width: int, sigma: float) -> Image:
    """Noise for photographed(), int16 [H + 64, W + 64, 3]: a little coarser than a pixel, as after demosaicing."""
    grain: Image = np.rint(_unit_grain(height + 64, width + 64) * np.float32(sigma)).astype(np.int16)
    return grain


def composed(surface: Image, things: Sequence[Laid], light: Light) -> Stage:
    """The table top with the things laid on it in order, not yet lit."""
    stage = Stage(surface.copy())
    for laid in things:
        lay(stage, laid, light)
    return stage
