"""The last seconds of every camera, as JPEG, within a budget of bytes. Pure.

Encoded, not raw: ten seconds of a camera at 8 pictures a second and 960x540 are some 8 MB so, 124 MB raw.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple


class Shot(NamedTuple):
    """One picture: when it was taken (UNIX seconds), its JPEG."""

    at: float
    jpeg: bytes


class Ring:
    """``budget``: bytes of all cameras together; over it the oldest go, whoever needs them."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._shots: dict[str, deque[Shot]] = {}
        self.total = 0
        self._lost: dict[str, float] = {}

    def add(self, camera: str, shot: Shot, keep_since: float) -> None:
        """The newest picture of a camera; what is older than ``keep_since`` is not needed any more."""
        shots = self._shots.setdefault(camera, deque())
        shots.append(shot)
        self.total += len(shot.jpeg)
        while shots and shots[0].at < keep_since:
            self._drop(camera)
        while self.total > self._budget:
            oldest = self._oldest()
            self._lost[oldest] = self._drop(oldest).at

    def between(self, camera: str, begin: float, end: float) -> list[Shot]:
        """Its pictures of that time, in order."""
        return [shot for shot in self._shots.get(camera, ()) if begin <= shot.at <= end]

    def is_whole(self, camera: str, begin: float) -> bool:
        """Whether the budget has taken nothing since."""
        return self._lost.get(camera, float("-inf")) < begin

    def _oldest(self) -> str:
        return min((camera for camera, shots in self._shots.items() if shots), key=lambda c: self._shots[c][0].at)

    def _drop(self, camera: str) -> Shot:
        shot = self._shots[camera].popleft()
        self.total -= len(shot.jpeg)
        return shot
