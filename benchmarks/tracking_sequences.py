"""Made-up sequences with ground truth for the tracking benchmark: people who walk, stop, cross, hide each other and
leave, as a detector that misses, trembles and sees things would report them, filmed by a camera that shakes.

The world runs on at 60 steps a second; any rate of frames is a choice of these steps. Seeds make all of it repeatable.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

SIZE = (1920, 1080)
STEPS = 60
SEEN = 0.25
"""Share of a person that must be visible to count as there."""


class Frame(NamedTuple):
    """``boxes`` xyxy and ``ids`` of who is there; ``found`` xyxy and ``scores``: what the detector says, best first."""

    at: float
    boxes: Array
    ids: NDArray[np.int64]
    found: Array
    scores: Array


class Kind(NamedTuple):
    """What makes a sequence hard. ``clutter``: false boxes a frame; ``shake``: pixels; ``miss``: share of sights."""

    name: str
    people: int = 12
    miss: float = 0.05
    jitter: float = 0.03
    clutter: float = 0.4
    look_alikes: int = 2
    shake: float = 0.0
    hurry: float = 1.0
    columns: int = 0


KINDS = (
    Kind("walkers"),
    Kind("crowd", people=30),
    Kind("columns", columns=4),
    Kind("misses", miss=0.25),
    Kind("clutter", clutter=3.0, look_alikes=6),
    Kind("shake", shake=14.0),
    Kind("runners", hurry=2.5),
    Kind("tremble", jitter=0.07),
)


def sequence(kind: Kind, seconds: float, seed: int, times: Sequence[int]) -> list[Frame]:
    """The frames at the given steps (of ``STEPS`` a second)."""
    random = np.random.default_rng([seed, KINDS.index(kind)])
    centres, heights, present = _people(kind, int(seconds * STEPS), random)
    shake = _shake(kind, int(seconds * STEPS), random)
    columns = random.uniform(200, SIZE[0] - 200, kind.columns)
    alikes = _boxes(
        random.uniform((100, 200), (SIZE[0] - 100, 900), (kind.look_alikes, 2)), np.full(kind.look_alikes, 140.0)
    )
    return [_frame(kind, step, centres, heights, present, shake, columns, alikes, seed) for step in times]


def steady(seconds: float, fps: float) -> list[int]:
    """The steps of a steady rate."""
    return [round(index * STEPS / fps) for index in range(int(seconds * fps))]


def changing(seconds: float, seed: int) -> list[int]:
    """The steps of a rate that changes every one to four seconds, between 2 and 30 a second."""
    random, steps, at = np.random.default_rng([seed, 99]), list[int](), 0
    while at < seconds * STEPS:
        every = int(random.choice([2, 3, 6, 12, 20, 30]))
        for _ in range(max(1, int(random.uniform(1, 4) * STEPS / every))):
            steps.append(at)
            at += every
    return [step for step in steps if step < seconds * STEPS]


def _people(kind: Kind, steps: int, random: np.random.Generator) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Foot points ``[steps, N, 2]``, heights ``[steps, N]`` and who is in the picture ``[steps, N]``.

    Everybody walks from one point to another, many of them from beyond the border to beyond it, and rests in between.
    """
    count = kind.people
    feet = np.empty((steps, count, 2))
    depth = random.uniform(0.0, 1.0, count)
    for person in range(count):
        feet[:, person] = _walk(steps, depth[person], kind.hurry, random)
    heights = 110 + 0.17 * (feet[:, :, 1] - 200) + random.normal(0, 8, count)
    middle = feet[:, :, 1] - heights / 2
    present = (feet[:, :, 0] > 0) & (feet[:, :, 0] < SIZE[0]) & (middle > 0) & (middle < SIZE[1])
    return feet, heights, present


def _walk(steps: int, depth: float, hurry: float, random: np.random.Generator) -> Array:
    """A walk of foot points: goal after goal, with a speed that changes slowly and stops now and then."""
    lane = 250 + 780 * depth
    at = np.array([random.uniform(-300, SIZE[0] + 300), lane])
    velocity, goal, rest = np.zeros(2), _goal(lane, random), 0
    path = np.empty((steps, 2))
    pace = hurry * random.uniform(0.7, 1.3) * (60 + 110 * depth)
    for step in range(steps):
        away = goal - at
        distance = float(np.hypot(*away))
        if distance < 25:
            goal, rest = _goal(lane, random), int(random.choice([0, 0, random.uniform(1, 6) * STEPS]))
        rest = max(rest - 1, 0)
        wanted = np.zeros(2) if rest else pace * away / max(distance, 1.0)
        velocity += (wanted - velocity) * 3.0 / STEPS + random.normal(0, 25, 2) * np.sqrt(1.0 / STEPS)
        at = at + velocity / STEPS
        path[step] = at
    return path


def _goal(lane: float, random: np.random.Generator) -> Array:
    return np.array([random.choice([-150, SIZE[0] + 150, random.uniform(0, SIZE[0])]), lane + random.normal(0, 60)])


def _shake(kind: Kind, steps: int, random: np.random.Generator) -> Array:
    """Where the camera points, pixels ``[steps, 2]``: it trembles in the wind, and is knocked now and then."""
    if not kind.shake:
        return np.zeros((steps, 2))
    times = np.arange(steps) / STEPS
    sway = [kind.shake * np.sin(2 * np.pi * rate * times + phase) for rate, phase in ((1.3, 0.0), (2.1, 1.0))]
    knocks = np.zeros((steps, 2))
    for start in random.integers(0, steps, max(1, steps // (8 * STEPS))):
        fade = np.exp(-np.arange(steps - start) / (0.4 * STEPS))
        knocks[start:] += 4 * kind.shake * fade[:, None] * random.normal(0, 1, 2)
    return np.stack(sway, axis=1) * 0.5 + knocks


def _boxes(feet: Array, heights: Array) -> Array:
    half = 0.2 * heights
    return np.stack([feet[:, 0] - half, feet[:, 1] - heights, feet[:, 0] + half, feet[:, 1]], axis=1)


def _frame(
    kind: Kind,
    step: int,
    feet: Array,
    heights: Array,
    present: NDArray[np.bool_],
    shake: Array,
    columns: Array,
    alikes: Array,
    seed: int,
) -> Frame:
    random = np.random.default_rng([seed, KINDS.index(kind), step])
    moved = shake[step][[0, 1, 0, 1]]
    boxes = _boxes(feet[step], heights[step])
    visible = _visible(boxes, columns) * present[step]
    boxes = boxes + moved
    seen = np.flatnonzero(visible >= SEEN)
    found, scores = _found(kind, boxes[seen], visible[seen], random)
    false, doubts = _clutter(kind, alikes + moved, random)
    order = np.argsort(-np.concatenate([scores, doubts]), kind="stable")
    return Frame(
        step / STEPS, boxes[seen], seen, np.concatenate([found, false])[order], np.concatenate([scores, doubts])[order]
    )


def _visible(boxes: Array, columns: Array) -> Array:
    """The share of each that nobody in front of it (whose feet are lower) and no column hides."""
    shares = np.ones(len(boxes))
    grid = np.stack(np.meshgrid(np.linspace(0.05, 0.95, 10), np.linspace(0.05, 0.95, 10)), axis=-1).reshape(-1, 2)
    for index, box in enumerate(boxes):
        points = box[:2] + grid * (box[2:] - box[:2])
        front = boxes[boxes[:, 3] > box[3]]
        hidden = (points[:, None] > front[None, :, :2]).all(axis=2) & (points[:, None] < front[None, :, 2:]).all(axis=2)
        covered = hidden.any(axis=1) | (np.abs(points[:, :1] - columns) < 35).any(axis=1)
        shares[index] = 1.0 - covered.mean()
    return shares


def _found(kind: Kind, boxes: Array, visible: Array, random: np.random.Generator) -> tuple[Array, Array]:
    """What the detector makes of them: half hidden people are found less surely, less exactly, or not at all."""
    count = len(boxes)
    missed = random.random(count) < kind.miss + 0.5 * np.clip(0.6 - visible, 0.0, 1.0)
    scores = np.clip(random.normal(0.8, 0.09, count) - 0.8 * np.clip(0.8 - visible, 0.0, 1.0), 0.1, 0.97)
    sides = (boxes[:, 2:] - boxes[:, :2])[:, [0, 1, 0, 1]]
    wobble = kind.jitter * (1.0 + np.clip(0.9 - visible, 0.0, 1.0))[:, None]
    found = boxes + random.normal(0, 1, (count, 4)) * sides * wobble
    return found[~missed], scores[~missed]


def _clutter(kind: Kind, alikes: Array, random: np.random.Generator) -> tuple[Array, Array]:
    """False boxes: here and there, and look-alikes that are found again and again."""
    count = random.poisson(kind.clutter)
    here = _boxes(random.uniform((0, 150), SIZE, (count, 2)), random.uniform(60, 250, count))
    again = alikes[random.random(len(alikes)) < 0.35]
    again = again + random.normal(0, 4, again.shape)
    scores = np.concatenate(
        [random.uniform(0.1, 0.62, count), np.clip(random.normal(0.42, 0.12, len(again)), 0.1, 0.75)]
    )
    return np.concatenate([here, again]).reshape(-1, 4), scores
