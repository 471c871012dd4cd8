"""A camera that does what a test tells it: it stands for hardware, and for nothing else."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from agent.errors import SourceError
from agent.sources.base import Picture

Image = NDArray[np.uint8]


def noise(seed: int, size: tuple[int, int] = (64, 48)) -> Image:
    """A bright picture unlike every other."""
    return np.random.default_rng(seed).integers(60, 256, (size[1], size[0], 3), dtype=np.uint8)


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class FakeCamera:
    """A live source. ``show`` and ``lose`` are read in order; when nothing was told, ``read`` blocks like a driver.

    ``unplugged`` makes ``open`` fail with that reason. ``gone`` unblocks a reader for good.
    """

    live = True

    def __init__(self) -> None:
        self.script: queue.Queue[Image | Exception | Callable[[], None]] = queue.Queue()
        self.unplugged: Exception | None = None
        self.opened = 0
        self.closed = 0
        self.gone = threading.Event()

    def show(self, *pictures: Image) -> None:
        for picture in pictures:
            self.script.put(picture)

    def lose(self, reason: str = "the cable is out") -> None:
        self.script.put(SourceError(reason))

    def open(self) -> None:
        self.opened += 1
        if self.unplugged is not None:
            raise self.unplugged

    def read(self) -> Picture | None:
        while not self.gone.is_set():
            try:
                told = self.script.get(timeout=0.02)
            except queue.Empty:
                continue
            if isinstance(told, Exception):
                raise told
            if callable(told):
                told()
                continue
            return Picture(told)
        raise SourceError("unplugged")

    def close(self) -> None:
        self.closed += 1


class GrabbingCamera(FakeCamera):
    """The same with two steps: it counts what was fetched. A picture of no size cannot be decoded."""

    def __init__(self) -> None:
        super().__init__()
        self.retrieved = 0
        self._grabbed: Picture | None = None

    def grab(self) -> bool:
        self._grabbed = super().read()
        return self._grabbed is not None

    def retrieve(self) -> Picture | None:
        self.retrieved += 1
        return self._grabbed if self._grabbed is not None and self._grabbed.pixels.size else None


class Recording:
    """A source that ends: pictures with positions ``1 / fps`` apart, then perhaps an error."""

    live = False

    def __init__(self, pictures: int, fps: float | None = 25.0, failure: Exception | None = None) -> None:
        self.pictures = pictures
        self.fps = fps
        self.failure = failure
        self.given = 0
        self.skipped: list[str] = []

    def open(self) -> None:
        self.given = 0

    def read(self) -> Picture | None:
        if self.given == self.pictures:
            if self.failure is not None:
                raise self.failure
            return None
        self.given += 1
        return Picture(noise(self.given), None if self.fps is None else (self.given - 1) / self.fps)

    def close(self) -> None:
        pass
