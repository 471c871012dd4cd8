"""The pictures that a model is calibrated and judged with: taken from folders, images and videos, chosen for variety.

The same sources give the same pictures, so that what is made from them is the same byte for byte.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from agent.data import Frame
from agent.errors import SourceError
from agent.precision.progress import Steps, untold

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agent.sources.base import Picture

THUMBNAIL = 8
MOST_LOOKED_AT = 1500
"""How many pictures are looked at to choose from; of more, every second, third … one."""
LONGEST_SIDE = 1280
"""Pictures are kept in memory at this size at most; networks see less anyway."""


class Sample(NamedTuple):
    """Chosen pictures, in the order of their sources, and a hash of their pixels."""

    frames: tuple[Frame, ...]
    digest: str


def sample(sources: Sequence[str], count: int, steps: Steps = untold) -> Sample:
    """At most ``count`` pictures that differ as much as possible. Raises SourceError, MissingSourceError."""
    with steps("pictures looked at", None) as step:
        looked = _looked_at(sources, step)
    if not looked:
        raise SourceError(f"{', '.join(sources)}: no picture in it that can be read")
    chosen = {looked[place][0] for place in varied(np.stack([thumbnail for _, thumbnail in looked]), count)}
    last = max(chosen)
    frames = []
    for index, picture in _pictures(sources):
        if index in chosen:
            frames.append(Frame("calibration", index, _shrunk(picture.pixels), 0.0, 0.0))
        if index == last:
            break
    return Sample(tuple(frames), _digest(frames))


def halves(taken: Sample) -> tuple[Sample, Sample]:
    """Every second picture each: one half to choose by, the other to judge by."""
    parts = taken.frames[::2], taken.frames[1::2]
    first, second = (Sample(part, _digest(part)) for part in parts)
    return first, second


def varied(descriptors: NDArray[np.float32], count: int) -> list[int]:
    """Indices of ``count`` rows, each the farthest from all before it (Gonzalez 1985), from the most usual one on."""
    count = min(count, len(descriptors))
    first = int(((descriptors - descriptors.mean(0)) ** 2).sum(1).argmin())
    chosen, nearest = [first], ((descriptors - descriptors[first]) ** 2).sum(1)
    while len(chosen) < count:
        nearest[chosen[-1]] = -1.0
        place = int(nearest.argmax())
        chosen.append(place)
        nearest = np.minimum(nearest, ((descriptors - descriptors[place]) ** 2).sum(1))
    return sorted(chosen)


def _looked_at(sources: Sequence[str], each: Callable[[], object]) -> list[tuple[int, NDArray[np.float32]]]:
    """Thumbnails by the picture's number; of a long source every second one, every fourth …: memory is bounded."""
    looked: list[tuple[int, NDArray[np.float32]]] = []
    step = 1
    for index, picture in _pictures(sources):
        each()
        if index % step:
            continue
        looked.append((index, _thumbnail(picture.pixels)))
        if len(looked) > MOST_LOOKED_AT:
            looked, step = looked[::2], step * 2
    return looked


def _pictures(sources: Sequence[str]) -> Iterator[tuple[int, Picture]]:
    """Every picture of recorded sources, numbered through."""
    from agent.sources.factory import open_source

    index = 0
    for spec in sources:
        source = open_source(spec)
        if source.live:
            raise SourceError(f"{spec}: a live camera; calibrate with a folder of images or a video")
        with contextlib.closing(source):
            source.open()
            while (picture := source.read()) is not None:
                yield index, picture
                index += 1


def _thumbnail(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Colours and coarse layout, float32 ``[8 * 8 * 3]``, 0..1."""
    import cv2

    small = cv2.resize(pixels, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    levels: NDArray[np.float32] = np.asarray(small, np.float32).reshape(-1) / np.float32(255)
    return levels


def _shrunk(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    import cv2

    ratio = LONGEST_SIDE / max(pixels.shape[:2])
    if ratio >= 1:
        return pixels
    size = round(pixels.shape[1] * ratio), round(pixels.shape[0] * ratio)
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def _digest(frames: Sequence[Frame]) -> str:
    digest = hashlib.sha256()
    for frame in frames:
        digest.update(repr(frame.pixels.shape).encode())
        digest.update(frame.pixels.tobytes())
    return digest.hexdigest()
