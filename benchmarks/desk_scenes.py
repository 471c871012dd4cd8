"""Scenes of the synthetic desk as data: drawn in parallel, letterboxed to a network's input, kept with their truth."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.sources.desk.domains import Domain
from agent.sources.desk.scene import Scene, scene_of
from agent.sources.desk.things import LABELS

INPUT = (320, 256)
"""Width and height of the network's input."""
PAD = 114
LEAST_VISIBLE = 0.25
"""Of what shows less than this is neither asked for nor held against a detector."""
MOST_OBJECTS = 8
SIZES = ((640, 480), (640, 480), (640, 480), (800, 450), (640, 512))

Array = NDArray[Any]


class Letterbox(NamedTuple):
    """The picture in the network's size, and how a point gets there: ``x * scale + left``, ``y * scale + top``."""

    pixels: Array
    scale: float
    left: int
    top: int


def letterbox(pixels: Array, size: tuple[int, int] = INPUT) -> Letterbox:
    """The whole picture, centred, on grey."""
    height, width = pixels.shape[:2]
    scale = min(size[0] / width, size[1] / height)
    inner = round(width * scale), round(height * scale)
    left, top = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    canvas = np.full((size[1], size[0], 3), PAD, np.uint8)
    canvas[top : top + inner[1], left : left + inner[0]] = cv2.resize(pixels, inner, interpolation=cv2.INTER_LINEAR)
    return Letterbox(canvas, scale, left, top)


def drawn_one(index: int, seed: int, domain: Domain) -> tuple[Array, Array]:
    """The ``index``-th scene of a series, ready to be trained on."""
    scene = scene_of(seed, index, domain, SIZES[index % len(SIZES)])
    boxed = letterbox(scene.pixels)
    truth = np.full((MOST_OBJECTS, 6), -1, np.float32)
    for row, one in zip(truth, scene.truths, strict=False):
        box = np.array(one.box, np.float32) * boxed.scale + [boxed.left, boxed.top, boxed.left, boxed.top]
        row[:] = [LABELS.index(one.label), *box, one.visible]
    return boxed.pixels[..., ::-1], truth


def _alone() -> None:
    cv2.setNumThreads(1)


class Drawing:
    """Scenes that are drawn in the background by as many processes as there are cores, while others are trained on.

    ``pictures``: uint8 RGB [N, H, W, 3]; ``truth``: float32 [N, M, 6]: class (-1 where there is none), x1, y1, x2, y2
    in pixels of the input, visible share. The first ``ready`` of them are drawn.
    """

    def __init__(
        self, seed: int, count: int, domain: Domain, workers: int | None = None, pictures: Array | None = None
    ) -> None:
        self.pictures = np.empty(_shape(count), np.uint8) if pictures is None else pictures
        self.truth = np.empty((count, MOST_OBJECTS, 6), np.float32)
        self.ready = 0
        self._failure: Exception | None = None
        self._changed = threading.Condition()
        self._pool = multiprocessing.get_context("fork").Pool(workers or os.cpu_count(), _alone)
        one = partial(drawn_one, seed=seed, domain=domain)
        self._thread = threading.Thread(
            target=self._receive, args=(self._pool.imap(one, range(count), 8),), daemon=True
        )
        self._thread.start()

    def wait_for(self, count: int, seconds: float | None = None) -> None:
        """Until so many are drawn, or the time is over. Raises what a drawing process raised."""
        with self._changed:
            self._changed.wait_for(lambda: self.ready >= min(count, len(self.pictures)) or self._failure, seconds)
        if self._failure:
            raise self._failure

    def close(self) -> None:
        """Draw no more."""
        self._pool.terminate()

    def _receive(self, drawn: Iterator[tuple[Array, Array]]) -> None:
        try:
            for index, (picture, objects) in enumerate(drawn):
                self.pictures[index], self.truth[index] = picture, objects
                with self._changed:
                    self.ready = index + 1
                    self._changed.notify_all()
        except Exception as error:  # noqa: BLE001 - whatever a process raised is the waiting thread's to raise
            with self._changed:
                self._failure = error
                self._changed.notify_all()


class Drawn:
    """Scenes drawn beforehand by drawn_to(), read from their folder: a Drawing that is ready from the start."""

    def __init__(self, folder: Path) -> None:
        self.truth: Array = np.load(folder / "truth.npy")
        self.pictures: Array = np.load(folder / "pictures.npy", mmap_mode="c")[: len(self.truth)]
        self.ready = len(self.truth)

    def wait_for(self, count: int, seconds: float | None = None) -> None:
        """It is there."""

    def close(self) -> None:
        """Nothing draws."""


def drawn_to(
    folder: Path, seed: int, count: int, seconds: float, domain: Domain, workers: int | None = None
) -> tuple[int, float]:
    """Draw ``count`` scenes, or as many as the time allows, into a folder; how many there are and how long it took."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = np.lib.format.open_memmap(folder / "pictures.npy", "w+", np.uint8, _shape(count))
    begun = time.monotonic()
    drawing = Drawing(seed, count, domain, workers, pictures)
    try:
        drawing.wait_for(count, seconds)
    finally:
        drawing.close()
    np.save(folder / "truth.npy", drawing.truth[: drawing.ready])
    return drawing.ready, time.monotonic() - begun


def _shape(count: int) -> tuple[int, int, int, int]:
    return count, INPUT[1], INPUT[0], 3


def fresh(seed: int, count: int, domain: Domain) -> Iterator[Scene]:
    """Scenes at the camera's own size, one after the other."""
    cv2.setNumThreads(1)
    for index in range(count):
        yield scene_of(seed, index, domain)
