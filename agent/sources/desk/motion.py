"""The desk over time: hands bring things, leave them, come back and take them away, for ever.

Every picture is a function of the seed and of its time alone. Pacing it to a clock is the camera's (synthetic.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from agent.sources.desk.canvas import Image, Rng, Sprite, chance, pick
from agent.sources.desk.clutter import CLUTTER
from agent.sources.desk.compose import Laid, Stage, composed, lay, photographed, sensor_grain, truths
from agent.sources.desk.domains import CAMERA, Domain
from agent.sources.desk.lights import light
from agent.sources.desk.scene import Scene, unit_of
from agent.sources.desk.surfaces import SURFACES
from agent.sources.desk.things import THINGS, hand

Point = tuple[float, float]
CARRY, RETREAT, EXPOSURE = 1.1, 0.7, 0.012
"""Seconds: a hand's way in with the thing, its way out without it, and how long the shutter is open."""
PLACES: tuple[tuple[Point, Point], ...] = (
    ((0.2, 0.62), (-1.0, 0.35)),
    ((0.52, 0.36), (0.15, 1.0)),
    ((0.8, 0.62), (1.0, 0.3)),
)
"""Where things are put, as fractions of the picture, and the way by which the hand comes and goes."""


@dataclass(frozen=True)
class Visit:
    """One thing's stay at one place: brought at ``start``, let go, taken away so as to be gone at ``end`` (seconds)."""

    start: float
    end: float
    label: str
    thing: Sprite
    carrier: Sprite
    rest: Point
    away: Point
    """The rest, moved out of the picture the way the hand goes."""
    grip: Point
    """Where the hand's anchor lies from the thing's when it holds it."""


def _eased(share: float) -> float:
    """0..1 in time to 0..1 of the way, slow at both ends (smoothstep)."""
    share = min(1.0, max(0.0, share))
    return share * share * (3 - 2 * share)


def _between(first: Point, second: Point, share: float) -> Point:
    return first[0] + (second[0] - first[0]) * share, first[1] + (second[1] - first[1]) * share


def thing_at(visit: Visit, t: float) -> Point:
    """Where the thing's anchor is."""
    if t < visit.start + CARRY:
        return _between(visit.away, visit.rest, _eased((t - visit.start) / CARRY))
    return _between(visit.rest, visit.away, _eased((t - visit.end + CARRY) / CARRY))


def hand_at(visit: Visit, t: float) -> Point | None:
    """Where the hand's anchor is; None while it is outside the picture."""
    let_go, taken = visit.start + CARRY, visit.end - CARRY
    if let_go + RETREAT < t < taken - RETREAT:
        return None
    if let_go < t < taken:
        near, far = let_go, taken
        out = _eased((t - near) / RETREAT) if t - near < far - t else _eased((far - t) / RETREAT)
        x, y = _between(visit.rest, visit.away, out)
    else:
        x, y = thing_at(visit, t)
    return x + visit.grip[0], y + visit.grip[1]


class MovingDesk:
    """The camera's desk. ``size``: width, height in pixels."""

    def __init__(self, seed: int, size: tuple[int, int] = (640, 480), domain: Domain = CAMERA) -> None:
        rng = np.random.default_rng((seed, 0))
        self._seed, self._size, self._domain, self._unit = seed, size, domain, unit_of(size)
        width, height = size
        self._light = light(rng, pick(rng, domain.lights), height, width)
        self._grain = sensor_grain(height, width, rng.uniform(1.5, 3.5))
        surface = SURFACES[pick(rng, domain.surfaces)](rng, height, width)
        self._table = composed(surface, self._litter(rng), self._light).pixels
        self._rewind()

    def _rewind(self) -> None:
        self._places = [self._visits(index) for index in range(len(PLACES))]
        self._current = [next(visits) for visits in self._places]
        self._now = 0.0

    def picture(self, t: float) -> Scene:
        """The desk ``t`` seconds after its start, and the truth about it. Going back in time starts anew."""
        if t < self._now:
            self._rewind()
        self._now = t
        stage = Stage(self._table.copy())
        for laid in [*self._things(t), *self._hands(t)]:
            lay(stage, laid, self._light)
        return Scene(self._photograph(stage.pixels, t), truths(stage))

    def _photograph(self, pixels: Image, t: float) -> Image:
        noise = np.random.default_rng((self._seed, 1, round(t * 1e6)))
        flicker = 1 + 0.02 * math.sin(t * 0.7)
        return photographed(pixels, self._light.gain, noise, self._grain, flicker)

    def _litter(self, rng: Rng) -> list[Laid]:
        """Look-alikes that lie there all the time, around the places where things are put."""
        (width, height), laid = self._size, list[Laid]()
        for x, y in ((0.1, 0.16), (0.33, 0.12), (0.78, 0.16), (0.95, 0.3), (0.04, 0.9), (0.97, 0.93), (0.66, 0.92)):
            if chance(rng, 0.72):
                sprite = CLUTTER[pick(rng, self._domain.clutter)](rng, self._domain.patterns, self._unit)
                at = (x + rng.normal(0, 0.02)) * width, (y + rng.normal(0, 0.02)) * height
                laid.append(Laid(sprite, *at))
        return laid

    def _visits(self, place: int) -> Iterator[Visit]:
        """What comes to one place, in order and without end."""
        rng = np.random.default_rng((self._seed, 2, place))
        start = 0.4 + 1.7 * place
        while True:
            visit = self._visit(rng, place, start)
            yield visit
            start = visit.end + rng.uniform(0.8, 3.0)

    def _visit(self, rng: Rng, place: int, start: float) -> Visit:
        (width, height), (share, way) = self._size, PLACES[place]
        label = pick(rng, ("phone", "cup", "book"))
        rest = (share[0] + rng.normal(0, 0.025)) * width, (share[1] + rng.normal(0, 0.03)) * height
        length = math.hypot(*way)
        towards = way[0] / length, way[1] / length
        reach = self._reach(rest, towards)
        thing = THINGS[label](rng, self._domain.patterns, self._unit)
        angle = math.degrees(math.atan2(-towards[0], towards[1])) + rng.normal(0, 6)
        carrier = hand(rng, self._domain.patterns, self._unit, angle, pick(rng, ("relaxed", "grip", "flat")))
        held = self._grip(thing, towards)
        away = rest[0] + towards[0] * reach, rest[1] + towards[1] * reach
        end = start + 2 * CARRY + 2 * RETREAT + rng.uniform(2.5, 5.5)
        return Visit(start, end, label, thing, carrier, rest, away, held)

    def _reach(self, rest: Point, towards: Point) -> float:
        """How far to go that way until thing and hand are out of the picture."""
        sides = [
            ((edge if step > 0 else 0) - at) / step
            for at, step, edge in zip(rest, towards, self._size, strict=True)
            if abs(step) > 0.2
        ]
        return min(sides) + 190 * self._unit

    def _grip(self, thing: Sprite, towards: Point) -> Point:
        """The hand lies over the near edge of what it holds."""
        height, width = thing.mask.shape
        half = math.hypot(towards[0] * width, towards[1] * height) / 2
        away = half * 0.8 + 34 * self._unit
        return towards[0] * away, towards[1] * away

    def _present(self, t: float) -> list[Visit]:
        for index, visit in enumerate(self._current):
            while visit.end < t:
                visit = self._current[index] = next(self._places[index])
        return [visit for visit in self._current if visit.start <= t]

    def _things(self, t: float) -> list[Laid]:
        return [
            _laid(visit.thing, visit.label, thing_at(visit, t), thing_at(visit, t - EXPOSURE))
            for visit in self._present(t)
        ]

    def _hands(self, t: float) -> list[Laid]:
        hands = [(visit.carrier, hand_at(visit, t), hand_at(visit, t - EXPOSURE)) for visit in self._present(t)]
        return [_laid(carrier, "hand", here, before or here) for carrier, here, before in hands if here is not None]


def _laid(sprite: Sprite, label: str, here: Point, before: Point) -> Laid:
    """At its place, smeared by what it moved while the shutter was open."""
    return Laid(sprite, here[0], here[1], (here[0] - before[0], here[1] - before[1]), label)
