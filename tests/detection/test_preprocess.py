from __future__ import annotations

import platform
from typing import Literal

import cv2
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from agent.detection.manifest import InputSpec, Resize
from agent.detection.preprocess import Preprocessor, Transform, plan

RESIZES: tuple[Resize, ...] = ("letterbox", "letterbox-topleft", "stretch", "crop")
PLAIN = (1.0, 1.0, 1.0)
AVX2 = 11  # by OpenCV's list of what processors can do
FUSED = cv2.checkHardwareSupport(AVX2) or platform.machine() in ("aarch64", "arm64")

sides = st.integers(1, 700)
sizes = st.tuples(sides, sides)


def spec(
    size: tuple[int, int] = (64, 48),
    resize: Resize = "letterbox",
    colour: Literal["rgb", "bgr"] = "bgr",
    scale: tuple[float, float, float] = PLAIN,
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0),
    pad: int = 114,
) -> InputSpec:
    return InputSpec(size=size, resize=resize, colour=colour, scale=scale, mean=mean, pad=pad)


def picture(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    pixels.flags.writeable = False
    return pixels


def filled(preprocessor: Preprocessor, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], Transform]:
    transform = preprocessor.fill(0, pixels)
    return preprocessor.buffer[0].astype(np.float32), transform


def into_network(transform: Transform, points: NDArray[np.float32]) -> NDArray[np.float32]:
    """The way forward, one coordinate after the other."""
    (sx, sy, sw, sh), (tx, ty, tw, th) = transform.source, transform.target
    result: NDArray[np.float32] = np.stack(
        [(points[:, 0] - sx) * tw / sw + tx, (points[:, 1] - sy) * th / sh + ty], axis=1
    ).astype(np.float32)
    return result


@pytest.mark.parametrize("resize", RESIZES)
@given(size=sizes, network=sizes, seed=st.integers(0, 2**32 - 1))
def test_undo_brings_every_point_back_to_within_a_pixel(
    resize: Resize, size: tuple[int, int], network: tuple[int, int], seed: int
) -> None:
    transform = plan(spec(network, resize), size)
    x, y, width, height = transform.source
    rng = np.random.default_rng(seed)
    points = (rng.uniform(0, 1, (8, 2)) * (width, height) + (x, y)).astype(np.float32)
    boxes = into_network(transform, points).reshape(4, 4)
    back, landmarks = transform.undo(boxes, boxes.reshape(2, 4, 2))
    np.testing.assert_allclose(back.reshape(8, 2), points, atol=0.5)
    assert landmarks is not None
    np.testing.assert_array_equal(landmarks.reshape(4, 4), back)


@pytest.mark.parametrize("resize", RESIZES)
@given(size=sizes, network=sizes)
def test_what_is_read_lies_in_the_picture_and_what_is_written_in_the_input(
    resize: Resize, size: tuple[int, int], network: tuple[int, int]
) -> None:
    transform = plan(spec(network, resize), size)
    for (x, y, width, height), (whole_width, whole_height) in (
        (transform.source, size),
        (transform.target, network),
    ):
        assert x >= 0
        assert y >= 0
        assert width >= 1
        assert height >= 1
        assert x + width <= whole_width
        assert y + height <= whole_height


@pytest.mark.parametrize("resize", RESIZES)
@given(size=sizes, seed=st.integers(0, 2**32 - 1))
def test_boxes_lie_in_the_picture_after_undo(resize: Resize, size: tuple[int, int], seed: int) -> None:
    boxes = np.random.default_rng(seed).normal(0, 1000, (6, 4)).astype(np.float32)
    boxes[0] = (-np.inf, -np.inf, np.inf, np.inf)
    back, landmarks = plan(spec(resize=resize), size).undo(boxes)
    assert landmarks is None
    assert back.dtype == np.float32
    assert (back >= 0).all()
    assert (back[:, 0::2] <= size[0]).all()
    assert (back[:, 1::2] <= size[1]).all()


@pytest.mark.parametrize(
    ("resize", "source", "target"),
    [
        ("letterbox", (0, 0, 200, 100), (0, 8, 64, 32)),
        ("letterbox-topleft", (0, 0, 200, 100), (0, 0, 64, 32)),
        ("stretch", (0, 0, 200, 100), (0, 0, 64, 48)),
        ("crop", (33, 0, 133, 100), (0, 0, 64, 48)),
    ],
)
def test_each_way_to_resize_does_what_its_name_says(
    resize: Resize, source: tuple[int, ...], target: tuple[int, ...]
) -> None:
    assert plan(spec(resize=resize), (200, 100)) == Transform(source, target, (200, 100))  # type: ignore[arg-type]


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("colour", ["rgb", "bgr"])
def test_the_input_is_the_resized_picture_with_pad_around_it_in_the_networks_channel_order(
    resize: Resize, colour: Literal["rgb", "bgr"]
) -> None:
    mean, scale = (103.5, 116.3, 123.7), (0.02, 0.017, 0.5)
    one = spec(resize=resize, colour=colour, mean=mean, scale=scale, pad=7)
    pixels = picture(200, 100)
    got, transform = filled(Preprocessor(one), pixels)
    x, y, width, height = transform.source
    tx, ty, tw, th = transform.target
    canvas = np.full((48, 64, 3), 7, np.float64)
    canvas[ty : ty + th, tx : tx + tw] = cv2.resize(pixels[y : y + height, x : x + width], (tw, th))
    canvas = canvas[:, :, ::-1] if colour == "rgb" else canvas
    wanted = ((canvas - mean) * scale).transpose(2, 0, 1)
    np.testing.assert_allclose(got, wanted, atol=1e-4)


@given(
    mean=st.just(0.0) | st.floats(0.1, 255),
    scale=st.floats(0.003, 3) | st.floats(-3, -0.003),
    width=st.integers(1, 70),
    seed=st.integers(0, 99),
)
def test_a_scaled_level_is_rounded_once_whatever_else_the_picture_holds_as_a_device_does_it(
    mean: float, scale: float, width: int, seed: int
) -> None:
    # In float64 the product and the sum are exact: what is left is the one rounding of a fused multiply-add.
    one = spec((width, 9), "stretch", mean=(mean,) * 3, scale=(scale,) * 3)
    darkest, lightest = np.sort(np.random.default_rng(seed).integers(0, 256, 2))
    pixels = picture(width, 9, seed) % (lightest - darkest + 1) + darkest
    levels = np.float64(np.float32(scale)) * pixels - np.float64(np.float32(mean * scale))
    for layout in ("nchw", "nhwc"):
        preprocessor = Preprocessor(msgspec.structs.replace(one, layout=layout))
        preprocessor.fill(0, pixels.astype(np.uint8))
        got = preprocessor.buffer[0] if layout == "nhwc" else preprocessor.buffer[0].transpose(1, 2, 0)
        np.testing.assert_allclose(got, levels.astype(np.float32), rtol=0, atol=0 if FUSED else 1e-4)


def test_a_change_of_picture_size_leaves_nothing_of_the_old_picture() -> None:
    reused, fresh = Preprocessor(spec()), Preprocessor(spec())
    for width, height in ((200, 100), (100, 200), (200, 100)):
        reused.fill(0, picture(50, 50, seed=9))
        got, _ = filled(reused, picture(width, height))
        wanted, _ = filled(fresh, picture(width, height))
        np.testing.assert_array_equal(got, wanted)


def test_the_places_of_a_batch_do_not_touch_each_other() -> None:
    together = Preprocessor(spec(), batch=3)
    pictures = [picture(200, 100, 1), picture(100, 200, 2), picture(64, 48, 3)]
    for index, pixels in enumerate(pictures):
        together.fill(index, pixels)
    for index, pixels in enumerate(pictures):
        alone, _ = filled(Preprocessor(spec()), pixels)
        np.testing.assert_array_equal(together.buffer[index].astype(np.float32), alone)


@pytest.mark.parametrize("dtype", ["float16", "uint8"])
def test_other_input_types_hold_the_same_values(dtype: str) -> None:
    other, _ = filled(Preprocessor(spec(), dtype=dtype), picture(200, 100))
    wanted, _ = filled(Preprocessor(spec()), picture(200, 100))
    np.testing.assert_allclose(other, wanted, rtol=1e-3)


def test_the_buffer_stays_where_it_is() -> None:
    preprocessor = Preprocessor(spec(scale=(1 / 255, 1 / 255, 1 / 255)))
    before = preprocessor.buffer.ctypes.data
    for width in (200, 100, 200):
        preprocessor.fill(0, picture(width, 100))
    assert preprocessor.buffer.ctypes.data == before
