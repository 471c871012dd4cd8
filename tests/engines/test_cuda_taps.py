"""The tables by which the device resizes, applied in numpy: OpenCV's result, bit for bit."""

from __future__ import annotations

import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from agent.engines.cuda.taps import ONE, column_taps, row_taps

sides = st.integers(1, 97)


def resized(picture: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """What the kernel computes, in its order and with its truncations."""
    left, right, a, b = column_taps(picture.shape[1], width).T.astype(np.int64)
    upper, lower, c, d = row_taps(picture.shape[0], height).T.astype(np.int64)
    flat = picture.reshape(picture.shape[0], -1).astype(np.int64)
    wide = np.stack([flat[:, left + k] * a + flat[:, right + k] * b for k in range(3)], axis=2)
    c, d = c[:, None, None], d[:, None, None]
    level = ((((wide[upper] >> 4) * c) >> 16) + (((wide[lower] >> 4) * d) >> 16) + 2) >> 2
    result: NDArray[np.uint8] = level.astype(np.uint8)
    return result


@given(st.integers(0, 2**32 - 1), sides, sides, sides, sides)
def test_any_picture_in_any_size_is_resized_as_opencv_does_it(
    seed: int, width: int, height: int, target_width: int, target_height: int
) -> None:
    picture = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    wanted = cv2.resize(picture, (target_width, target_height), interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(resized(picture, target_width, target_height), wanted)


def test_full_hd_and_4k_are_resized_as_opencv_does_it() -> None:
    rng = np.random.default_rng(3)
    for width, height, target in ((1920, 1080, (416, 234)), (1280, 720, (640, 360)), (3840, 2160, (640, 360))):
        picture = rng.integers(0, 256, (height, width, 3), np.uint8)
        wanted = cv2.resize(picture, target, interpolation=cv2.INTER_LINEAR)
        assert np.array_equal(resized(picture, *target), wanted)


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_the_weights_of_a_pixel_add_up_and_its_sources_lie_in_the_picture(source: int, target: int) -> None:
    for taps, step in ((column_taps(source, target), 3), (row_taps(source, target), 1)):
        assert taps.shape == (target, 4)
        assert (taps[:, 2] + taps[:, 3] == ONE).all()
        assert taps[:, :2].min() >= 0
        assert taps[:, :2].max() <= step * (source - 1)
