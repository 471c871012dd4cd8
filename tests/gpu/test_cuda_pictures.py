"""Camera bytes to the network's input, and raw outputs to candidates, on a real device: the CPU's results."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from agent.detection.manifest import InputSpec
from agent.detection.preprocess import Preprocessor, plan
from agent.engines.base import PixelFormat, Placement, TensorSpec
from agent.engines.cuda.device import Device
from agent.engines.cuda.engine import CudaEngine
from agent.errors import EngineError

SIZES = [(1920, 1080), (768, 432), (640, 360), (37, 53), (426, 240), (1, 1), (3840, 2160)]


class Silence:
    """A network that does nothing: what lies in the input stays to be looked at."""

    backend = "silence"
    max_batch: int | None = None
    concurrent = True
    capturable = True

    def __init__(self, shape: tuple[int | None, ...], dtype: str) -> None:
        self.input = TensorSpec("in", shape, dtype)
        self.outputs: tuple[TensorSpec, ...] = (TensorSpec("out", (None, 1), "float32"),)

    def shapes(self, batch: int) -> Mapping[str, tuple[int, ...]]:
        return {"out": (batch, 1)}

    def bind(self, batch: int, source: int, targets: Mapping[str, int]) -> Silence:
        return self

    def enqueue(self, stream: int) -> None:
        pass

    def close(self) -> None:
        pass


def engine_for(spec: InputSpec, dtype: str, *, mapped: bool, graphs: bool = True) -> CudaEngine:
    width, height = spec.size
    shape = (None, height, width, 3) if spec.layout == "nhwc" else (None, 3, height, width)
    engine = CudaEngine(Device(), Silence(shape, dtype), mapped=mapped, graphs=graphs)
    layout = PixelFormat(spec.size, spec.colour == "rgb", spec.mean, spec.scale, spec.pad, spec.layout == "nhwc")
    engine.take_frames(layout, (), 0.5)
    return engine


def on_device(engine: CudaEngine, spec: InputSpec, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.generic]:
    plans = [plan(spec, (picture.shape[1], picture.shape[0])) for picture in pictures]
    placements = [Placement(one.source, one.target) for one in plans]
    return engine.run_preprocess(pictures, placements).read_input()[: len(pictures)]


def on_host(spec: InputSpec, dtype: str, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.generic]:
    preprocessor = Preprocessor(spec, batch=len(pictures), dtype=dtype)
    for place, picture in enumerate(pictures):
        preprocessor.fill(place, picture)
    return preprocessor.buffer


MEAN, SCALE = (123.675, 116.28, 103.53), (1 / 58.395, 1 / 57.12, 1 / 57.375)


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("resize", ["letterbox", "letterbox-topleft", "stretch", "crop"])
def test_the_input_is_the_cpus_bit_for_bit(resize: str, dtype: str, mapped: bool) -> None:
    rng = np.random.default_rng(7)
    spec = InputSpec(size=(416, 320), resize=resize, mean=MEAN, scale=SCALE)  # type: ignore[arg-type]
    engine = engine_for(spec, dtype, mapped=mapped)
    try:
        for width, height in [*SIZES, *SIZES[:3]]:  # sizes come again: graphs and buffers are used again
            picture = rng.integers(0, 256, (height, width, 3), np.uint8)
            found, wanted = on_device(engine, spec, [picture]), on_host(spec, dtype, [picture])
            assert np.array_equal(found, wanted), (width, height)
    finally:
        engine.close()


def test_colour_layout_and_scale_are_the_cpus() -> None:
    rng = np.random.default_rng(8)
    picture = rng.integers(0, 256, (431, 770, 3), np.uint8)
    for colour, layout, scale, dtype in itertools.product(
        ("rgb", "bgr"), ("nchw", "nhwc"), (1.0, 1 / 255), ("float32", "float16", "uint8")
    ):
        spec = InputSpec(size=(224, 192), colour=colour, layout=layout, scale=(scale, scale, scale))  # type: ignore[arg-type]
        engine = engine_for(spec, dtype, mapped=False)
        try:
            assert np.array_equal(on_device(engine, spec, [picture]), on_host(spec, dtype, [picture]))
        finally:
            engine.close()


@pytest.mark.parametrize("graphs", [True, False])
def test_a_batch_of_pictures_of_several_sizes_is_one_input(graphs: bool) -> None:
    rng = np.random.default_rng(9)
    spec = InputSpec(size=(320, 320))
    engine = engine_for(spec, "float32", mapped=False, graphs=graphs)
    try:
        for sizes in ([(640, 480), (100, 300), (1920, 1080)], [(100, 300)], [(1920, 1080), (640, 480)]):
            pictures = [rng.integers(0, 256, (height, width, 3), np.uint8) for width, height in sizes]
            assert np.array_equal(on_device(engine, spec, pictures), on_host(spec, "float32", pictures))
    finally:
        engine.close()


def test_kernels_come_from_the_cache_and_a_damaged_one_is_made_anew(tmp_path: Path) -> None:
    from agent.engines.cuda.kernels import Kernels

    device = Device()
    try:
        Kernels(device, "float32", tmp_path)
        (kept,) = tmp_path.iterdir()
        code = kept.read_bytes()
        kept.write_bytes(code[:-1] + bytes([code[-1] ^ 1]))
        Kernels(device, "float32", tmp_path)
        assert kept.read_bytes() == code
    finally:
        device.close()


def test_memory_that_is_not_there_is_one_line_and_what_was_taken_is_given_back() -> None:
    device = Device()
    try:
        free, total = device.memory()
        with pytest.raises(EngineError, match=r"cuda: out of memory, could not allocate .* bytes for a whale"):
            device.allocate(2 * total, "a whale")
        assert device.allocated == 0
        assert device.memory()[0] >= free - (64 << 20)
    finally:
        device.close()
