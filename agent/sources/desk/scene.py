"""Stills: one desk with whatever its domain allows, photographed once, and the truth about it.

These train and measure the bundled model; the moving desk of the camera is motion.py's.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np

from agent.sources.desk.canvas import Image, Rng, Sprite, chance, pick
from agent.sources.desk.clutter import CLUTTER, OCCLUDERS
from agent.sources.desk.compose import Laid, Truth, composed, photographed, sensor_grain, truths
from agent.sources.desk.domains import Domain
from agent.sources.desk.lights import light
from agent.sources.desk.surfaces import SURFACES
from agent.sources.desk.things import LABELS, THINGS, hand


class Scene(NamedTuple):
    """``pixels``: uint8 BGR [H, W, 3]; ``truths``: all labelled things of which anything shows."""

    pixels: Image
    truths: list[Truth]


def unit_of(size: tuple[int, int]) -> float:
    """Pixels of this picture for one of a 640x480 picture."""
    return min(size[0] / 640, size[1] / 480)


def _anywhere(rng: Rng, size: tuple[int, int], inset: float) -> tuple[float, float]:
    margin = inset * unit_of(size)
    return rng.uniform(margin, size[0] - margin), rng.uniform(margin, size[1] - margin)


def _motion(rng: Rng, unit: float, probability: float) -> tuple[float, float]:
    if not chance(rng, probability):
        return 0.0, 0.0
    speed, way = rng.uniform(2, 14) * unit, rng.uniform(0, 2 * math.pi)
    return speed * math.cos(way), speed * math.sin(way)


def _spread_out(rng: Rng, size: tuple[int, int], taken: list[tuple[float, float]]) -> tuple[float, float]:
    """A place that is mostly not on top of another: the best of three, or any place, one time in five."""
    places = [_anywhere(rng, size, 30) for _ in range(1 if chance(rng, 0.2) else 3)]
    return max(places, key=lambda at: min((math.dist(at, other) for other in taken), default=0.0))


def _thing(rng: Rng, label: str, domain: Domain, unit: float, inwards: tuple[float, float]) -> Sprite:
    """One of the four; a hand reaches in from outside, roughly towards the middle."""
    if label != "hand":
        return THINGS[label](rng, domain.patterns, unit)
    angle = math.degrees(math.atan2(inwards[0], -inwards[1])) + rng.normal(0, 40)
    return hand(rng, domain.patterns, unit, angle)


def _things(rng: Rng, domain: Domain, size: tuple[int, int]) -> list[Laid]:
    unit, taken, laid = unit_of(size), list[tuple[float, float]](), list[Laid]()
    for _ in range(int(rng.integers(0, 6))):
        label = pick(rng, LABELS)
        x, y = _spread_out(rng, size, taken)
        taken.append((x, y))
        sprite = _thing(rng, label, domain, unit * rng.uniform(0.75, 1.3), (size[0] / 2 - x, size[1] / 2 - y))
        laid.append(Laid(sprite, x, y, _motion(rng, unit, 0.3), label))
    return sorted(laid, key=lambda one: one.label == "hand" and chance(rng, 0.8))  # arms mostly reach over the rest


def _clutter(rng: Rng, domain: Domain, size: tuple[int, int]) -> list[Laid]:
    unit = unit_of(size)
    sprites = [
        CLUTTER[pick(rng, domain.clutter)](rng, domain.patterns, unit * rng.uniform(0.75, 1.3))
        for _ in range(int(rng.integers(2, 8)))
    ]
    return [Laid(sprite, *_anywhere(rng, size, 0), _motion(rng, unit, 0.1)) for sprite in sprites]


def _across(rng: Rng, domain: Domain, size: tuple[int, int], things: list[Laid]) -> list[Laid]:
    """Occluders, most of them on something."""
    unit, laid = unit_of(size), list[Laid]()
    for _ in range(int(rng.integers(0, 4))):
        sprite = OCCLUDERS[pick(rng, domain.occluders)](rng, domain.patterns, unit * rng.uniform(0.8, 1.3))
        x, y = _anywhere(rng, size, 20)
        if things and chance(rng, 0.7):
            under = pick(rng, things)
            x, y = under.x + rng.normal(0, 28) * unit, under.y + rng.normal(0, 28) * unit
        laid.append(Laid(sprite, x, y))
    return laid


def _lens(rng: Rng, image: Image) -> Image:
    """Now and then out of focus, now and then through a JPEG."""
    if chance(rng, 0.25):
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.3))
    if chance(rng, 0.4):
        _, packed = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(35, 95))])
        decoded = cv2.imdecode(packed, cv2.IMREAD_COLOR)
        assert decoded is not None  # it was encoded a line ago
        image = decoded
    return image


def draw_scene(rng: Rng, domain: Domain, size: tuple[int, int] = (640, 480)) -> Scene:
    """One still of the domain; ``size`` is width, height in pixels."""
    width, height = size
    surface = SURFACES[pick(rng, domain.surfaces)](rng, height, width)
    lit = light(rng, pick(rng, domain.lights), height, width)
    things = _things(rng, domain, size)
    stage = composed(surface, [*_clutter(rng, domain, size), *things, *_across(rng, domain, size, things)], lit)
    grain = sensor_grain(height, width, rng.uniform(1, 7))
    pixels = photographed(stage.pixels, lit.gain, rng, grain, rng.uniform(0.8, 1.15))
    return Scene(_lens(rng, pixels), truths(stage))


def scene_of(seed: int, index: int, domain: Domain, size: tuple[int, int] = (640, 480)) -> Scene:
    """The ``index``-th still of a series: each has a generator of its own, so that they can be drawn in any order."""
    return draw_scene(np.random.default_rng((seed, index)), domain, size)
