"""Memory for pictures that comes again: never while anybody looks, and then without new pages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.sources.pixels import read_only
from agent.sources.pool import PixelPool
from agent.sources.video import VideoFile


@given(st.lists(st.tuples(st.sampled_from(["take", "drop", "slice"]), st.integers(0, 7)), max_size=60))
def test_no_picture_changes_while_anybody_has_it_or_a_part_of_it(steps: list[tuple[str, int]]) -> None:
    pool, held = PixelPool(kept=3), []
    for number, (step, which) in enumerate(steps):
        if step == "take":
            pixels = pool.take((4, 5, 3))
            pixels[:] = number % 256
            held.append((number % 256, pixels))
        elif held and step == "drop":
            del held[which % len(held)]
        elif held:
            value, pixels = held[which % len(held)]
            held[which % len(held)] = value, pixels[1:3, 1:]
        assert all((pixels == value).all() for value, pixels in held)


def test_what_was_dropped_is_used_again() -> None:
    pool = PixelPool()
    first = pool.take((8, 8, 3))
    place = first.ctypes.data
    part = first[2:4]
    del first
    assert pool.take((8, 8, 3)).ctypes.data != place, "a part of it is still looked at"
    del part
    assert place in {pool.take((8, 8, 3)).ctypes.data for _ in range(2)}


def test_another_size_gets_memory_of_its_own() -> None:
    pool = PixelPool()
    pool.take((8, 8, 3))
    assert pool.take((9, 8, 3)).shape == (9, 8, 3)


def test_a_clip_is_read_into_few_pieces_of_memory_and_is_the_same(material: Path) -> None:
    clip = VideoFile(material / "video" / "car-detection.mp4")
    clip.open()
    try:
        places, kept = set(), []
        for number in range(60):
            picture = clip.read()
            assert picture is not None
            if number % 20 == 0:
                kept.append((picture.pixels, picture.pixels.copy()))
            places.add(picture.pixels.ctypes.data)
            del picture
        assert len(places) <= 8
        assert all(np.array_equal(pixels, copy) for pixels, copy in kept)
    finally:
        clip.close()


def test_what_the_camera_offers_lies_in_that_memory_and_cannot_be_written_to() -> None:
    pixels = PixelPool().take((4, 4, 3))
    pixels[:] = 7
    shown = read_only(pixels)
    assert shown.ctypes.data == pixels.ctypes.data
    with pytest.raises(ValueError, match="WRITEABLE"):
        shown.flags.writeable = True
