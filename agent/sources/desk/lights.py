"""How the desk is lit. One function a family, ``(rng, height, width)``: a float32 gain map [H, W, 3] around 1.

A light also has a direction, in which things throw their shadows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from agent.sources.desk.canvas import Image, Rng, across, clouds, rows_columns, turbulence


class Light(NamedTuple):
    """``gain``: float32 [H, W, 3]; ``shadow``: pixels that a shadow moves per pixel of height; ``depth``: 0..1."""

    gain: Image
    shadow: tuple[float, float]
    depth: float


Maker = Callable[[Rng, int, int], Image]


def _axes(height: int, width: int, angle: float) -> Image:
    """-1..1 across the picture along a direction."""
    y, x = across(height, width)
    along: Image = (x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle))) / np.float32(1.42)
    return along


def _tint(rng: Rng, strength: float) -> Image:
    """A colour temperature: blue against red."""
    warmth = rng.uniform(-strength, strength)
    return np.array([1 - warmth, 1 - 0.1 * abs(warmth), 1 + warmth], np.float32)


def window(rng: Rng, height: int, width: int) -> Image:
    """Daylight from one side."""
    slope = _axes(height, width, rng.uniform(0, 2 * np.pi)) * rng.uniform(0.1, 0.45)
    return (rng.uniform(0.8, 1.1) + slope)[..., None] * _tint(rng, 0.1)


def lamp(rng: Rng, height: int, width: int) -> Image:
    """A desk lamp: a warm pool of light."""
    y, x = rows_columns(height, width)
    distance = np.hypot(x - rng.uniform(0, width), y - rng.uniform(0, height)) / height
    pool = rng.uniform(0.45, 0.75) + rng.uniform(0.4, 0.8) * np.exp(-((distance / rng.uniform(0.5, 1.0)) ** 2))
    gain: Image = pool[..., None] * (_tint(rng, 0.06) + np.array([-0.08, 0, 0.06], np.float32))
    return gain


def overcast(rng: Rng, height: int, width: int) -> Image:
    """Even light, with the lens's vignette."""
    y, x = across(height, width)
    gain: Image = (rng.uniform(0.75, 1.15) - rng.uniform(0, 0.2) * (x * x + y * y) / 2)[..., None] * _tint(rng, 0.12)
    return gain


def blinds(rng: Rng, height: int, width: int) -> Image:
    """Sun through a blind: soft stripes."""
    across = _axes(height, width, rng.uniform(0, np.pi))
    stripes = 1 / (1 + np.exp(-8 * np.sin(across * rng.uniform(12, 26) + rng.uniform(0, 6))))
    gain: Image = (rng.uniform(0.68, 0.85) + rng.uniform(0.2, 0.4) * stripes)[..., None] * _tint(rng, 0.1)
    return gain


def foliage(rng: Rng, height: int, width: int) -> Image:
    """Sun through leaves: soft spots."""
    spots = 1 / (1 + np.exp(-14 * (turbulence(rng, height, width, 110, 3) - 0.5)))
    return (rng.uniform(0.68, 0.85) + rng.uniform(0.2, 0.42) * spots)[..., None] * _tint(rng, 0.08)


def dusk(rng: Rng, height: int, width: int) -> Image:
    """A cold window on one side, a warm lamp on the other."""
    blend = (_axes(height, width, rng.uniform(0, 2 * np.pi)) * 0.5 + 0.5)[..., None]
    cold, warm = np.array([1.12, 0.9, 0.75], np.float32), np.array([0.7, 0.92, 1.12], np.float32)
    uneven = 0.92 + 0.16 * clouds(rng, height, width, width / 2)[..., None]
    return (cold * blend + warm * (1 - blend)) * uneven * rng.uniform(0.75, 1.05)


def spots(rng: Rng, height: int, width: int) -> Image:
    """Several small ceiling spots, each with an edge."""
    y, x = rows_columns(height, width)
    gain = np.full((height, width), rng.uniform(0.55, 0.75), np.float32)
    for _ in range(int(rng.integers(2, 5))):
        distance = np.hypot(x - rng.uniform(0, width), y - rng.uniform(0, height)) / height
        gain += rng.uniform(0.2, 0.45) / (1 + np.exp((distance - rng.uniform(0.15, 0.4)) * 30))
    lit: Image = gain[..., None] * _tint(rng, 0.1)
    return lit


LIGHTS: dict[str, Maker] = {
    "window": window,
    "lamp": lamp,
    "overcast": overcast,
    "blinds": blinds,
    "foliage": foliage,
    "dusk": dusk,
    "spots": spots,
}


def light(rng: Rng, family: str, height: int, width: int) -> Light:
    """One light of the family, with a direction and depth for the shadows that goes with it."""
    angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0.25, 0.9)
    gain = LIGHTS[family](rng, height, width).astype(np.float32)
    shadow = (float(np.cos(angle) * reach), float(np.sin(angle) * reach))
    return Light(np.clip(gain, 0.2, 1.9), shadow, float(rng.uniform(0.25, 0.6)))
