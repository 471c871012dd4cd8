"""Drawing: colours, noise fields, faces (flat, upright, oversampled) and the sprites that they become on the desk.

A sprite is a thing as the oblique camera sees it, ready to be laid on the picture; what it is, others decide.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[Any]
"""uint8 unless said; [H, W, 3] is BGR, [H, W, 4] BGRA with premultiplied alpha, [H, W] a mask."""
Rng = np.random.Generator
Colour = tuple[int, int, int]

OVERSAMPLING = 2
TILT = 0.84
"""The camera looks down at an angle: what lies flat is this much shorter along the picture's height."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class Face:
    """A flat side seen straight on, drawn OVERSAMPLING times too large. ``colour`` [H, W, 3], ``alpha`` [H, W]."""

    colour: Image
    alpha: Image


@dataclass(frozen=True)
class Sprite:
    """A thing as the camera sees it. ``pixels``: [h, w, 4] premultiplied; ``mask``: [h, w], what counts as the thing
    (a hand without its sleeve); ``anchor``: the x, y that is laid on the desk; ``height``: pixels, for its shadow."""

    pixels: Image
    mask: Image
    anchor: tuple[float, float]
    height: float


def pick(rng: Rng, choices: Sequence[_T]) -> _T:
    """One of them, all equally likely."""
    return choices[int(rng.integers(len(choices)))]


def chance(rng: Rng, probability: float) -> bool:
    """True so often."""
    return bool(rng.random() < probability)


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """BGR of a hue in degrees; saturation and value 0..1."""
    pixel = np.array([[[(hue % 360) / 2, np.clip(saturation, 0, 1) * 255, np.clip(value, 0, 1) * 255]]], np.uint8)
    blue, green, red = cv2.cvtColor(pixel, cv2.COLOR_HSV2BGR)[0, 0]
    return int(blue), int(green), int(red)


def any_colour(
    rng: Rng, saturation: tuple[float, float] = (0.0, 1.0), value: tuple[float, float] = (0.1, 1.0)
) -> Colour:
    """A colour of any hue."""
    return hsv(rng.uniform(0, 360), rng.uniform(*saturation), rng.uniform(*value))


def dark(rng: Rng) -> Colour:
    """What phones are bezelled in, and much else on a desk: near black, seldom tinted."""
    return any_colour(rng, (0.0, 0.35), (0.06, 0.24))


def skin(rng: Rng) -> Colour:
    """A tone of skin, from pale to deep."""
    depth = rng.uniform(0, 1)
    return hsv(rng.uniform(10, 26), 0.22 + 0.42 * depth + rng.uniform(-0.06, 0.06), 0.95 - 0.58 * depth)


def paper(rng: Rng) -> Colour:
    """White, cream or light grey."""
    return hsv(rng.uniform(30, 60), rng.uniform(0, 0.16), rng.uniform(0.8, 0.98))


def shade(colour: Sequence[float], factor: float) -> Colour:
    """The colour made darker (below 1) or lighter."""
    blue, green, red = (int(np.clip(channel * factor, 0, 255)) for channel in colour)
    return blue, green, red


def contrast(colour: Sequence[float]) -> Colour:
    """Ink that can be read on the colour."""
    return (28, 26, 24) if sum(colour) > 380 else (236, 240, 242)


def rows_columns(height: int, width: int) -> tuple[Image, Image]:
    """Each pixel's y and its x, float32 [H, W]."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    return y, x


def across(height: int, width: int) -> tuple[Image, Image]:
    """Each pixel's y and its x from -1 to 1, float32 [H, W]."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    return y, x


def clouds(rng: Rng, height: int, width: int, across: float, down: float | None = None) -> Image:
    """Smooth noise, float32 [H, W] in 0..1, with features of so many pixels across and down."""
    rows = max(2, round(height / (down or across)) + 1)
    columns = max(2, round(width / across) + 1)
    coarse = rng.random((rows, columns), dtype=np.float32)
    return np.clip(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), 0, 1)


def turbulence(rng: Rng, height: int, width: int, across: float, octaves: int = 4) -> Image:
    """Clouds upon finer clouds (fractal noise), float32 [H, W] around 0.5."""
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        total += clouds(rng, height, width, max(2.0, across / 2**octave)) / 2 ** (octave + 1)
    return total / (1 - 0.5**octaves)


def flat(height: int, width: int, colour: Sequence[float]) -> Image:
    """A field of one colour."""
    image = np.empty((height, width, 3), np.uint8)
    cv2.rectangle(image, (0, 0), (width, height), [float(int(channel) & 255) for channel in colour], -1)
    return image


def filled(like: Image, colour: Sequence[float]) -> Image:
    """A field of one colour, as large as the mask."""
    return flat(like.shape[0], like.shape[1], colour)


def modulated(image: Image, field: Image) -> Image:
    """The picture times a float field [H, W] around 1."""
    gain = np.ascontiguousarray(field, np.float32)
    return cv2.multiply(image, cv2.merge([gain, gain, gain]), dtype=cv2.CV_8U)


def mixed(first: Sequence[float], second: Sequence[float], field: Image) -> Image:
    """From one colour to the other as the float field [H, W] goes from 0 to 1."""
    share = np.ascontiguousarray(field, np.float32)
    channels = [
        cv2.convertScaleAbs(share, alpha=end - start, beta=start) for start, end in zip(first, second, strict=True)
    ]
    return cv2.merge(channels)


def rounded(height: int, width: int, radius: float) -> Image:
    """The mask of a rectangle with round corners that fills the field."""
    mask = np.zeros((height, width), np.uint8)
    r = int(np.clip(radius, 0, min(height, width) / 2 - 1))
    cv2.rectangle(mask, (r, 0), (width - 1 - r, height - 1), 255, -1)
    cv2.rectangle(mask, (0, r), (width - 1, height - 1 - r), 255, -1)
    for x in (r, width - 1 - r):
        for y in (r, height - 1 - r):
            cv2.circle(mask, (x, y), r, 255, -1)
    return mask


def softened(mask: Image, sigma: float) -> Image:
    """The mask with its corners rounded: blurred, then made crisp again."""
    blurred = cv2.GaussianBlur(mask, (0, 0), sigma).astype(np.int16)
    return np.clip(3 * blurred - 255, 0, 255).astype(np.uint8)


def lines_of_text(image: Image, area: tuple[int, int, int, int], rng: Rng, ink: Colour, pitch: float) -> None:
    """Rows of words, too small to read, in ``x1, y1, x2, y2`` of the picture."""
    left, top, right, bottom = area
    y = float(top)
    while y + pitch * 0.5 < bottom:
        end = right if chance(rng, 0.8) else left + (right - left) * rng.uniform(0.3, 0.9)
        _row_of_words(image, left, end, y, rng, ink, pitch)
        y += pitch


def _row_of_words(image: Image, x: float, end: float, y: float, rng: Rng, ink: Colour, pitch: float) -> None:
    while x < end - pitch:
        width = min(pitch * rng.uniform(0.8, 3.2), end - x)
        cv2.rectangle(image, (int(x), int(y)), (int(x + width), int(y + pitch * 0.38)), ink, -1)
        x += width + pitch * 0.5


def finished(colour: Image, alpha: Image, mask: Image | None, anchor: tuple[float, float], height: float) -> Sprite:
    """A sprite of straight colours and a mask, both of the final size."""
    alpha3 = cv2.merge([alpha, alpha, alpha])
    premultiplied = cv2.multiply(colour, alpha3, scale=1 / 255)
    pixels = cv2.merge([*cv2.split(premultiplied), alpha])
    return Sprite(pixels, alpha if mask is None else mask, anchor, height)


def _laid_down(face: Face, angle: float, thickness: float) -> tuple[Image, tuple[int, int]]:
    """The affine map from the face to its sprite when turned by degrees on the desk, and the sprite's size."""
    height, width = face.alpha.shape
    turn = math.radians(angle)
    cosine, sine = math.cos(turn) / OVERSAMPLING, math.sin(turn) / OVERSAMPLING
    linear = np.array([[cosine, -sine], [sine * TILT, cosine * TILT]])
    reach = np.abs(linear) @ np.array([width, height]) / 2 + 2
    size = (math.ceil(2 * reach[0]), math.ceil(2 * reach[1] + thickness))
    offset = reach - linear @ np.array([width / 2, height / 2])
    return np.hstack([linear, offset[:, None]]), size


def slab(face: Face, angle: float, thickness: float, side: Image | None = None, striped: bool = False) -> Sprite:
    """The face lying on the desk, turned by ``angle`` degrees, as the top of a block ``thickness`` pixels high.

    ``side`` [H, W, 3] colours the block's flanks (the face's own colours, darkened, where there is none);
    ``striped`` draws them in layers, as the pages of a book.
    """
    matrix, size = _laid_down(face, angle, thickness)
    top = cv2.warpAffine(face.colour, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    alpha = cv2.warpAffine(face.alpha, matrix, size, flags=cv2.INTER_LINEAR)
    colour, outline = np.zeros_like(top), np.zeros_like(alpha)
    flank = top if side is None else cv2.warpAffine(side, matrix, size, borderMode=cv2.BORDER_REPLICATE)
    for level in range(round(thickness), 0, -1):
        gloom = 0.62 + (0.2 * (level % 2) if striped else 0.0) - 0.012 * level
        moved = np.zeros_like(alpha)
        moved[level:] = alpha[:-level]
        layer = np.zeros_like(flank)
        layer[level:] = cv2.convertScaleAbs(flank[:-level], alpha=gloom)
        cv2.copyTo(layer, (moved > 96).astype(np.uint8), colour)
        outline = np.maximum(outline, moved)
    weight = (alpha.astype(np.float32) / 255)[..., None]
    colour = np.where(outline[..., None] > 0, top * weight + colour * (1 - weight), top).astype(np.uint8)
    whole = np.maximum(outline, alpha)
    return finished(colour, whole, None, (size[0] / 2, (size[1] + thickness) / 2), thickness)
