"""``synthetic://desk``: a live camera that looks at the drawn desk. What the desk shows is desk/'s, the pace is here."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from urllib.parse import parse_qsl, urlsplit

from agent.errors import SourceError
from agent.sources.base import Picture

EXAMPLE = "synthetic://desk?fps=15&size=640x480&seed=1"
MAX_FPS = 1000.0
SIDES = range(64, 4097)


class SyntheticDesk:
    """``uri``: ``synthetic://desk?fps=15&size=640x480&seed=1``, each parameter optional.

    Pictures come at ``fps`` of real time, whatever their drawing costs: one that is late is not made up for. Raises
    SourceError for a parameter that is unknown or out of range. ``clock`` and ``wait`` are for tests.
    """

    live = True

    def __init__(
        self,
        uri: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], object] = threading.Event().wait,
    ) -> None:
        self.fps, self.size, self.seed = _parameters(uri)
        self._clock = clock
        self._wait = wait
        self._count = 0
        self._due = 0.0

    def open(self) -> None:
        """Draw the desk; the same seed always gives the same one."""
        from agent.sources.desk.motion import MovingDesk

        self._desk = MovingDesk(self.seed, self.size)
        self._count = 0
        self._due = self._clock()

    def read(self) -> Picture:
        """The next picture, when it is due."""
        late = self._clock() - self._due
        if late < 0:
            self._wait(-late)
        self._due = max(self._due + 1 / self.fps, self._due + late)
        pixels = self._desk.picture(self._count / self.fps).pixels
        self._count += 1
        return Picture(pixels)

    def close(self) -> None:
        """Nothing is held."""


def _parameters(uri: str) -> tuple[float, tuple[int, int], int]:
    parts = urlsplit(uri)
    if parts.netloc != "desk" or parts.path not in ("", "/"):
        raise SourceError(f"{uri}: the only synthetic camera is the desk; write {EXAMPLE}")
    fps, size, seed = 15.0, (640, 480), 1
    for key, value in parse_qsl(parts.query, keep_blank_values=True):
        try:
            if key == "fps":
                fps = _fps(value)
            elif key == "size":
                size = _size(value)
            elif key == "seed":
                seed = int(value)
            else:
                raise SourceError(f"{uri}: unknown parameter {key}; known are fps, size, seed: {EXAMPLE}")
        except ValueError:
            raise SourceError(f"{uri}: {key}={value} is not understood; write {EXAMPLE}") from None
    return fps, size, abs(seed)


def _fps(text: str) -> float:
    value = float(text)
    if not 0 < value <= MAX_FPS:
        raise ValueError
    return value


def _size(text: str) -> tuple[int, int]:
    width, height = (int(side) for side in text.lower().split("x"))
    if width not in SIDES or height not in SIDES:
        raise ValueError
    return width, height
