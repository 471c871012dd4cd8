"""Whether a new version of a model does at the cameras what the old one did: what was seen of both in, a verdict out.

Pure. Who watches, and what follows from the verdict, is the daemon's model_trial.py.
"""

from __future__ import annotations

import statistics
from collections import deque
from typing import Literal, NamedTuple

import msgspec

Word = Literal["goes on", "accepted", "worse"]


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """What a model did while it worked: ``frames`` inferred and ``detections`` told in ``seconds`` with a camera that
    is up, and the usual 95th percentile of the frames' age in milliseconds, None where none was seen."""

    seconds: float = 0.0
    frames: int = 0
    detections: int = 0
    age_ms: float | None = None

    @property
    def a_minute(self) -> float:
        """Detections a minute."""
        return self.detections / self.seconds * 60 if self.seconds else 0.0


class Bounds(NamedTuple):
    """What is still as good. Detections a minute, at the same frame rate: at ``least`` and at ``most`` so many times
    the old one's, where at least ``few`` were to be expected. The age of frames: at most ``older`` times, or
    ``older_ms`` more. What is as plain as nothing where ``plenty`` were to be expected is said after ``early`` of the
    time, and not in the first ``settling`` seconds."""

    least: float = 0.3
    most: float = 5.0
    few: float = 5.0
    plenty: float = 20.0
    older: float = 2.0
    older_ms: float = 250.0
    early: float = 0.1
    settling: float = 5.0


class Verdict(NamedTuple):
    """``reason`` is empty while it goes on."""

    word: Word
    reason: str = ""


def judge(seen: Observed, old: Observed | None, seconds: float, bounds: Bounds | None = None) -> Verdict:
    """After what was ``seen`` so far of a trial of ``seconds``; ``old``: what the version before did, None where nobody
    knows."""
    bounds = bounds or Bounds()
    if not seconds:
        return Verdict("accepted", "without a trial")
    if seen.seconds < max(bounds.early * seconds, min(bounds.settling, seconds)):
        return Verdict("goes on")
    is_over = seen.seconds >= seconds
    if old is None or not old.frames:
        return Verdict("accepted", "there was nothing to compare it with") if is_over else Verdict("goes on")
    if reason := _worse(seen, old, bounds, is_over=is_over):
        return Verdict("worse", reason)
    return Verdict("accepted", _as_good(seen, old)) if is_over else Verdict("goes on")


def _worse(seen: Observed, old: Observed, bounds: Bounds, *, is_over: bool) -> str:
    if not seen.frames:
        return f"nothing was inferred in {seen.seconds:.0f} s"
    # At the frame rate of now: a governor that slows both down changes nothing in what a model finds.
    expected = old.detections / old.frames * seen.frames
    words = f"{seen.a_minute:.1f} detections a minute, {expected / seen.seconds * 60:.1f} by the old one"
    if not seen.detections and expected >= bounds.plenty:
        return words
    if not is_over:
        return ""
    if expected >= bounds.few and seen.detections < bounds.least * expected:
        return words
    if seen.detections >= bounds.plenty and seen.detections > bounds.most * max(expected, bounds.few):
        return words
    return _too_old(seen, old, bounds)


def _too_old(seen: Observed, old: Observed, bounds: Bounds) -> str:
    if seen.age_ms is None or old.age_ms is None:
        return ""
    if seen.age_ms <= max(bounds.older * old.age_ms, old.age_ms + bounds.older_ms):
        return ""
    return f"frames are {seen.age_ms:.0f} ms old, {old.age_ms:.0f} ms with the old one"


def _as_good(seen: Observed, old: Observed) -> str:
    ages = (
        "" if seen.age_ms is None or old.age_ms is None else f", frames {seen.age_ms:.0f} for {old.age_ms:.0f} ms old"
    )
    return f"{seen.a_minute:.1f} detections a minute for {old.a_minute:.1f}{ages}"


class Observer:
    """Adds up what a model does, of the last ``window`` looks, or of all where it is None. ``before``: what was seen of
    it in an earlier run."""

    def __init__(self, before: Observed | None = None, window: int | None = None) -> None:
        self._before = before or Observed()
        self._looks: deque[tuple[float, int, int]] = deque(maxlen=window)
        self._ages: deque[float] = deque(maxlen=window or 3600)
        self._last: tuple[float, int, int] | None = None
        self._window = window

    def look(self, now: float, frames: int, detections: int, age_ms: float | None, *, working: bool) -> None:
        """What is so at ``now``, monotonic seconds: frames and detections since the start of the process, the age of
        frames of late, and whether there is a camera to work on."""
        last, self._last = self._last, (now, frames, detections)
        if last is None or not working:
            return
        self._looks.append((now - last[0], frames - last[1], detections - last[2]))
        if age_ms is not None:
            self._ages.append(age_ms)
        if self._window is not None and len(self._looks) == self._window:
            self._before = Observed()

    @property
    def observed(self) -> Observed:
        """All of it."""
        own = Observed(
            seconds=sum(look[0] for look in self._looks),
            frames=sum(look[1] for look in self._looks),
            detections=sum(look[2] for look in self._looks),
            age_ms=statistics.median(self._ages) if self._ages else None,
        )
        return together(self._before, own)


def together(one: Observed, two: Observed) -> Observed:
    """Both, one after the other; the age is the mean, by frames."""
    ages = [(part.age_ms, part.frames) for part in (one, two) if part.age_ms is not None and part.frames]
    frames = sum(count for _, count in ages)
    return Observed(
        seconds=one.seconds + two.seconds,
        frames=one.frames + two.frames,
        detections=one.detections + two.detections,
        age_ms=sum(age * count for age, count in ages) / frames if frames else None,
    )
