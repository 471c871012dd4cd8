"""Pictures to the network's input, into buffers made once, and boxes back to the picture's own pixels.

Which frame goes into which buffer, and when a buffer is free again, is the detector's business.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.detection.manifest import InputSpec

PAD_AT = {"letterbox": 0.5, "letterbox-topleft": 0.0}


class Transform(NamedTuple):
    """Which rectangle of the picture (``x, y, width, height``) was resized into which rectangle of the input.

    ``size``: width and height of the picture. All in whole pixels.
    """

    source: tuple[int, int, int, int]
    target: tuple[int, int, int, int]
    size: tuple[int, int]

    def undo(
        self, boxes: NDArray[np.float32], landmarks: NDArray[np.float32] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Boxes ``[N, 4]`` and landmarks ``[N, K, 2]`` from network pixels to the picture's, clipped to it.

        Resizing maps a picture's continuous coordinate x to x * target / source (OpenCV's pixel centres are at .5).
        """
        scale, offset, most = _way_back(self)
        points = _within(boxes * scale + offset, most)
        if landmarks is None:
            return points, None
        return points, _within(landmarks * scale[:2] + offset[:2], most[:2])


@functools.lru_cache(maxsize=64)
def _way_back(transform: Transform) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Factor, offset, and the picture's width and height, float32, for ``x, y, x, y``."""
    (sx, sy, sw, sh), (tx, ty, tw, th), (width, height) = transform
    scale, offset = (sw / tw, sh / th) * 2, (sx - tx * sw / tw, sy - ty * sh / th) * 2
    return np.array(scale, np.float32), np.array(offset, np.float32), np.array((width, height) * 2, np.float32)


def _within(points: NDArray[np.float32], most: NDArray[np.float32]) -> NDArray[np.float32]:
    """In place, between 0 and the picture's sides; np.clip takes four times as long for a few boxes."""
    return np.minimum(np.maximum(points, 0, out=points), most, out=points)


def plan(spec: InputSpec, size: tuple[int, int]) -> Transform:
    """Where a picture of ``size`` (width, height) goes in the network's input."""
    (width, height), (net_width, net_height) = size, spec.size
    if spec.resize == "stretch":
        return Transform((0, 0, width, height), (0, 0, net_width, net_height), size)
    if spec.resize == "crop":
        # Cutting first and resizing what is left touches the fewest pixels.
        ratio = max(net_width / width, net_height / height)
        cut = min(width, max(1, round(net_width / ratio))), min(height, max(1, round(net_height / ratio)))
        corner = (width - cut[0]) // 2, (height - cut[1]) // 2
        return Transform((*corner, *cut), (0, 0, net_width, net_height), size)
    ratio = min(net_width / width, net_height / height)
    inner = min(net_width, max(1, round(width * ratio))), min(net_height, max(1, round(height * ratio)))
    share = PAD_AT[spec.resize]
    corner = int((net_width - inner[0]) * share), int((net_height - inner[1]) * share)
    return Transform((0, 0, width, height), (*corner, *inner), size)


class Preprocessor:
    """Fills one input ``[batch, 3, H, W]`` (``[batch, H, W, 3]`` for nhwc) of ``dtype``, again and again; one
    instance a slot of the engine.

    What a picture does not cover is written only when the geometry changes: a camera's pictures are all of one size.
    """

    def __init__(self, spec: InputSpec, *, batch: int = 1, dtype: str = "float32") -> None:
        width, height = spec.size
        channels_last = spec.layout == "nhwc"
        shape = (batch, height, width, 3) if channels_last else (batch, 3, height, width)
        self.buffer: NDArray[np.generic] = np.zeros(shape, dtype)
        # Written to plane by plane whatever the order of the axes.
        self._planar = self.buffer.transpose(0, 3, 1, 2) if channels_last else self.buffer
        self._spec = spec
        self._plans: list[Transform | None] = [None] * batch
        self._targets: list[list[NDArray[Any]]] = [[] for _ in range(batch)]
        self._pixels = np.empty((0, 0, 3), np.uint8)
        self._planes: list[NDArray[np.uint8]] = []
        self._scaled = np.empty((0, 0), np.float32)
        self._levels = [_levels(mean, scale) for mean, scale in zip(spec.mean, spec.scale, strict=True)]
        self._order = (2, 1, 0) if spec.colour == "rgb" else (0, 1, 2)

    def fill(self, index: int, pixels: NDArray[np.uint8]) -> Transform:
        """Write a BGR picture, uint8 ``[H, W, 3]``, into place ``index`` of the batch, resized bilinearly."""
        last = self._plans[index]
        size = int(pixels.shape[1]), int(pixels.shape[0])
        transform = last if last is not None and last.size == size else self._lay_out(index, size)
        x, y, width, height = transform.source
        _, _, tw, th = transform.target
        self._resize(pixels[y : y + height, x : x + width], tw, th)
        for channel, plane in enumerate(self._order):
            self._write(self._planes[plane], channel, self._targets[index][channel])
        return transform

    def _lay_out(self, index: int, size: tuple[int, int]) -> Transform:
        transform = self._plans[index] = plan(self._spec, size)
        for channel in range(3):
            pad = (self._spec.pad - self._spec.mean[channel]) * self._spec.scale[channel]
            self._planar[index, channel] = pad
        tx, ty, tw, th = transform.target
        self._targets[index] = [self._planar[index, channel, ty : ty + th, tx : tx + tw] for channel in range(3)]
        return transform

    def _resize(self, pixels: NDArray[np.uint8], width: int, height: int) -> None:
        if self._pixels.shape[:2] != (height, width):
            self._pixels = np.empty((height, width, 3), np.uint8)
            self._planes = [np.empty((height, width), np.uint8) for _ in range(3)]
            self._scaled = np.empty((height, width), np.float32)
        cv2.resize(pixels, (width, height), dst=self._pixels, interpolation=cv2.INTER_LINEAR)
        cv2.split(self._pixels, self._planes)

    def _write(self, plane: NDArray[np.uint8], channel: int, target: NDArray[Any]) -> None:
        """``(plane - mean) * scale`` in place. A bare copy where it is one."""
        scale, mean = self._spec.scale[channel], self._spec.mean[channel]
        if mean == 0 and scale == 1:
            np.copyto(target, plane, casting="unsafe")
        elif target.dtype != np.float32:
            np.copyto(target, (plane - np.float32(mean)) * np.float32(scale), casting="unsafe")
        elif scale < 0 or plane.shape[1] < 2:
            np.copyto(target, self._levels[channel][plane])
        elif target.strides[1] == target.itemsize:
            _scale(plane, self._levels[channel], target)
        else:  # OpenCV writes to rows that lie together alone
            _scale(plane, self._levels[channel], self._scaled)
            np.copyto(target, self._scaled)


def _levels(mean: float, scale: float) -> NDArray[np.float64]:
    """What each of the 256 levels of a byte becomes, ``level * scale - mean * scale``, exactly. In float32 it is what a
    device makes of it, and OpenCV where it has a fused multiply-add (AVX2, ARM64); elsewhere that rounds twice."""
    factor, offset = float(np.float32(scale)), float(np.float32(mean * scale))
    return np.array([level * factor - offset for level in range(256)])


def _scale(plane: NDArray[np.uint8], levels: NDArray[np.float64], target: NDArray[np.float32]) -> None:
    """Each byte of a plane ``[H, W]`` to its rising level. ``plane`` is ours, and changed.

    OpenCV's conversion with a factor and an offset, which nothing else comes near, is to be had from Python as
    ``normalize`` alone: that takes both from the least and the greatest pixel, so two pixels lend them their places.
    """
    first, second = plane.item(0), plane.item(1)
    plane[0, 0], plane[0, 1] = 0, 255
    cv2.normalize(plane, target, levels[0], levels[255], cv2.NORM_MINMAX, cv2.CV_32F)
    target[0, 0], target[0, 1] = levels[first], levels[second]
