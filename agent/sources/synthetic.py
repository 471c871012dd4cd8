"""``synthetic://desk?fps=15&size=640x480&seed=1``: a camera without a camera, for the demo and for tests.

It checks the URI and keeps the pace of a live camera; what the desk looks like is the room desk/'s business.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from agent.errors import ConfigError, SourceError
from agent.sources.base import Picture

if TYPE_CHECKING:
    from agent.sources.desk.motion import MovingDesk

SCHEME, SCENE = "synthetic", "desk"
EXAMPLE = "synthetic://desk?fps=15&size=640x480&seed=1"
LEAST_SIDE, MOST_SIDE, MOST_FPS = 160, 3840, 1000.0


class DeskParameters(NamedTuple):
    """What the URI may say. ``size``: width, height in pixels."""

    fps: float = 15.0
    size: tuple[int, int] = (640, 480)
    seed: int = 1


def _fps(text: str) -> float:
    value = float(text)
    if not 0 < value <= MOST_FPS:
        raise ValueError
    return value


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    size = (int(match[1]), int(match[2])) if match else (0, 0)
    if not all(LEAST_SIDE <= side <= MOST_SIDE for side in size):
        raise ValueError
    return size


def _seed(text: str) -> int:
    if not re.fullmatch(r"\d{1,18}", text):
        raise ValueError
    return int(text)


_READERS: dict[str, tuple[Callable[[str], object], str]] = {
    "fps": (_fps, f"a number above 0 and up to {MOST_FPS:g}"),
    "size": (_size, f"WIDTHxHEIGHT, each {LEAST_SIDE} to {MOST_SIDE}"),
    "seed": (_seed, "a whole number from 0"),
}


def parse(uri: str) -> DeskParameters:
    """The parameters of the URI. Raises ConfigError with one line for each that is wrong."""
    parts = urlsplit(uri)
    if parts.scheme != SCHEME or (parts.netloc + parts.path).strip("/") != SCENE:
        raise ConfigError(f"{uri}: there is no such synthetic camera; meant is {EXAMPLE}")
    values: dict[str, object] = {}
    faults = []
    for name, text in parse_qsl(parts.query, keep_blank_values=True):
        reader, meant = _READERS.get(name, (None, ""))
        try:
            if reader is None:
                faults.append(f"{uri}: {name}: unknown parameter; known are {', '.join(_READERS)}")
            else:
                values[name] = reader(text)
        except ValueError:
            faults.append(f"{uri}: {name}: {text!r}; meant is {meant}")
    if faults:
        raise ConfigError(faults)
    return DeskParameters(**values)  # type: ignore[arg-type]


class SyntheticDesk:
    """The camera; see ``agent.sources.base.Source``. Raises ConfigError when the URI is wrong.

    The picture shows the desk at its due time: the same URI gives the same pictures in the same order as long as they
    are read as fast as they come. Who reads late misses some, as with any camera. ``clock`` (monotonic seconds) and
    ``wait`` (for so many seconds, or until closed) can be replaced.
    """

    live = True

    def __init__(
        self,
        uri: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        self.uri = uri
        self.parameters = parse(uri)
        self._clock = clock
        self._closed = threading.Event()
        self._wait = wait or self._closed.wait
        self._desk: MovingDesk | None = None
        self._start = 0.0
        self._next = 0

    def open(self) -> None:
        """Lay the table and start the camera's time at 0."""
        from agent.sources.desk.motion import MovingDesk

        self._closed.clear()
        self._desk = MovingDesk(self.parameters.seed, self.parameters.size)
        self._start, self._next = self._clock(), 0

    def read(self) -> Picture | None:
        """Wait until the next picture is due and draw it. Raises SourceError when the camera is closed."""
        if self._desk is not None:
            self._wait_until_due()
        if self._desk is None or self._closed.is_set():
            raise SourceError(f"{self.uri}: the camera is closed")
        pixels = self._desk.picture(self._next / self.parameters.fps).pixels
        self._next += 1
        return Picture(pixels)

    def close(self) -> None:
        """Stop; a read() that waits ends with a SourceError."""
        self._closed.set()
        self._desk = None

    def _wait_until_due(self) -> None:
        elapsed = self._clock() - self._start
        self._next = max(self._next, int(elapsed * self.parameters.fps))
        early = self._next / self.parameters.fps - elapsed
        if early > 0:
            self._wait(early)
