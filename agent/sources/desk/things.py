"""The four things that the bundled model knows: phone, cup, book and hand, each drawn anew from a generator.

``unit`` is the number of pixels that a 640x480 picture's pixel becomes. What else lies about is clutter.py's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from agent.sources.desk.canvas import (
    OVERSAMPLING,
    TILT,
    Colour,
    Face,
    Image,
    Rng,
    Sprite,
    any_colour,
    chance,
    clouds,
    contrast,
    dark,
    filled,
    finished,
    flat,
    hsv,
    lines_of_text,
    modulated,
    paper,
    pick,
    rounded,
    rows_columns,
    shade,
    skin,
    slab,
    softened,
)
from agent.sources.desk.patterns import PATTERNS

LABELS = ("phone", "cup", "book", "hand")
TITLES = ("ATLAS", "NORTH", "FIELD NOTES", "ORBIT", "TIDE", "GARDENS", "LOGIC", "SIX WALKS", "EMBER", "HARBOUR", "IOTA")


def printed(rng: Rng, names: Sequence[str], height: int, width: int) -> Image:
    """A pattern of one of the families."""
    return PATTERNS[pick(rng, names)](rng, height, width)


# ---------------------------------------------------------------- phone


def _glare(rng: Rng, image: Image) -> Image:
    """A window mirrored in glass: a slanted band, a little brighter."""
    height, width = image.shape[:2]
    y, x = rows_columns(height, width)
    along = (x + y * rng.uniform(-0.6, 0.6)) / width
    band = (np.abs(along - rng.uniform(0.1, 0.9)) < rng.uniform(0.08, 0.3)).astype(np.float32)
    bright: Image = np.clip(image + (band * rng.uniform(4, 34))[..., None], 0, 255).astype(np.uint8)
    return bright


def _home_screen(rng: Rng, image: Image) -> None:
    height, width = image.shape[:2]
    columns = int(rng.integers(3, 5))
    pitch = width / columns
    rows = int(rng.integers(2, max(3, int(height / pitch) - 1)))
    top = height - rows * pitch if chance(rng, 0.6) else height * 0.2
    for row in range(rows):
        for column in range(columns):
            x, y, half = (column + 0.5) * pitch, top + (row + 0.5) * pitch, pitch * 0.31
            corners = (int(x - half), int(y - half)), (int(x + half), int(y + half))
            cv2.rectangle(image, *corners, any_colour(rng, (0, 0.9), (0.5, 1)), -1)
    if top > height * 0.25:
        _clock(rng, image)


def _clock(rng: Rng, image: Image) -> None:
    height, width = image.shape[:2]
    text = f"{rng.integers(24):02d}:{rng.integers(60):02d}"
    size = width / 105
    at = (int(width * 0.5 - 44 * size), int(height * 0.24))
    cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, (250, 250, 250), max(1, round(size * 2)), cv2.LINE_AA)


def _chat(rng: Rng, image: Image) -> None:
    height, width = image.shape[:2]
    image[:] = pick(rng, [(250, 250, 250), (236, 240, 240), (30, 28, 28)])
    mine, theirs = any_colour(rng, (0.4, 0.9), (0.5, 0.9)), (205, 205, 205)
    y = height * 0.1
    while y < height * 0.9:
        tall, long, own = rng.uniform(0.05, 0.13) * height, rng.uniform(0.35, 0.75) * width, chance(rng, 0.5)
        left = width * 0.94 - long if own else width * 0.06
        corners = (int(left), int(y)), (int(left + long), int(y + tall))
        cv2.rectangle(image, *corners, mine if own else theirs, -1)
        y += tall + height * 0.025


def _article(rng: Rng, image: Image) -> None:
    height, width = image.shape[:2]
    image[:] = paper(rng)
    image[: int(height * rng.uniform(0.2, 0.45))] = any_colour(rng, (0.2, 0.8), (0.3, 0.9))
    lines_of_text(image, (width // 12, height // 2, width * 11 // 12, height), rng, (90, 90, 90), width / 12)


def _screen(rng: Rng, patterns: Sequence[str], height: int, width: int) -> Image:
    image = printed(rng, patterns, height, width)
    content = pick(rng, ["home", "home", "chat", "article", "lock", "off", "off"])
    if content == "off":
        image = flat(height, width, any_colour(rng, (0, 0.3), (0.03, 0.14)))
    elif content == "lock":
        _clock(rng, image)
    else:
        {"home": _home_screen, "chat": _chat, "article": _article}[content](rng, image)
    return _glare(rng, image)


def _phone_front(rng: Rng, patterns: Sequence[str], height: int, width: int) -> Face:
    rim = dark(rng) if chance(rng, 0.75) else any_colour(rng, (0, 0.5), (0.4, 0.95))
    colour = flat(height, width, rim)
    side, end = int(width * rng.uniform(0.03, 0.07)), int(height * rng.uniform(0.018, 0.1))
    screen = _screen(rng, patterns, height - 2 * end, width - 2 * side)
    window = rounded(height - 2 * end, width - 2 * side, width * (0.1 if end < height * 0.05 else 0.02))
    cv2.copyTo(screen, window, colour[end : height - end, side : width - side])
    _front_camera(rng, colour, side, end)
    return Face(colour, rounded(height, width, width * rng.uniform(0.1, 0.19)))


def _front_camera(rng: Rng, colour: Image, side: int, end: int) -> None:
    height, width = colour.shape[:2]
    if end > height * 0.05:  # the older kind: a slit above, a round button below
        cv2.line(colour, (int(width * 0.4), end // 2), (int(width * 0.6), end // 2), (60, 60, 60), max(2, end // 6))
        cv2.circle(colour, (width // 2, height - end // 2), int(end * 0.34), (70, 70, 70), 2, cv2.LINE_AA)
    elif chance(rng, 0.5):
        cv2.circle(colour, (width // 2, int(end + width * 0.07)), int(width * 0.035), (10, 10, 10), -1, cv2.LINE_AA)
    else:
        half, tall = int(width * rng.uniform(0.1, 0.25)), int(end + width * 0.07)
        cv2.rectangle(colour, (width // 2 - half, 0), (width // 2 + half, tall), (10, 10, 10), -1)


def _phone_back(rng: Rng, patterns: Sequence[str], height: int, width: int) -> Face:
    colour = printed(rng, patterns, height, width) if chance(rng, 0.35) else flat(height, width, any_colour(rng))
    colour = modulated(colour, 0.9 + 0.2 * clouds(rng, height, width, width))
    _lenses(rng, colour)
    if chance(rng, 0.6):
        cv2.circle(colour, (width // 2, height // 2), int(width * 0.09), any_colour(rng, (0, 0.3)), -1, cv2.LINE_AA)
    return Face(_glare(rng, colour), rounded(height, width, width * rng.uniform(0.1, 0.19)))


def _lenses(rng: Rng, colour: Image) -> None:
    width = colour.shape[1]
    count, radius = int(rng.integers(2, 5)), width * rng.uniform(0.075, 0.11)
    wide = width * (0.2 + 0.28 * (count > 2))
    left, top = int(width * 0.08), int(width * 0.08)
    right, bottom = int(left + wide), int(top + width * 0.5)
    body = shade(colour[top, left].tolist(), rng.uniform(0.6, 1.4)) if chance(rng, 0.6) else dark(rng)
    cv2.rectangle(colour, (left, top), (right, bottom), body, -1)
    cv2.rectangle(colour, (left, top), (right, bottom), shade(body, 0.7), 2)
    for index in range(count):
        x = left + wide * (0.5 if count <= 2 else 0.28 + 0.44 * (index % 2))
        y = top + width * (0.13 + 0.24 * (index if count <= 2 else index // 2))
        cv2.circle(colour, (int(x), int(y)), int(radius), (18, 16, 16), -1, cv2.LINE_AA)
        cv2.circle(colour, (int(x), int(y)), int(radius * 0.55), (70, 52, 44), 2, cv2.LINE_AA)
        cv2.circle(colour, (int(x - radius * 0.3), int(y - radius * 0.3)), 2, (220, 220, 220), -1)


def _frame(rng: Rng, face: Face) -> None:
    """The bright line of its metal frame: without it a phone that is off would be any dark slab."""
    outline, _ = cv2.findContours(face.alpha, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    metal = any_colour(rng, (0, 0.25), (0.45, 0.95))
    cv2.drawContours(face.colour, outline, -1, metal, max(3, face.alpha.shape[1] // 26), cv2.LINE_AA)


def phone(rng: Rng, patterns: Sequence[str], unit: float) -> Sprite:
    """A phone, screen up (lit or dark) or back up (with its lenses), at any angle."""
    width = rng.uniform(52, 82) * unit * OVERSAMPLING
    height = width * rng.uniform(1.9, 2.2)
    draw = _phone_front if chance(rng, 0.68) else _phone_back
    face = draw(rng, patterns, int(height), int(width))
    _frame(rng, face)
    edge = filled(face.alpha, any_colour(rng, (0, 0.2), (0.2, 0.9)))
    return slab(face, rng.uniform(0, 360), rng.uniform(2.5, 4.5) * unit, edge)


# ---------------------------------------------------------------- book


def _cover(rng: Rng, patterns: Sequence[str], height: int, width: int) -> Face:
    colour = printed(rng, patterns, height, width)
    ink = contrast(colour.mean((0, 1)).tolist())
    _title(rng, colour, ink)
    fold = int(width * rng.uniform(0.05, 0.09))
    colour[:, :fold] = colour[:, :fold] * rng.uniform(0.55, 0.8)
    colour[:, fold : fold + 2] = colour[:, fold : fold + 2] * 0.55
    if chance(rng, 0.5):
        cv2.rectangle(colour, (fold + 8, 10), (width - 10, height - 10), ink, 2)
    worn = modulated(colour, 0.92 + 0.14 * clouds(rng, height, width, width / 2))
    return Face(worn, rounded(height, width, rng.uniform(0, 8)))


def _title(rng: Rng, colour: Image, ink: Colour) -> None:
    height, width = colour.shape[:2]
    text = pick(rng, TITLES)
    (wide, tall), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_DUPLEX, 1, 2)
    size = min(width * 0.74 / wide, height * 0.16 / tall)
    x, y = int(width * 0.54 - wide * size / 2), int(height * rng.uniform(0.2, 0.5))
    if chance(rng, 0.45):
        ground = any_colour(rng)
        ink = contrast(ground)
        top, bottom = int(y - tall * size * 1.7), int(y + tall * size)
        cv2.rectangle(colour, (int(width * 0.12), top), (int(width * 0.94), bottom), ground, -1)
    cv2.putText(colour, text, (x, y), cv2.FONT_HERSHEY_DUPLEX, size, ink, max(2, int(size * 2.4)), cv2.LINE_AA)
    area = (int(width * 0.3), int(height * 0.78), int(width * 0.8), int(height * 0.86))
    lines_of_text(colour, area, rng, ink, height * 0.05)


def _spread(rng: Rng, patterns: Sequence[str], height: int, width: int) -> Face:
    """An open book: two pages of text, dark where they meet."""
    white = paper(rng)
    colour = flat(height, width, white)
    for left in (0, width // 2):
        area = (left + width // 16, height // 12, left + width // 2 - width // 18, height * 11 // 12)
        lines_of_text(colour, area, rng, shade(white, 0.42), height * rng.uniform(0.035, 0.055))
        if chance(rng, 0.35):
            _plate(rng, colour, patterns, area)
    across = np.abs(np.linspace(-1, 1, width, dtype=np.float32))
    gloom = 1 - 0.5 * np.exp(-across * rng.uniform(9, 18)) - 0.05 * across
    return Face(modulated(colour, np.tile(gloom, (height, 1))), rounded(height, width, 4))


def _plate(rng: Rng, colour: Image, patterns: Sequence[str], area: tuple[int, int, int, int]) -> None:
    """An illustration in the upper or lower half of a page."""
    left, top, right, bottom = area
    middle = (top + bottom) // 2
    top, bottom = (top, middle) if chance(rng, 0.5) else (middle, bottom)
    colour[top:bottom, left:right] = printed(rng, patterns, bottom - top, right - left)


def book(rng: Rng, patterns: Sequence[str], unit: float) -> Sprite:
    """A book, closed (its pages show at the edge) or lying open, at any angle."""
    width = rng.uniform(84, 128) * unit * OVERSAMPLING
    height = width * rng.uniform(1.25, 1.55)
    if chance(rng, 0.3):
        face = _spread(rng, patterns, int(height), int(width * 1.75))
        side = filled(face.alpha, paper(rng))
        return slab(face, rng.uniform(0, 360), rng.uniform(3, 8) * unit, side, striped=True)
    face = _cover(rng, patterns, int(height), int(width))
    side = filled(face.alpha, paper(rng))
    side[:, : int(width * 0.12)] = face.colour[:, : int(width * 0.12)]
    return slab(face, rng.uniform(0, 360), rng.uniform(8, 20) * unit, side, striped=True)


# ---------------------------------------------------------------- cup


def _ellipse(mask: Image, x: float, y: float, radius: float, thickness: int = -1) -> None:
    cv2.ellipse(mask, (int(x), int(y)), (int(radius), int(radius * TILT * 0.9)), 0, 0, 360, 255, thickness, cv2.LINE_AA)


def _handle(rng: Rng, size: tuple[int, int], x: float, y: float, radius: float, wall: float, angle: float) -> Image:
    mask = np.zeros(size, np.uint8)
    out = (math.cos(angle) * radius * 1.05, math.sin(angle) * radius * 0.75)
    centre = (int(x + out[0]), int(y + wall * 0.5 + out[1]))
    axes = (int(radius * rng.uniform(0.36, 0.5)), int(radius * rng.uniform(0.28, 0.42)))
    cv2.ellipse(mask, centre, axes, math.degrees(angle), 0, 360, 255, max(3, int(radius * 0.17)), cv2.LINE_AA)
    return mask


def _glaze(rng: Rng, patterns: Sequence[str], size: tuple[int, int], x: float, radius: float) -> Image:
    """The outside of the cup: its print, lit as a cylinder from one side."""
    base = printed(rng, patterns, *size) if chance(rng, 0.5) else flat(*size, any_colour(rng, (0, 0.9), (0.15, 0.98)))
    across = (np.arange(size[1], dtype=np.float32) - x) / radius
    lit = np.float32(rng.uniform(-0.6, 0.6))
    column = 1.05 - 0.42 * (across - lit) ** 2
    return modulated(base, np.tile(np.clip(column, 0.4, 1.1), (size[0], 1)))


def _drink(rng: Rng) -> Colour | None:
    """Coffee, white coffee, tea, water, or nothing."""
    tones = [(18, 0.7, 0.18), (22, 0.5, 0.6), (26, 0.8, 0.5), (200, 0.1, 0.75)]
    if chance(rng, 0.2):
        return None
    hue, saturation, value = pick(rng, tones)
    return hsv(hue + rng.uniform(-5, 5), saturation, value + rng.uniform(-0.06, 0.08))


def _inside(rng: Rng, colour: Image, wall: Colour, x: float, y: float, radius: float, depth: float) -> None:
    """The opening: the far wall, and below it the drink with a bright edge."""
    hole, pool = np.zeros(colour.shape[:2], np.uint8), np.zeros(colour.shape[:2], np.uint8)
    _ellipse(hole, x, y, radius)
    rows = np.linspace(0.5, 1.0, colour.shape[0], dtype=np.float32)[:, None]
    inner = modulated(filled(hole, wall), np.broadcast_to(rows, hole.shape))
    cv2.copyTo(inner, hole, colour)
    _ellipse(pool, x, y + depth, radius * 0.96)
    drink = _drink(rng)
    liquid = shade(wall, 0.62) if drink is None else drink
    cv2.copyTo(filled(hole, liquid), cv2.bitwise_and(hole, pool), colour)
    if drink is not None:
        at, axes = (int(x), int(y + depth)), (int(radius * 0.8), int(radius * 0.62))
        start = rng.uniform(0, 360)
        cv2.ellipse(colour, at, axes, 0, start, start + rng.uniform(25, 80), shade(drink, 1.7), 2, cv2.LINE_AA)


def cup(rng: Rng, patterns: Sequence[str], unit: float) -> Sprite:
    """A cup or mug with a handle on any side, seen into from above; printed or plain, full or empty."""
    radius = rng.uniform(29, 45) * unit * OVERSAMPLING
    wall, taper = radius * rng.uniform(0.5, 1.25), rng.uniform(0.68, 1.0)
    size = (int(radius * 3.4 + wall), int(radius * 3.4))
    x, y = size[1] / 2, radius * 1.6
    rim, base = np.zeros(size, np.uint8), np.zeros(size, np.uint8)
    _ellipse(rim, x, y, radius)
    _ellipse(base, x, y + wall, radius * taper)
    outline = cv2.convexHull(np.vstack([cv2.findNonZero(rim), cv2.findNonZero(base)]))
    body = cv2.fillPoly(np.zeros(size, np.uint8), [outline], 255, cv2.LINE_AA)
    grip = _handle(rng, size, x, y, radius, wall, rng.uniform(0, 2 * math.pi))
    glaze = _glaze(rng, patterns, size, x, radius)
    tone = glaze[int(y + wall * 0.7), int(x)].tolist()
    colour = cv2.convertScaleAbs(flat(*size, tone), alpha=0.9)
    cv2.copyTo(glaze, body, colour)
    lip = shade(tone, rng.uniform(1.1, 1.35)) if chance(rng, 0.6) else paper(rng)
    cv2.copyTo(flat(*size, lip), rim, colour)
    inner = lip if chance(rng, 0.6) else paper(rng)
    _inside(
        rng, colour, inner, x, y + radius * 0.02, radius * rng.uniform(0.86, 0.92), radius * rng.uniform(0.08, 0.45)
    )
    colour, alpha = _reduced(colour), _reduced(cv2.max(body, grip))
    return finished(colour, alpha, None, (x / OVERSAMPLING, (y + wall) / OVERSAMPLING), wall / OVERSAMPLING)


def _reduced(image: Image) -> Image:
    size = (image.shape[1] // OVERSAMPLING, image.shape[0] // OVERSAMPLING)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


# ---------------------------------------------------------------- hand

_FINGERS = ((-0.36, 0.86), (-0.12, 1.0), (0.12, 0.94), (0.35, 0.74))
"""Where each finger roots across the palm and how long it is, in palm widths, from index to little finger."""
_POSES: dict[str, tuple[float, tuple[float, float, float, float]]] = {
    "open": (0.32, (1.0, 1.0, 1.0, 1.0)),
    "flat": (0.08, (1.0, 1.0, 1.0, 1.0)),
    "relaxed": (0.16, (0.85, 0.75, 0.72, 0.7)),
    "pointing": (0.1, (1.05, 0.45, 0.4, 0.38)),
    "grip": (0.14, (0.62, 0.6, 0.58, 0.52)),
}
FOREARM = 470.0
"""How far the arm goes on behind the hand, in pixels of a 640x480 picture: past its border from anywhere."""


def _capsule(size: tuple[int, int], points: Sequence[tuple[float, float]], width: float) -> Image:
    mask = np.zeros(size, np.uint8)
    path = np.array(points, np.int32)
    cv2.polylines(mask, [path], False, 255, max(2, int(width)), cv2.LINE_AA)
    return mask


def _relief(mask: Image, tone: Colour, roundness: float) -> Image:
    """The part in its tone, darker towards its rim as round flesh is."""
    distance = cv2.distanceTransform(mask, cv2.DIST_L2, 3)
    return modulated(filled(mask, tone), 0.66 + 0.4 * np.sqrt(np.minimum(distance / np.float32(roundness), 1)))


def _lay(colour: Image, whole: Image, part: Image, tone: Colour, roundness: float) -> None:
    x, y, w, h = cv2.boundingRect(part)
    own = np.ascontiguousarray(part[y : y + h, x : x + w])
    cv2.copyTo(_relief(own, tone, roundness), (own > 100).astype(np.uint8), colour[y : y + h, x : x + w])
    np.maximum(whole[y : y + h, x : x + w], own, out=whole[y : y + h, x : x + w])


def _finger(
    rng: Rng, size: tuple[int, int], root: tuple[float, float], angle: float, length: float
) -> list[tuple[float, float]]:
    """Two bones: the root, the joint, the tip."""
    bend = angle + rng.uniform(-0.12, 0.12)
    joint = (root[0] + math.sin(angle) * length * 0.5, root[1] - math.cos(angle) * length * 0.5)
    return [root, joint, (joint[0] + math.sin(bend) * length * 0.5, joint[1] - math.cos(bend) * length * 0.5)]


def _nail(colour: Image, tone: Colour, tip: tuple[float, float], width: float, angle: float) -> None:
    light = shade(tone, 1.12)
    axes = (max(1, int(width * 0.24)), max(1, int(width * 0.34)))
    cv2.ellipse(colour, (int(tip[0]), int(tip[1])), axes, math.degrees(angle), 0, 360, light, -1, cv2.LINE_AA)


def _fingers(rng: Rng, colour: Image, whole: Image, tone: Colour, palm: tuple[float, float, float], pose: str) -> None:
    x, y, width = palm
    spread, lengths = _POSES[pose]
    thick = width * rng.uniform(0.22, 0.27)
    for (across, long), share in zip(_FINGERS, lengths, strict=True):
        root = (x + across * width, y - width * 0.42)
        angle = across * spread * 2.2 + rng.uniform(-0.05, 0.05)
        points = _finger(rng, whole.shape, root, angle, width * long * share * rng.uniform(0.92, 1.08))
        _lay(colour, whole, _capsule(whole.shape, points, thick), tone, thick * 0.5)
        _nail(colour, tone, points[-1], thick, angle)


def _thumb(rng: Rng, colour: Image, whole: Image, tone: Colour, palm: tuple[float, float, float], pose: str) -> None:
    x, y, width = palm
    out = {"open": 0.95, "pointing": 0.35, "grip": 0.2}.get(pose, 0.55) + rng.uniform(-0.15, 0.15)
    root, thick = (x - width * 0.34, y + width * 0.22), width * 0.27
    points = _finger(rng, whole.shape, root, -out, width * rng.uniform(0.72, 0.9))
    _lay(colour, whole, _capsule(whole.shape, points, thick), tone, thick * 0.5)
    _nail(colour, tone, points[-1], thick, -out)


def _palm(size: tuple[int, int], palm: tuple[float, float, float]) -> Image:
    x, y, width = palm
    outline = np.array([(-0.44, -0.42), (0.44, -0.4), (0.42, 0.3), (0.28, 0.62), (-0.28, 0.62), (-0.46, 0.2)])
    mask = np.zeros(size, np.uint8)
    cv2.fillPoly(mask, [(outline * width + (x, y)).astype(np.int32)], 255, cv2.LINE_AA)
    return softened(mask, width * 0.06)


def _arm(rng: Rng, size: tuple[int, int], palm: tuple[float, float, float], start: float, girth: float) -> Image:
    x, y, width = palm
    mask = np.zeros(size, np.uint8)
    corners = [(-girth, start), (girth, start), (girth * 1.35, 20), (-girth * 1.35, 20)]
    cv2.fillPoly(mask, [(np.array(corners) * width + (x, y)).astype(np.int32)], 255, cv2.LINE_AA)
    return mask


def _sleeve(rng: Rng, colour: Image, patterns: Sequence[str], palm: tuple[float, float, float], start: float) -> Image:
    arm = _arm(rng, colour.shape[:2], palm, start, rng.uniform(0.42, 0.52))
    cloth = modulated(
        printed(rng, patterns, *arm.shape), 0.85 + 0.2 * clouds(rng, arm.shape[0], arm.shape[1], palm[2] * 0.4, 14)
    )
    distance = cv2.distanceTransform(arm, cv2.DIST_L2, 3)
    cv2.copyTo(modulated(cloth, 0.6 + 0.45 * np.clip(distance / (palm[2] * 0.4), 0, 1)), arm, colour)
    cuff = int(palm[1] + start * palm[2])
    colour[cuff : cuff + max(3, int(palm[2] * 0.1))] = colour[cuff : cuff + max(3, int(palm[2] * 0.1))] * 0.75
    return arm


def _upright_hand(rng: Rng, patterns: Sequence[str], width: float, pose: str, reach: float) -> tuple[Face, Image]:
    """The hand with its fingers up, and the mask of what is hand: fingers and palm down to the wrist."""
    size = (int(width * 2.1 + reach), int(width * 3.2))
    palm = (size[1] / 2, width * 1.65, width)
    tone = skin(rng)
    colour, hand = np.zeros((*size, 3), np.uint8), np.zeros(size, np.uint8)
    bare = _arm(rng, size, palm, 0.45, 0.3)
    cv2.copyTo(_relief(bare, tone, width * 0.3), bare, colour)
    _thumb(rng, colour, hand, tone, palm, pose)
    _lay(colour, hand, _palm(size, palm), tone, width * 0.3)
    _fingers(rng, colour, hand, tone, palm, pose)
    sleeve = _sleeve(rng, colour, patterns, palm, rng.uniform(0.72, 1.3))
    knuckled = modulated(colour, 0.93 + 0.14 * clouds(rng, *size, width * 0.16))
    return Face(knuckled, cv2.max(cv2.max(hand, bare), sleeve)), hand


def hand(rng: Rng, patterns: Sequence[str], unit: float, angle: float | None = None, pose: str | None = None) -> Sprite:
    """A hand and its arm, which reaches past the picture's border; fingers point ``angle`` degrees right of up."""
    width = rng.uniform(48, 66) * unit * OVERSAMPLING
    pose = pose or pick(rng, list(_POSES))
    face, own = _upright_hand(rng, patterns, width, pose, FOREARM * unit * OVERSAMPLING)
    if chance(rng, 0.5):
        face, own = Face(face.colour[:, ::-1], face.alpha[:, ::-1]), own[:, ::-1]
    centre = (face.alpha.shape[1] / 2, width * 1.45)
    turned = rng.uniform(0, 360) if angle is None else angle
    return _turned(face, own, turned, centre, width * 0.22 / OVERSAMPLING)


def _turned(face: Face, own: Image, angle: float, centre: tuple[float, float], height: float) -> Sprite:
    """The face turned about its centre; a hand is too lively to be foreshortened much."""
    turn = math.radians(angle)
    linear = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]]) / OVERSAMPLING
    tall, wide = face.alpha.shape
    corners = np.array([(0, 0), (wide, 0), (wide, tall), (0, tall)]) - centre
    placed = corners @ linear.T
    low = placed.min(0) - 1
    size = (int(np.ptp(placed[:, 0]) + 3), int(np.ptp(placed[:, 1]) + 3))
    matrix = np.hstack([linear, (-low - linear @ np.array(centre))[:, None]])
    colour = cv2.warpAffine(np.ascontiguousarray(face.colour), matrix, size, borderMode=cv2.BORDER_REPLICATE)
    alpha = cv2.warpAffine(np.ascontiguousarray(face.alpha), matrix, size)
    mask = cv2.warpAffine(np.ascontiguousarray(own), matrix, size)
    return finished(colour, alpha, mask, (float(-low[0]), float(-low[1])), height)


Thing = Callable[[Rng, Sequence[str], float], Sprite]
THINGS: dict[str, Thing] = {"phone": phone, "cup": cup, "book": book, "hand": hand}
