"""What lies about and is none of the four things, but looks like them: in colour, in shape, or lying across them.

One function a family, ``(rng, patterns, unit) -> Sprite``. OCCLUDERS may lie on top of things, CLUTTER beside them.
The Domain says which families appear.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from agent.sources.desk.canvas import (
    OVERSAMPLING,
    Colour,
    Face,
    Image,
    Rng,
    Sprite,
    across,
    any_colour,
    chance,
    clouds,
    contrast,
    dark,
    filled,
    flat,
    hsv,
    lines_of_text,
    modulated,
    paper,
    pick,
    rounded,
    shade,
    skin,
    slab,
    softened,
)
from agent.sources.desk.things import printed

Patterns = Sequence[str]
Maker = Callable[[Rng, Patterns, float], Sprite]


def _sides(rng: Rng, unit: float, width: tuple[float, float], ratio: tuple[float, float]) -> tuple[int, int]:
    """Height and width of a face, oversampled."""
    wide = rng.uniform(*width) * unit * OVERSAMPLING
    return int(wide * rng.uniform(*ratio)), int(wide)


def _lying(rng: Rng, colour: Image, alpha: Image, thickness: float) -> Sprite:
    return slab(Face(colour, alpha), rng.uniform(0, 360), thickness)


def _worn(rng: Rng, height: int, width: int, colour: Colour) -> Image:
    return modulated(flat(height, width, colour), 0.9 + 0.2 * clouds(rng, height, width, max(8, width / 3)))


# ---------------------------------------------------------------- of a phone's or a book's shape


def box(rng: Rng, patterns: Patterns, unit: float) -> Sprite:
    """A carton, often the colour of a phone or a book, sometimes with tape across."""
    height, width = _sides(rng, unit, (50, 115), (1.0, 2.1))
    colour = _worn(rng, height, width, dark(rng) if chance(rng, 0.45) else any_colour(rng))
    if chance(rng, 0.4):
        middle, half = width // 2, int(width * 0.08)
        colour[:, middle - half : middle + half] = shade(colour[0, 0].tolist(), 1.25)
    return _lying(rng, colour, rounded(height, width, 3), rng.uniform(8, 26) * unit)


def slate(rng: Rng, patterns: Patterns, unit: float) -> Sprite:
    """A dark tile of a phone's size and colour."""
    height, width = _sides(rng, unit, (50, 85), (1.7, 2.2))
    return _lying(rng, _worn(rng, height, width, dark(rng)), rounded(height, width, width * 0.1), 4 * unit)


def wallet(rng: Rng, patterns: Patterns, unit: float) -> Sprite:
    """Leather with a seam."""
    height, width = _sides(rng, unit, (60, 90), (0.7, 1.4))
    tone = skin(rng) if chance(rng, 0.35) else any_colour(rng, (0.1, 0.7), (0.1, 0.5))
    colour = _worn(rng, height, width, tone)
    cv2.rectangle(colour, (6, 6), (width - 7, height - 7), shade(tone, 1.4), 1)
    cv2.line(colour, (0, height // 2), (width, height // 2), shade(tone, 0.6), 2)
    return _lying(rng, colour, rounded(height, width, 10), 6 * unit)


def _buttons(rng: Rng, colour: Image, top: float, rows: int, columns: int, key: Colour) -> None:
    height, width = colour.shape[:2]
    for row in range(rows):
        for column in range(columns):
            x = int(width * (column + 0.5) / columns)
            y = int(height * (top + (1 - top) * (row + 0.5) / rows))
            half = int(min(width / columns, height * (1 - top) / rows) * 0.34)
            cv2.rectangle(colour, (x - half, y - half), (x + half, y + half), key, -1)


def remote(rng: Rng, patterns: Patterns, unit: float) -> Sprite:
    """A remote control: slim, dark, rows of buttons."""
    height, width = _sides(rng, unit, (32, 48), (3.0, 4.2))
    colour = flat(height, width, dark(rng))
    _buttons(rng, colour, 0.12, int(rng.integers(7, 12)), 3, any_colour(rng, (0, 0.3), (0.3, 0.8)))
    return _lying(rng, colour, rounded(height, width, width * 0.2), 6 * unit)


def keyboard(rng: Rng, patterns: Patterns, unit: float) -> Sprite:
    """A keyboard, light or dark."""
    height, width = _sides(rng, unit, (230, 320), (0.32, 0.4))
    colour = flat(height, width, any_colour(rng, (0, 0.2), (0.1, 0.85)))
    key = shade(colour[0, 0].tolist(), 1.5) if colour.mean() < 120 else shade(colour[0, 0].tolist(), 0.8)
    _buttons(rng, colour, 0.04, 5, 15, key)
    return slab(Face(colour, rounded(height, width, 10)), rng.uniform(-25, 25), 5 * unit)


def sheet(rng: Rng, patterns: Patterns, unit: float) -> Sprite:
    """A sheet of paper, written on or empty: an open book's page without the book."""
    height, width = _sides(rng, unit, (95, 170), (1.2, 1.5))
    colour = _worn(rng, height, width, paper(rng))
    if chance(rng, 0.7):
        area = (width // 10, height // 12, width * 9 // 10, height * 11 // 12)
        lines_of_text(colour, area, rng, (110, 104, 100), height * rng.uniform(0.03, 0.06))
    return _lying(rng, colour, np.full((height, width), 255, np.uint8), 1)


def card(rng: Rng, patterns: Patterns, unit: float) -> Sprite:
    """A card or a note of any colour, one in three that of skin."""
    height, width = _sides(rng, unit, (40, 95), (0.6, 1.7))
    tone = skin(rng) if chance(rng, 0.34) else any_colour(rng)
    colour = _worn(rng, height, width, tone)
    if chance(rng, 0.4):
        area = (width // 8, height // 6, width * 7 // 8, height * 5 // 6)
        lines_of_text(colour, area, rng, contrast(tone), height * 0.12)
    return _lying(rng, colour, rounded(height, width, 5), 1)


def poster(rng: Rng, patterns: Patterns, unit: float) -> Sprite:
    """A printed leaf: a cover's picture without a book."""
    height, width = _sides(rng, unit, (60, 140), (0.7, 1.6))
    return _lying(rng, printed(rng, patterns, height, width), np.full((height, width), 255, np.uint8), 1)


def tray(rng: Rng, patterns: Patterns, unit: float) -> Sprite:
    """A dark tray with a raised rim."""
    height, width = _sides(rng, unit, (70, 120), (1.0, 2.0))
    tone = dark(rng) if chance(rng, 0.6) else any_colour(rng)
    colour = _worn(rng, height, width, tone)
    edge = int(width * 0.07)
    cv2.rectangle(colour, (0, 0), (width, height), shade(tone, 1.5), edge)
    colour[edge : edge * 2, edge:-edge] = shade(tone, 0.6)
    return _lying(rng, colour, rounded(height, width, width * 0.12), 9 * unit)


def powerbank(rng: Rng, patterns: Patterns, unit: float) -> Sprite:
    """A battery of a phone's shape: four small lights, no screen, no lens."""
    height, width = _sides(rng, unit, (50, 74), (1.7, 2.1))
    tone = dark(rng) if chance(rng, 0.6) else any_colour(rng, (0, 0.5))
    colour = _worn(rng, height, width, tone)
    for index in range(4):
        cv2.circle(colour, (int(width * (0.3 + 0.13 * index)), int(height * 0.93)), 3, (240, 240, 230), -1)
    return _lying(rng, colour, rounded(height, width, width * 0.16), 9 * unit)


def calculator(rng: Rng, patterns: Patterns, unit: float) -> Sprite:
    """A pocket calculator: a grey display above its keys."""
    height, width = _sides(rng, unit, (58, 84), (1.4, 1.7))
    colour = flat(height, width, any_colour(rng, (0, 0.3), (0.15, 0.8)))
    display = hsv(90, 0.2, rng.uniform(0.45, 0.65))
    cv2.rectangle(colour, (width // 9, height // 14), (width * 8 // 9, height // 4), display, -1)
    _buttons(rng, colour, 0.3, 5, 4, any_colour(rng, (0, 0.5), (0.2, 0.95)))
    return _lying(rng, colour, rounded(height, width, width * 0.08), 5 * unit)


def envelope(rng: Rng, patterns: Patterns, unit: float) -> Sprite:
    """An envelope, its flap to be seen."""
    height, width = _sides(rng, unit, (110, 170), (0.5, 0.7))
    tone = paper(rng) if chance(rng, 0.5) else skin(rng)
    colour = _worn(rng, height, width, tone)
    flap = np.array([(0, 0), (width // 2, int(height * 0.6)), (width, 0)], np.int32)
    cv2.polylines(colour, [flap], False, shade(tone, 0.7), 3, cv2.LINE_AA)
    return _lying(rng, colour, np.full((height, width), 255, np.uint8), 1.5 * unit)


# ---------------------------------------------------------------- of a cup's shape


def _disc(rng: Rng, unit: float, radius: tuple[float, float]) -> tuple[int, Image]:
    r = int(rng.uniform(*radius) * unit * OVERSAMPLING)
    mask = np.zeros((2 * r + 3, 2 * r + 3), np.uint8)
    cv2.circle(mask, (r + 1, r + 1), r, 255, -1, cv2.LINE_AA)
    return r, mask


def plate(rng: Rng, patterns: Patterns, unit: float) -> Sprite:
    """A plate: a rim around a hollow, no handle."""
    r, mask = _disc(rng, unit, (40, 78))
    tone = paper(rng) if chance(rng, 0.5) else any_colour(rng, (0, 0.8), (0.3, 0.95))
    colour = filled(mask, tone)
    cv2.circle(colour, (r, r), int(r * 0.97), shade(tone, 1.15), 3, cv2.LINE_AA)
    cv2.circle(colour, (r, r), int(r * 0.66), shade(tone, 0.82), max(2, r // 14), cv2.LINE_AA)
    if chance(rng, 0.4):
        cv2.circle(colour, (r, r), int(r * 0.86), any_colour(rng), max(2, r // 12), cv2.LINE_AA)
    return _lying(rng, colour, mask, 4 * unit)


def coaster(rng: Rng, patterns: Patterns, unit: float) -> Sprite:
    """A round mat, printed or of a drink's brown."""
    _, mask = _disc(rng, unit, (30, 48))
    tone = hsv(20, 0.6, rng.uniform(0.15, 0.6))
    colour = printed(rng, patterns, *mask.shape) if chance(rng, 0.5) else _worn(rng, mask.shape[0], mask.shape[1], tone)
    return _lying(rng, colour, mask, 2 * unit)


def bowl(rng: Rng, patterns: Patterns, unit: float) -> Sprite:
    """A wide bowl: deep, no handle."""
    r, mask = _disc(rng, unit, (46, 70))
    tone = any_colour(rng, (0, 0.7), (0.3, 0.95))
    y, x = across(mask.shape[0], mask.shape[1])
    colour = modulated(filled(mask, tone), 0.72 + 0.3 * (x * x + y * y) + 0.15 * y)
    cv2.circle(colour, (r, r), int(r * 0.96), shade(tone, 1.2), max(2, r // 16), cv2.LINE_AA)
    return _lying(rng, colour, mask, 14 * unit)


def saucer(rng: Rng, patterns: Patterns, unit: float) -> Sprite:
    """A saucer: a small plate with a ring in the middle, and nothing on it."""
    r, mask = _disc(rng, unit, (34, 52))
    tone = any_colour(rng, (0, 0.6), (0.5, 0.98))
    colour = filled(mask, tone)
    cv2.circle(colour, (r, r), int(r * 0.4), shade(tone, 0.75), -1, cv2.LINE_AA)
    cv2.circle(colour, (r, r), int(r * 0.34), shade(tone, 0.95), -1, cv2.LINE_AA)
    return _lying(rng, colour, mask, 5 * unit)


def dial(rng: Rng, patterns: Patterns, unit: float) -> Sprite:
    """A clock without a wall."""
    r, mask = _disc(rng, unit, (32, 54))
    tone = paper(rng) if chance(rng, 0.6) else dark(rng)
    colour = filled(mask, tone)
    ink = contrast(tone)
    for hour in range(12):
        turn = hour * math.pi / 6
        ends = [(int(r + math.cos(turn) * r * k), int(r + math.sin(turn) * r * k)) for k in (0.78, 0.9)]
        cv2.line(colour, ends[0], ends[1], ink, 3, cv2.LINE_AA)
    for length in (0.5, 0.72):
        turn = rng.uniform(0, 2 * math.pi)
        end = (int(r + math.cos(turn) * r * length), int(r + math.sin(turn) * r * length))
        cv2.line(colour, (r, r), end, ink, 4, cv2.LINE_AA)
    cv2.circle(colour, (r, r), r - 2, any_colour(rng, (0, 0.5)), max(4, r // 10), cv2.LINE_AA)
    return _lying(rng, colour, mask, 7 * unit)


def tape(rng: Rng, patterns: Patterns, unit: float) -> Sprite:
    """A roll of tape: a ring with the desk in its hole."""
    r, mask = _disc(rng, unit, (28, 46))
    tone = (
        hsv(rng.uniform(20, 45), rng.uniform(0.2, 0.7), rng.uniform(0.4, 0.9)) if chance(rng, 0.6) else any_colour(rng)
    )
    colour = filled(mask, tone)
    for share in (0.9, 0.8, 0.7):
        cv2.circle(colour, (r, r), int(r * share), shade(tone, 0.85), 1, cv2.LINE_AA)
    cv2.circle(mask, (r, r), int(r * rng.uniform(0.5, 0.62)), 0, -1, cv2.LINE_AA)
    return _lying(rng, colour, mask, 9 * unit)


# ---------------------------------------------------------------- of a hand's colour


def _outline(rng: Rng, corners: int, wobble: float) -> Image:
    turns = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    reach = 1 + rng.uniform(-wobble, wobble, corners)
    return np.stack([np.cos(turns) * reach, np.sin(turns) * reach * rng.uniform(0.5, 1)], 1)


def _blob(rng: Rng, unit: float, radius: tuple[float, float], wobble: float, softness: float) -> Image:
    """The mask of an irregular, softly rounded shape."""
    r = rng.uniform(*radius) * unit * OVERSAMPLING
    side = int(r * 3)
    mask = np.zeros((side, side), np.uint8)
    points = _outline(rng, int(rng.integers(6, 12)), wobble) * r + side / 2
    cv2.fillPoly(mask, [points.astype(np.int32)], 255)
    return softened(mask, r * softness)


def _puffed(rng: Rng, mask: Image, tone: Colour) -> Image:
    distance = cv2.distanceTransform(mask, cv2.DIST_L2, 3)
    field = 0.66 + 0.4 * np.clip(distance / (mask.shape[0] * 0.14), 0, 1) ** 0.6
    return modulated(filled(mask, tone), field * (0.93 + 0.14 * clouds(rng, mask.shape[0], mask.shape[1], 20)))


def cloth(rng: Rng, patterns: Patterns, unit: float) -> Sprite:
    """A crumpled cloth, mostly of skin's colour, lobed like a hand without fingers."""
    mask = _blob(rng, unit, (34, 58), 0.42, 0.08)
    tone = skin(rng) if chance(rng, 0.65) else any_colour(rng)
    return _lying(rng, _puffed(rng, mask, tone), mask, 5 * unit)


def pebble(rng: Rng, patterns: Patterns, unit: float) -> Sprite:
    """A stone, a potato, a bun: round and of skin's colour."""
    mask = _blob(rng, unit, (24, 44), 0.12, 0.2)
    return _lying(rng, _puffed(rng, mask, skin(rng)), mask, 9 * unit)


def strips(rng: Rng, patterns: Patterns, unit: float) -> Sprite:
    """Several short strips of skin's colour side by side: fingers without a hand."""
    count, length = int(rng.integers(2, 6)), rng.uniform(50, 95) * unit * OVERSAMPLING
    pitch = length * rng.uniform(0.18, 0.3)
    size = (int(length * 1.2), int(pitch * (count + 1)))
    mask = np.zeros(size, np.uint8)
    for index in range(count):
        x = int(pitch * (index + 1))
        ends = (x, int(length * rng.uniform(0.1, 0.25))), (x, int(length * rng.uniform(0.9, 1.1)))
        cv2.line(mask, *ends, 255, max(3, int(pitch * 0.7)), cv2.LINE_AA)
    return _lying(rng, _puffed(rng, mask, skin(rng)), mask, 3 * unit)


def strap(rng: Rng, patterns: Patterns, unit: float) -> Sprite:
    """A leather strap, a wooden bar: long and of skin's colour, as wide as an arm."""
    height, width = _sides(rng, unit, (22, 48), (3, 7))
    tone = skin(rng)
    colour = _worn(rng, height, width, tone)
    cv2.rectangle(colour, (4, 4), (width - 5, height - 5), shade(tone, 0.75), 2)
    return _lying(rng, colour, rounded(height, width, width * 0.4), 3 * unit)


# ---------------------------------------------------------------- of no shape in particular


def _silhouette(rng: Rng, height: int, width: int) -> Image:
    """Any outline: an ellipse, a polygon, a rounded rectangle, a frame, a bent curve, a few thick strokes."""
    mask = np.zeros((height, width), np.uint8)
    kind = pick(rng, ["ellipse", "polygon", "block", "frame", "curve", "strokes"])
    if kind == "polygon":
        corners = _outline(rng, int(rng.integers(3, 9)), 0.3) * (0.4 * width, 0.4 * height) + (width / 2, height / 2)
        cv2.fillPoly(mask, [corners.astype(np.int32)], 255, cv2.LINE_AA)
    elif kind == "curve":
        cv2.fillPoly(mask, [_bent(rng, height, width)], 255, cv2.LINE_AA)
    elif kind == "strokes":
        _strokes(rng, mask)
    elif kind == "block":
        mask = rounded(height, width, min(height, width) * rng.uniform(0, 0.5))
    else:
        axes = (width // 2 - 2, height // 2 - 2)
        cv2.ellipse(mask, (width // 2, height // 2), axes, 0, 0, 360, 255, -1, cv2.LINE_AA)
    if kind == "frame":
        share = rng.uniform(0.4, 0.8)
        axes = (int(width * share / 2), int(height * share / 2))
        cv2.ellipse(mask, (width // 2, height // 2), axes, 0, 0, 360, 0, -1, cv2.LINE_AA)
    return mask


def _bent(rng: Rng, height: int, width: int) -> Image:
    """A closed curve of random harmonics, int32 [N, 2]."""
    turn = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    reach = np.ones_like(turn)
    for order in range(2, 7):
        reach += rng.normal(0, 0.3 / order) * np.sin(order * turn + rng.uniform(0, 2 * np.pi))
    reach /= reach.max()
    curve = np.stack([(1 + np.cos(turn) * reach) * width, (1 + np.sin(turn) * reach) * height], 1) / 2
    return curve.astype(np.int32)


def _strokes(rng: Rng, mask: Image) -> None:
    """One to four bent strokes from edge to edge, each of its own thickness."""
    height, width = mask.shape
    for _ in range(int(rng.integers(1, 5))):
        points = rng.uniform((0, 0), (width, height), (3, 2))
        t = np.linspace(0, 1, 24)[:, None]
        way = (1 - t) ** 2 * points[0] + 2 * (1 - t) * t * points[1] + t**2 * points[2]
        thick = max(3, int(min(height, width) * rng.uniform(0.05, 0.35)))
        cv2.polylines(mask, [way.astype(np.int32)], False, 255, min(thick, 120), cv2.LINE_AA)


def _mark(rng: Rng, colour: Image, ink: Colour) -> None:
    """A stroke, a spot, a bar, an arc or a word somewhere on a face."""
    height, width = colour.shape[:2]
    x, y = int(rng.integers(width)), int(rng.integers(height))
    extent, thick = int(max(height, width) * rng.uniform(0.04, 0.4)), int(rng.integers(1, 9))
    kind = pick(rng, ["stroke", "spot", "bar", "arc", "words"])
    if kind == "stroke":
        turn = rng.uniform(0, 2 * math.pi)
        end = (int(x + extent * math.cos(turn)), int(y + extent * math.sin(turn)))
        cv2.line(colour, (x, y), end, ink, thick, cv2.LINE_AA)
    elif kind == "spot":
        cv2.circle(colour, (x, y), max(2, extent // 3), ink, -1 if chance(rng, 0.6) else thick, cv2.LINE_AA)
    elif kind == "bar":
        cv2.rectangle(colour, (x, y), (x + extent, y + int(extent * rng.uniform(0.1, 1))), ink, -1)
    elif kind == "arc":
        start = rng.uniform(0, 360)
        cv2.ellipse(colour, (x, y), (extent, extent), 0, start, start + rng.uniform(60, 360), ink, thick, cv2.LINE_AA)
    else:
        lines_of_text(colour, (x, y, min(width, x + extent), min(height, y + extent)), rng, ink, rng.uniform(6, 18))


def trinket(rng: Rng, patterns: Patterns, unit: float) -> Sprite:
    """A thing of any outline, colour and thickness with any marks on it: whatever it is, none of the four."""
    height, width = _sides(rng, unit, (35, 110), (0.6, 2.1))
    mask = _silhouette(rng, height, width)
    return _odd(rng, patterns, mask, rng.uniform(1, 16) * unit)


def _odd(rng: Rng, patterns: Patterns, mask: Image, thickness: float) -> Sprite:
    """Any face for the outline: one colour or a pattern, marks, keys, a rim."""
    height, width = mask.shape
    tone = dark(rng) if chance(rng, 0.35) else any_colour(rng)
    colour = printed(rng, patterns, height, width) if chance(rng, 0.25) else _worn(rng, height, width, tone)
    ink = contrast(tone) if chance(rng, 0.5) else any_colour(rng)
    if chance(rng, 0.12):
        _buttons(rng, colour, rng.uniform(0, 0.5), int(rng.integers(2, 7)), int(rng.integers(2, 6)), ink)
    for _ in range(int(rng.integers(0, 14))):
        _mark(rng, colour, ink if chance(rng, 0.7) else any_colour(rng))
    if chance(rng, 0.4):
        outline, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
        cv2.drawContours(colour, outline, -1, any_colour(rng), int(rng.integers(3, 16)))
    return _lying(rng, colour, mask, thickness)


def scrap(rng: Rng, patterns: Patterns, unit: float) -> Sprite:
    """A trinket, small or stretched, lying on something else."""
    return trinket(rng, patterns, unit * rng.uniform(0.3, 0.8))


def offcut(rng: Rng, patterns: Patterns, unit: float) -> Sprite:
    """A trinket's long and narrow sister, to lie across something."""
    height, width = _sides(rng, unit, (8, 40), (2.5, 9))
    return _odd(rng, patterns, _silhouette(rng, height, width), rng.uniform(1, 8) * unit)


def lattice(rng: Rng, patterns: Patterns, unit: float) -> Sprite:
    """Strokes with the desk between them: what hides a thing in many places, each a little."""
    height, width = _sides(rng, unit, (60, 150), (0.4, 1.6))
    mask = np.zeros((height, width), np.uint8)
    for _ in range(int(rng.integers(2, 7))):
        ends = rng.uniform((0, 0), (width, height), (2, 2)).astype(int)
        thick = max(3, int(rng.uniform(2, 9) * unit * OVERSAMPLING))
        if chance(rng, 0.6):
            cv2.line(mask, ends[0].tolist(), ends[1].tolist(), 255, thick, cv2.LINE_AA)
        else:
            radius = max(4, int(np.hypot(*(ends[0] - ends[1])) / 4))
            cv2.circle(mask, ends[0].tolist(), radius, 255, thick, cv2.LINE_AA)
    return _odd(rng, patterns, mask, rng.uniform(1, 8) * unit)


# ---------------------------------------------------------------- what lies across other things


def pen(rng: Rng, patterns: Patterns, unit: float) -> Sprite:
    """A pen or pencil."""
    height, width = _sides(rng, unit, (7, 11), (12, 17))
    colour = flat(height, width, any_colour(rng))
    colour[: height // 10] = any_colour(rng, (0, 0.5))
    colour[int(height * 0.92) :] = hsv(30, 0.4, 0.8)
    field = np.tile(1.1 - 0.5 * np.abs(np.linspace(-1, 1, width, dtype=np.float32)), (height, 1))
    return _lying(rng, modulated(colour, field), rounded(height, width, width * 0.45), 5 * unit)


def cable(rng: Rng, patterns: Patterns, unit: float) -> Sprite:
    """A cable in a curve."""
    side = int(rng.uniform(150, 300) * unit * OVERSAMPLING)
    t = np.linspace(0, 1, 60)[:, None]
    a, b, c, d = rng.uniform(0.05, 0.95, (4, 2)) * side
    curve = (1 - t) ** 3 * a + 3 * (1 - t) ** 2 * t * b + 3 * (1 - t) * t**2 * c + t**3 * d
    mask = np.zeros((side, side), np.uint8)
    thick = max(3, int(rng.uniform(4, 7) * unit * OVERSAMPLING))
    cv2.polylines(mask, [curve.astype(np.int32)], False, 255, thick, cv2.LINE_AA)
    return _lying(rng, _puffed(rng, mask, any_colour(rng, (0, 0.6))), mask, 3 * unit)


def band(rng: Rng, patterns: Patterns, unit: float) -> Sprite:
    """A strip of plain paper or tape."""
    height, width = _sides(rng, unit, (10, 34), (3, 9))
    return _lying(rng, _worn(rng, height, width, any_colour(rng)), np.full((height, width), 255, np.uint8), 1)


def ruler(rng: Rng, patterns: Patterns, unit: float) -> Sprite:
    """A ruler with its marks."""
    height, width = _sides(rng, unit, (18, 30), (7, 11))
    tone = hsv(rng.uniform(35, 50), rng.uniform(0.1, 0.6), 0.85) if chance(rng, 0.6) else any_colour(rng)
    colour = flat(height, width, tone)
    for index, y in enumerate(range(4, height, max(4, height // 60))):
        cv2.line(colour, (0, y), (width // (3 if index % 5 else 2), y), (40, 40, 40), 1)
    return _lying(rng, colour, np.full((height, width), 255, np.uint8), 2 * unit)


def leaf(rng: Rng, patterns: Patterns, unit: float) -> Sprite:
    """A leaf of a house plant, with its vein."""
    length = rng.uniform(80, 150) * unit * OVERSAMPLING
    girth = length * rng.uniform(0.3, 0.5)
    t = np.linspace(0, np.pi, 30)
    half = np.stack([np.sin(t) ** 1.3 * girth / 2, t / np.pi * length], 1)
    outline = np.vstack([half, half[::-1] * (-1, 1)]) + np.array([girth / 2 + 2, 2])
    mask = np.zeros((int(length + 4), int(girth + 4)), np.uint8)
    cv2.fillPoly(mask, [outline.astype(np.int32)], 255, cv2.LINE_AA)
    tone = hsv(rng.uniform(80, 150), rng.uniform(0.4, 0.8), rng.uniform(0.25, 0.65))
    colour = _worn(rng, mask.shape[0], mask.shape[1], tone)
    cv2.line(colour, (int(girth / 2), 0), (int(girth / 2), int(length)), shade(tone, 1.4), 3, cv2.LINE_AA)
    return _lying(rng, colour, mask, 12 * unit)


def glasses(rng: Rng, patterns: Patterns, unit: float) -> Sprite:
    """Spectacles: two rings and a bridge, see-through."""
    width = int(rng.uniform(100, 140) * unit * OVERSAMPLING)
    height = int(width * 0.62)
    mask = np.zeros((height, width), np.uint8)
    thick, axes = max(4, width // 34), (int(width * 0.19), int(width * 0.15))
    for x in (0.24, 0.76):
        cv2.ellipse(mask, (int(width * x), int(height * 0.7)), axes, 0, 0, 360, 255, thick, cv2.LINE_AA)
        cv2.line(mask, (int(width * (x + 0.2 * (x > 0.5) - 0.2 * (x < 0.5))), int(height * 0.65)),
                 (int(width * (0.08 + 0.84 * (x > 0.5))), int(height * 0.06)), 255, thick, cv2.LINE_AA)  # fmt: skip
    cv2.line(mask, (int(width * 0.43), int(height * 0.66)), (int(width * 0.57), int(height * 0.66)), 255, thick)
    return _lying(rng, flat(height, width, any_colour(rng, (0, 0.7), (0.05, 0.6))), mask, 6 * unit)


def ribbon(rng: Rng, patterns: Patterns, unit: float) -> Sprite:
    """A patterned band."""
    height, width = _sides(rng, unit, (12, 22), (7, 14))
    return _lying(rng, printed(rng, patterns, height, width), np.full((height, width), 255, np.uint8), 1)


# ---------------------------------------------------------------- drawn after the model was trained, to measure it


def notepad(rng: Rng, patterns: Patterns, unit: float) -> Sprite:
    """A pad of squared paper, its wire along the top."""
    height, width = _sides(rng, unit, (55, 95), (1.25, 1.6))
    colour = _worn(rng, height, width, paper(rng))
    pitch = max(6, width // 12)
    for at in range(pitch, max(height, width), pitch):
        cv2.line(colour, (at, 0), (at, height), (200, 180, 160), 1)
        cv2.line(colour, (0, at), (width, at), (200, 180, 160), 1)
    for x in range(pitch // 2, width, pitch):
        cv2.line(colour, (x, 0), (x, height // 16), (40, 40, 40), max(2, pitch // 4))
    return _lying(rng, colour, rounded(height, width, 4), 4 * unit)


def cassette(rng: Rng, patterns: Patterns, unit: float) -> Sprite:
    """A tape cassette: a label and two hubs."""
    width, height = _sides(rng, unit, (50, 68), (1.5, 1.65))
    tone = dark(rng) if chance(rng, 0.6) else any_colour(rng)
    colour = _worn(rng, height, width, tone)
    cv2.rectangle(colour, (width // 12, height // 10), (width * 11 // 12, height * 2 // 3), any_colour(rng), -1)
    for share in (0.32, 0.68):
        cv2.circle(colour, (int(width * share), int(height * 0.45)), height // 9, (245, 245, 245), -1, cv2.LINE_AA)
        cv2.circle(colour, (int(width * share), int(height * 0.45)), height // 16, (30, 30, 30), -1, cv2.LINE_AA)
    return _lying(rng, colour, rounded(height, width, 6), 5 * unit)


def lid(rng: Rng, patterns: Patterns, unit: float) -> Sprite:
    """The lid of a jar, its edge ridged."""
    r, mask = _disc(rng, unit, (26, 44))
    tone = any_colour(rng)
    colour = filled(mask, tone)
    for turn in np.linspace(0, 2 * np.pi, 48, endpoint=False):
        ends = [(int(r + math.cos(turn) * r * k), int(r + math.sin(turn) * r * k)) for k in (0.88, 1.0)]
        cv2.line(colour, ends[0], ends[1], shade(tone, 0.6), 2, cv2.LINE_AA)
    cv2.circle(colour, (r, r), int(r * 0.82), shade(tone, 1.2), 3, cv2.LINE_AA)
    return _lying(rng, colour, mask, 10 * unit)


def beads(rng: Rng, patterns: Patterns, unit: float) -> Sprite:
    """A string of beads."""
    length, r = int(rng.uniform(120, 240) * unit * OVERSAMPLING), rng.uniform(4, 9) * unit * OVERSAMPLING
    height = int(6 * r)
    mask, tone = np.zeros((height, length), np.uint8), any_colour(rng)
    colour = filled(mask, tone)
    phase = rng.uniform(0, 6)
    for x in np.arange(r, length - r, 1.9 * r):
        at = int(x), int(height / 2 + 1.8 * r * math.sin(x / (7 * r) + phase))
        cv2.circle(mask, at, int(r), 255, -1, cv2.LINE_AA)
        cv2.circle(colour, (int(at[0] - r * 0.3), int(at[1] - r * 0.3)), max(1, int(r / 3)), shade(tone, 1.6), -1)
    return _lying(rng, colour, mask, 6 * unit)


def comb(rng: Rng, patterns: Patterns, unit: float) -> Sprite:
    """A comb: a back and its teeth."""
    width, height = _sides(rng, unit, (18, 30), (4, 6))
    mask = np.zeros((height, width), np.uint8)
    mask[: height * 2 // 5] = 255
    pitch = max(6, width // 36)
    for x in range(0, width, pitch):
        cv2.line(mask, (x, height // 3), (x, height - 1), 255, pitch // 2)
    return _lying(rng, _worn(rng, height, width, any_colour(rng)), mask, 3 * unit)


CLUTTER: dict[str, Maker] = {
    "box": box,
    "slate": slate,
    "wallet": wallet,
    "remote": remote,
    "keyboard": keyboard,
    "sheet": sheet,
    "card": card,
    "poster": poster,
    "plate": plate,
    "coaster": coaster,
    "bowl": bowl,
    "cloth": cloth,
    "strips": strips,
    "strap": strap,
    "trinket": trinket,
    "tray": tray,
    "powerbank": powerbank,
    "calculator": calculator,
    "envelope": envelope,
    "saucer": saucer,
    "dial": dial,
    "tape": tape,
    "pebble": pebble,
    "notepad": notepad,
    "cassette": cassette,
    "lid": lid,
}
OCCLUDERS: dict[str, Maker] = {
    "pen": pen,
    "cable": cable,
    "band": band,
    "scrap": scrap,
    "offcut": offcut,
    "lattice": lattice,
    "ruler": ruler,
    "leaf": leaf,
    "glasses": glasses,
    "ribbon": ribbon,
    "beads": beads,
    "comb": comb,
}
