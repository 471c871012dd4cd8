"""Which pixels a resized pixel is made of, and their weights: OpenCV's bilinear resize for 8 bits, as tables. Pure.

With them the kernel's result is ``cv2.resize(…, INTER_LINEAR)`` bit for bit: centres at .5, weights of 11 bits. At the
left and right edge the weight is all on one pixel, at the upper and lower edge both rows are the same one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ONE = 2048


def column_taps(source: int, target: int) -> NDArray[np.int32]:
    """``[target, 4]``: byte offsets of the two BGR pixels in their row, and their weights (of 2048)."""
    place, share = _places(source, target)
    outside = (place < 0) | (place >= source - 1)
    share[outside] = 0
    first = np.clip(place, 0, source - 1)
    second = np.minimum(first + 1, source - 1)
    return np.stack((3 * first, 3 * second, *_weights(share)), axis=1).astype(np.int32)


def row_taps(source: int, target: int) -> NDArray[np.int32]:
    """``[target, 4]``: the two rows, and their weights (of 2048)."""
    place, share = _places(source, target)
    first, second = np.clip(place, 0, source - 1), np.clip(place + 1, 0, source - 1)
    return np.stack((first, second, *_weights(share)), axis=1).astype(np.int32)


def _places(source: int, target: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    # In double and float just as OpenCV has it: scale = 1 / (target / source), a float per pixel.
    scale = 1.0 / (target / source)
    exact = ((np.arange(target) + 0.5) * scale - 0.5).astype(np.float32)
    place = np.floor(exact)
    return place.astype(np.int64), exact - place


def _weights(share: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    one = np.float32(ONE)
    return np.rint((np.float32(1) - share) * one), np.rint(share * one)
