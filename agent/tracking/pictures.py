"""The best picture of each open event, within a budget of bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable

from agent.data import Frame

DEFAULT_BUDGET = 64 << 20


class BestPictures:
    """Frames by key. A frame that several keys share is counted once; over ``budget`` bytes the oldest are let go.

    One instance may serve several cameras, as long as one thread calls it. ``released`` counts what the budget cost.
    """

    def __init__(self, budget: int = DEFAULT_BUDGET) -> None:
        self.released = 0
        self._budget = budget
        self._bytes = 0
        self._frames: dict[Hashable, Frame] = {}
        self._holders: Counter[int] = Counter()

    @property
    def nbytes(self) -> int:
        """Bytes of the pixels held now."""
        return self._bytes

    def get(self, key: Hashable) -> Frame | None:
        """The picture of ``key``, None when there is none or the budget took it."""
        return self._frames.get(key)

    def put(self, key: Hashable, frame: Frame) -> None:
        """Hold ``frame`` for ``key`` in the place of what it had."""
        self.drop(key)
        self._frames[key] = frame
        if not self._holders[id(frame.pixels)]:
            self._bytes += frame.nbytes
        self._holders[id(frame.pixels)] += 1
        while self._bytes > self._budget:
            self.released += 1
            self.drop(next(iter(self._frames)))

    def drop(self, key: Hashable) -> None:
        """Forget the picture of ``key``, if it has one."""
        frame = self._frames.pop(key, None)
        if frame is None:
            return
        self._holders[id(frame.pixels)] -= 1
        if not self._holders[id(frame.pixels)]:
            del self._holders[id(frame.pixels)]
            self._bytes -= frame.nbytes
