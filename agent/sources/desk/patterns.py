"""Printed patterns: what covers, mugs, sleeves and screens wear. One function a family, ``(rng, height, width)``.

Each returns uint8 BGR [H, W, 3]. Which of them may appear is the Domain's choice.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from agent.sources.desk.canvas import Image, Rng, any_colour, clouds, flat, mixed, rows_columns, shade, turbulence

Pattern = Callable[[Rng, int, int], Image]


def _grid(height: int, width: int, angle: float) -> tuple[Image, Image]:
    y, x = rows_columns(height, width)
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return x * cosine + y * sine, y * cosine - x * sine


def _two(rng: Rng) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    first = any_colour(rng)
    return first, (shade(first, rng.uniform(0.45, 0.8)) if rng.random() < 0.4 else any_colour(rng))


def plain(rng: Rng, height: int, width: int) -> Image:
    return flat(height, width, any_colour(rng, (0, 0.95), (0.12, 0.98)))


def stripes(rng: Rng, height: int, width: int) -> Image:
    u, _ = _grid(height, width, rng.uniform(0, np.pi))
    pitch = rng.uniform(8, 50)
    return mixed(*_two(rng), ((u / pitch) % 1 < rng.uniform(0.2, 0.7)).astype(np.float32))


def dots(rng: Rng, height: int, width: int) -> Image:
    ground, ink = _two(rng)
    image = flat(height, width, ground)
    pitch = int(rng.integers(12, 40))
    for row, y in enumerate(range(0, height + pitch, pitch)):
        for x in range((row % 2) * pitch // 2, width + pitch, pitch):
            cv2.circle(image, (x, y), max(2, int(pitch * 0.26)), ink, -1, cv2.LINE_AA)
    return image


def blocks(rng: Rng, height: int, width: int) -> Image:
    image = plain(rng, height, width)
    for _ in range(int(rng.integers(3, 9))):
        x, y = int(rng.integers(width)), int(rng.integers(height))
        w, h = int(width * rng.uniform(0.1, 0.6)), int(height * rng.uniform(0.05, 0.4))
        cv2.rectangle(image, (x - w // 2, y - h // 2), (x + w // 2, y + h // 2), any_colour(rng), -1)
    return image


def gradient(rng: Rng, height: int, width: int) -> Image:
    u, _ = _grid(height, width, rng.uniform(0, 2 * np.pi))
    return mixed(any_colour(rng), any_colour(rng), (u - u.min()) / max(1.0, float(np.ptp(u))))


def photo(rng: Rng, height: int, width: int) -> Image:
    """A blurred view: soft fields of several colours."""
    scale = max(height, width)
    image = mixed(any_colour(rng), any_colour(rng), clouds(rng, height, width, scale / 3))
    veil = clouds(rng, height, width, scale / 6)[..., None]
    return (image * (1 - 0.6 * veil) + np.array(any_colour(rng)) * 0.6 * veil).astype(np.uint8)


def waves(rng: Rng, height: int, width: int) -> Image:
    u, v = _grid(height, width, rng.uniform(0, np.pi))
    pitch = rng.uniform(16, 60)
    bent = u + pitch * 0.5 * np.sin(v / pitch * 1.7)
    return mixed(*_two(rng), (np.sin(bent / pitch * 2 * np.pi) > 0).astype(np.float32))


def checks(rng: Rng, height: int, width: int) -> Image:
    u, v = _grid(height, width, rng.uniform(0, np.pi))
    pitch = rng.uniform(12, 44)
    woven = ((u / pitch) % 1 < 0.5).astype(np.float32) + ((v / pitch) % 1 < 0.5)
    return mixed(*_two(rng), woven / 2)


def rings(rng: Rng, height: int, width: int) -> Image:
    y, x = rows_columns(height, width)
    distance = np.hypot(x - rng.uniform(0, width), y - rng.uniform(0, height))
    return mixed(*_two(rng), ((distance / rng.uniform(14, 50)) % 1 < 0.5).astype(np.float32))


def triangles(rng: Rng, height: int, width: int) -> Image:
    image = plain(rng, height, width)
    for _ in range(int(rng.integers(6, 22))):
        centre = rng.uniform((0, 0), (width, height))
        corners = centre + rng.uniform(-0.25, 0.25, (3, 2)) * max(height, width)
        cv2.fillPoly(image, [corners.astype(np.int32)], any_colour(rng), cv2.LINE_AA)
    return image


def marbling(rng: Rng, height: int, width: int) -> Image:
    field = turbulence(rng, height, width, max(height, width) / 2)
    return mixed(*_two(rng), 0.5 + 0.5 * np.sin(field * rng.uniform(20, 45)))


def zigzag(rng: Rng, height: int, width: int) -> Image:
    u, v = _grid(height, width, rng.uniform(0, np.pi))
    pitch = rng.uniform(14, 50)
    folded = np.abs((v / pitch) % 2 - 1) * pitch
    return mixed(*_two(rng), (((u + folded) / pitch) % 1 < 0.5).astype(np.float32))


def confetti(rng: Rng, height: int, width: int) -> Image:
    image = plain(rng, height, width)
    for _ in range(int(rng.integers(20, 90))):
        at = rng.uniform((0, 0), (width, height))
        corners = cv2.boxPoints((at.tolist(), (rng.uniform(4, 14), rng.uniform(8, 26)), rng.uniform(0, 180)))
        cv2.fillPoly(image, [corners.astype(np.int32)], any_colour(rng), cv2.LINE_AA)
    return image


PATTERNS: dict[str, Pattern] = {
    "plain": plain,
    "stripes": stripes,
    "dots": dots,
    "blocks": blocks,
    "gradient": gradient,
    "photo": photo,
    "waves": waves,
    "checks": checks,
    "rings": rings,
    "triangles": triangles,
    "marbling": marbling,
    "zigzag": zigzag,
    "confetti": confetti,
}
