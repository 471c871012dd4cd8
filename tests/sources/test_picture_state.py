"""A frozen or black picture is told from a live one."""

from __future__ import annotations

import numpy as np
import pytest
from camera_fakes import Image, noise

from agent.sources.picture_state import PictureWatch, is_black, sample


def dark(seed: int, level: int = 8) -> Image:
    """A covered lens: sensor noise around nearly nothing."""
    return np.random.default_rng(seed).integers(0, level, (48, 64, 3), dtype=np.uint8)


def test_pictures_that_change_are_up() -> None:
    watch = PictureWatch(frozen_after=5)
    assert {watch.see(noise(index), index * 1.0) for index in range(30)} == {"up"}


def test_a_picture_that_stays_the_same_for_longer_than_the_limit_is_frozen() -> None:
    watch = PictureWatch(frozen_after=5)
    states = [watch.see(noise(1), at) for at in (0.0, 2.5, 5.0, 5.1, 60.0)]
    assert states == ["up", "up", "up", "frozen", "frozen"]


def test_the_first_different_picture_ends_the_freeze_and_a_new_one_needs_its_time() -> None:
    watch = PictureWatch(frozen_after=5)
    assert [watch.see(noise(1), at) for at in (0.0, 6.0)] == ["up", "frozen"]
    assert watch.see(noise(2), 6.1) == "up"
    assert watch.see(noise(2), 11.0) == "up"
    assert watch.see(noise(2), 11.2) == "frozen"


def test_a_single_small_thing_that_moves_is_no_freeze() -> None:
    watch = PictureWatch(frozen_after=1)
    scene = np.full((1080, 1920, 3), 120, np.uint8)
    for index in range(20):
        picture = scene.copy()
        picture[500:540, 60 * index : 60 * index + 40] = 250
        assert watch.see(picture, index * 0.5) == "up"


def test_a_covered_lens_is_black_after_two_seconds_though_it_is_noisy() -> None:
    watch = PictureWatch(frozen_after=5)
    states = [watch.see(dark(index), at) for index, at in enumerate((0.0, 1.0, 2.0, 2.1, 30.0))]
    assert states == ["up", "up", "up", "black", "black"]


def test_black_goes_before_frozen() -> None:
    watch = PictureWatch(frozen_after=5)
    black = np.zeros((48, 64, 3), np.uint8)
    assert [watch.see(black, at) for at in (0.0, 3.0, 30.0)] == ["up", "black", "black"]


def test_the_first_bright_picture_ends_the_black() -> None:
    watch = PictureWatch(frozen_after=5)
    assert [watch.see(dark(1), at) for at in (0.0, 3.0)] == ["up", "black"]
    assert watch.see(noise(1), 3.1) == "up"


def test_a_night_with_one_lamp_is_not_black() -> None:
    night = dark(1)
    night[10:20, 10:20] = 230
    assert not is_black(sample(night))


@pytest.mark.parametrize(
    "shape", [(1, 1, 3), (3, 5, 3), (120, 160, 3), (1080, 1920, 3), (2160, 3840, 3), (16, 4000, 3)]
)
def test_the_sample_is_sparse_whatever_the_size(shape: tuple[int, int, int]) -> None:
    sampled = sample(np.zeros(shape, np.uint8))
    assert 1 <= sampled.shape[0] * sampled.shape[1] <= 20_000
