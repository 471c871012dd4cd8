"""The pictures of recent events, for plugins that read the event log and come to them later. Bounded in bytes."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict

from agent.data import Event, Frame

BUDGET = 32 << 20


class Pictures:
    """Frames by event message. Several may show one frame, which is counted once; the oldest go first."""

    def __init__(self, budget: int = BUDGET) -> None:
        self._budget = budget
        self._lock = threading.Lock()
        self._frames: OrderedDict[tuple[str, int], Frame] = OrderedDict()
        self._uses: Counter[int] = Counter()
        self._bytes = 0

    def put(self, event: Event, frame: Frame | None) -> None:
        """Keep the picture of this message as long as there is room."""
        if frame is None:
            return
        with self._lock:
            self._frames[event.id, event.seq] = frame
            self._uses[id(frame)] += 1
            self._bytes += frame.nbytes if self._uses[id(frame)] == 1 else 0
            while self._bytes > self._budget:
                self._forget_oldest()

    def get(self, event: Event) -> Frame | None:
        """The picture of this message, None when it is gone."""
        with self._lock:
            return self._frames.get((event.id, event.seq))

    def _forget_oldest(self) -> None:
        _, frame = self._frames.popitem(last=False)
        self._uses[id(frame)] -= 1
        if not self._uses[id(frame)]:
            del self._uses[id(frame)]
            self._bytes -= frame.nbytes
