"""Detections and frames for the tracking tests: objects that move as the test says, filmed at any rate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from agent.data import Box, Detections, Frame, Track
from agent.tracking.tracker import Tracker

SIZE = (1280, 720)
PIXELS = np.zeros((4, 4, 3), dtype=np.uint8)
LABELS = {0: "person", 2: "car", 7: "truck", 16: "dog"}


class Found(NamedTuple):
    """One detection."""

    box: Box
    score: float = 0.9
    class_id: int = 0


Scene = Callable[[float], Sequence[Found]]


def person(x: float, y: float = 360.0, height: float = 200.0, score: float = 0.9, class_id: int = 0) -> Found:
    """An upright box about its centre."""
    half = 0.2 * height
    return Found((x - half, y - height / 2, x + half, y + height / 2), score, class_id)


def detections(found: Sequence[Found], seq: int = 0, at: float = 0.0) -> Detections:
    """As a detector would hand them over: by descending score."""
    ordered = sorted(found, key=lambda one: -one.score)
    return Detections(
        camera="door",
        seq=seq,
        captured_at=at,
        boxes=np.array([one.box for one in ordered], dtype=np.float32).reshape(-1, 4),
        scores=np.array([one.score for one in ordered], dtype=np.float32),
        class_ids=np.array([one.class_id for one in ordered], dtype=np.int32),
        labels=tuple(LABELS.get(one.class_id, f"class {one.class_id}") for one in ordered),
        size=SIZE,
        precision="fp32",
        latency_ms=1.0,
    )


def frame(seq: int, mono: float, size: tuple[int, int] = SIZE, wall: float = 1.7e9) -> Frame:
    """A picture of the given size whose pixels cost nothing; ``wall`` is the UNIX time at monotonic 0."""
    pixels = np.broadcast_to(PIXELS[:1, :1], (size[1], size[0], 3))
    return Frame("door", seq, pixels, wall + mono, mono)


def ticks(seconds: float, fps: float) -> list[float]:
    """The capture times of ``seconds`` at a steady rate."""
    return [index / fps for index in range(round(seconds * fps) + 1)]


def watch(scene: Scene, times: Iterable[float], tracker: Tracker) -> list[tuple[float, list[Track]]]:
    """What the tracker says of the scene at each of the times."""
    return [(at, tracker.update(detections(scene(at), seq, at), at)) for seq, at in enumerate(times)]


def ids(seen: Iterable[tuple[float, list[Track]]]) -> set[int]:
    """The ids of all tracks that were ever told."""
    return {track.id for _, tracks in seen for track in tracks}
