"""What YOLOX-nano found in the clips of the material, kept by benchmarks/record_detections.py, played at any rate."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agent.data import Detections, Event, Frame
from agent.tracking.events import Events
from agent.tracking.presence import Presence
from agent.tracking.tracker import Tracker

FOLDER = Path(__file__).resolve().parent / "recorded"


class Recording(NamedTuple):
    """``rows``: frame, x1, y1, x2, y2, score, class; ``times``: seconds of each frame."""

    rows: NDArray[np.float32]
    times: NDArray[np.float64]
    size: tuple[int, int]
    labels: tuple[str, ...]

    @property
    def rate(self) -> float:
        """Frames a second."""
        return float((len(self.times) - 1) / (self.times[-1] - self.times[0]))

    def found(self, frame: int) -> Detections:
        """What was found in a frame."""
        rows = self.rows[self.rows[:, 0] == frame]
        return Detections(
            camera="clip",
            seq=frame,
            captured_at=float(self.times[frame]),
            boxes=rows[:, 1:5],
            scores=rows[:, 5],
            class_ids=rows[:, 6].astype(np.int32),
            labels=tuple(self.labels[int(number)] for number in rows[:, 6]),
            size=self.size,
            precision="fp32",
            latency_ms=1.0,
        )

    def frames(self, fps: float | None, phase: float = 0.0) -> Iterator[int]:
        """All frames, or at most so many a second: the first at ``phase`` seconds or later."""
        due = phase
        for frame, at in enumerate(self.times.tolist()):
            if fps is None:
                yield frame
            elif at >= due - 1e-6:
                yield frame
                due += 1.0 / fps


def recording(name: str) -> Recording:
    """One of the clips, by its name without what comes after the dot."""
    with np.load(FOLDER / f"{name}.npz") as kept:
        width, height = kept["size"].tolist()
        return Recording(kept["rows"], kept["times"], (width, height), tuple(kept["labels"].tolist()))


def occurrences(
    clip: Recording, presence: Presence, fps: float | None = None, phase: float = 0.0
) -> list[tuple[Event, Event]]:
    """The start and the end of every event, with the daemon's defaults; UNIX time is the clip's."""
    tracker, events = Tracker(), Events("clip", "node", presence=presence)
    pixels = np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (clip.size[1], clip.size[0], 3))
    told: dict[str, list[Event]] = {}
    for frame in clip.frames(fps, phase):
        at = float(clip.times[frame])
        tracks = tracker.update(clip.found(frame), at)
        for message in events.update(tracks, Frame("clip", frame, pixels, at, at), at):
            told.setdefault(message.event.id, []).append(message.event)
    for message in events.finish(float(clip.times[-1])):
        told.setdefault(message.event.id, []).append(message.event)
    return [(messages[0], messages[-1]) for messages in told.values()]
