"""Table tops. One function a family, ``(rng, height, width) -> uint8 BGR [H, W, 3]``; the Domain says which appear."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from agent.sources.desk import patterns
from agent.sources.desk.canvas import (
    Image,
    Rng,
    any_colour,
    chance,
    clouds,
    flat,
    hsv,
    mixed,
    modulated,
    pick,
    rows_columns,
    shade,
    turbulence,
)

Surface = Callable[[Rng, int, int], Image]


def _wood(rng: Rng) -> tuple[int, int, int]:
    return hsv(rng.uniform(16, 34), rng.uniform(0.25, 0.65), rng.uniform(0.28, 0.85))


def _grain(rng: Rng, height: int, width: int) -> Image:
    fine = clouds(rng, height, width, 90, 2.5)
    broad = clouds(rng, height, width, 260, 16)
    return 0.8 + 0.22 * fine + 0.18 * broad


def planks(rng: Rng, height: int, width: int) -> Image:
    """Boards side by side, each with its own grain and shade."""
    tone, board = _wood(rng), int(rng.integers(70, 200) * height / 480)
    image = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, board):
        rows = min(board, height - top)
        strip = modulated(flat(rows, width, shade(tone, rng.uniform(0.88, 1.08))), _grain(rng, rows, width))
        strip[0] = shade(tone, 0.45)
        image[top : top + rows] = strip
    return image


def veneer(rng: Rng, height: int, width: int) -> Image:
    """One sheet of wood, its grain bent around knots."""
    lines = turbulence(rng, height, width, 300) * rng.uniform(10, 26) + np.linspace(0, 12, height)[:, None]
    return modulated(flat(height, width, _wood(rng)), (0.92 + 0.1 * np.sin(lines * 3)) * _grain(rng, height, width))


def laminate(rng: Rng, height: int, width: int) -> Image:
    """Plain office board with a faint speckle."""
    colour = any_colour(rng, (0.0, 0.25), (0.25, 0.95))
    speckle = clouds(rng, height, width, 2.2)
    return modulated(flat(height, width, colour), 0.93 + 0.12 * speckle)


def linen(rng: Rng, height: int, width: int) -> Image:
    """A woven cloth."""
    y, x = rows_columns(height, width)
    pitch = rng.uniform(2.2, 4.0)
    weave = np.sin(x / pitch * 2.1) * np.sin(y / pitch * 2.1)
    field = 0.88 + 0.1 * weave + 0.14 * clouds(rng, height, width, 40, 3)
    return modulated(flat(height, width, any_colour(rng, (0, 0.6), (0.3, 0.9))), field)


def leather(rng: Rng, height: int, width: int) -> Image:
    """A desk pad of leather."""
    pores = turbulence(rng, height, width, 9, 2)
    return modulated(flat(height, width, any_colour(rng, (0.1, 0.7), (0.12, 0.55))), 0.7 + 0.55 * pores)


def brushed(rng: Rng, height: int, width: int) -> Image:
    """Paint with the strokes still in it."""
    strokes = clouds(rng, height, width, 120, 4) if chance(rng, 0.5) else clouds(rng, height, width, 4, 120)
    return mixed(any_colour(rng, (0, 0.6), (0.3, 0.9)), any_colour(rng, (0, 0.5), (0.4, 0.95)), strokes)


def printed(rng: Rng, height: int, width: int) -> Image:
    """A desk mat with a print on it, faded."""
    make = pick(rng, [patterns.plain, patterns.stripes, patterns.dots, patterns.gradient, patterns.photo])
    ground = np.array(any_colour(rng, (0, 0.4), (0.3, 0.9)), np.float32)
    faded: Image = (make(rng, height, width) * np.float32(0.45) + ground * 0.55).astype(np.uint8)
    return faded


def collage(rng: Rng, height: int, width: int) -> Image:
    """Shapes of every colour: no desk, but it teaches a network to trust no background."""
    image = patterns.photo(rng, height, width)
    for _ in range(int(rng.integers(8, 40))):
        corners = rng.uniform((0, 0), (width, height)) + rng.normal(0, 0.12, (int(rng.integers(3, 7)), 2)) * height
        cv2.fillPoly(image, [corners.astype(np.int32)], any_colour(rng), cv2.LINE_AA)
    for _ in range(int(rng.integers(0, 12))):
        way = np.cumsum(np.cumsum(rng.normal(0, 0.012, (30, 2)), 0), 0) * height + rng.uniform((0, 0), (width, height))
        thick = int(rng.integers(1, 8))
        cv2.polylines(image, [way.astype(np.int32)], chance(rng, 0.4), any_colour(rng), thick, cv2.LINE_AA)
    return image


def marble(rng: Rng, height: int, width: int) -> Image:
    """Stone with veins."""
    field = turbulence(rng, height, width, 260, 5)
    veins = np.exp(-np.abs(np.sin(field * rng.uniform(14, 26))) * rng.uniform(5, 11))
    ground = any_colour(rng, (0, 0.15), (0.75, 0.95)) if chance(rng, 0.7) else any_colour(rng, (0, 0.3), (0.12, 0.3))
    return mixed(ground, any_colour(rng, (0, 0.3), (0.3, 0.7)), np.clip(veins, 0, 1))


def tiles(rng: Rng, height: int, width: int) -> Image:
    """Glazed tiles with joints between them."""
    side = int(rng.integers(60, 130) * height / 480)
    tone = any_colour(rng, (0, 0.5), (0.35, 0.9))
    image = flat(height, width, shade(tone, rng.uniform(0.5, 0.7)))
    for y in range(-int(rng.integers(side)), height, side):
        for x in range(-int(rng.integers(4)), width, side):
            cv2.rectangle(image, (x + 2, y + 2), (x + side - 3, y + side - 3), shade(tone, rng.uniform(0.9, 1.1)), -1)
    return modulated(image, 0.95 + 0.1 * clouds(rng, height, width, 30))


def terrazzo(rng: Rng, height: int, width: int) -> Image:
    """Chips of stone in cement."""
    image = flat(height, width, any_colour(rng, (0, 0.15), (0.6, 0.92)))
    stones = [any_colour(rng, (0.05, 0.6), (0.25, 0.85)) for _ in range(5)]
    for _ in range(int(rng.integers(150, 420))):
        corners = rng.uniform((0, 0), (width, height)) + rng.normal(0, rng.uniform(2, 7), (5, 2)) * height / 480
        cv2.fillConvexPoly(image, cv2.convexHull(corners.astype(np.int32)), pick(rng, stones), cv2.LINE_AA)
    return image


def herringbone(rng: Rng, height: int, width: int) -> Image:
    """Short staves laid in a zigzag."""
    y, x = rows_columns(height, width)
    stave = rng.uniform(26, 50) * height / 480
    column = np.floor(x / (2 * stave)).astype(np.int64)
    slope = np.where(column % 2 == 0, y + x, y - x)
    row = np.floor(slope / stave).astype(np.int64)
    shades = 0.8 + 0.3 * rng.random(997)
    seams = np.where((slope % stave < 1.5) | (x % (2 * stave) < 1.5), 0.6, 1.0)
    return modulated(flat(height, width, _wood(rng)), shades[(row * 31 + column * 131) % 997] * seams)


def concrete(rng: Rng, height: int, width: int) -> Image:
    """Cast concrete: stains and pores."""
    field = 0.75 + 0.4 * turbulence(rng, height, width, 160, 6)
    field[rng.random((height, width)) > 0.998] *= 0.6
    return modulated(flat(height, width, any_colour(rng, (0, 0.1), (0.4, 0.8))), field)


def cork(rng: Rng, height: int, width: int) -> Image:
    """Pressed cork: light and dark crumbs."""
    crumbs = cv2.resize(rng.random((height // 6, width // 6), dtype=np.float32), (width, height), interpolation=0)
    field = 0.72 + 0.3 * cv2.blur(crumbs, (3, 3)) + 0.2 * turbulence(rng, height, width, 14, 3)
    return modulated(flat(height, width, hsv(rng.uniform(24, 34), rng.uniform(0.35, 0.6), 0.75)), field)


def hexagons(rng: Rng, height: int, width: int) -> Image:
    """Small hexagonal tiles of a few shades."""
    side = rng.uniform(16, 34) * height / 480
    tone = any_colour(rng, (0, 0.5), (0.3, 0.9))
    image = flat(height, width, shade(tone, 0.6))
    turns = np.linspace(0, 2 * np.pi, 6, endpoint=False) + np.pi / 6
    corners = np.stack([np.cos(turns), np.sin(turns)], 1) * (side - 1.5)
    for row, y in enumerate(np.arange(0, height + side, 1.5 * side)):
        for x in np.arange((row % 2) * 0.866 * side, width + side, 1.732 * side):
            colour = shade(tone, rng.uniform(0.85, 1.15))
            cv2.fillConvexPoly(image, (corners + np.array([x, y])).astype(np.int32), colour, cv2.LINE_AA)
    return image


SURFACES: dict[str, Surface] = {
    "planks": planks,
    "veneer": veneer,
    "laminate": laminate,
    "linen": linen,
    "leather": leather,
    "brushed": brushed,
    "printed": printed,
    "collage": collage,
    "marble": marble,
    "tiles": tiles,
    "terrazzo": terrazzo,
    "herringbone": herringbone,
    "concrete": concrete,
    "cork": cork,
    "hexagons": hexagons,
}
