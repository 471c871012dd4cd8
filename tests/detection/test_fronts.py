"""What decoders tell a device of their outputs means what they themselves read in them; shown by a device in numpy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from agent.data import Detections, Frame
from agent.detection.add import Wishes, add_model
from agent.detection.decoders.registry import BUILT_IN
from agent.detection.detector import Detector
from agent.detection.fronts import heads_of
from agent.detection.manifest import InputSpec
from agent.detection.model import ModelPackage
from agent.detection.preprocess import Preprocessor
from agent.engines.base import FrameEngine, FrameOutputs, Head, PixelFormat, Placement
from agent.engines.onnx import OnnxEngine
from agent.errors import EngineError


def candidates(
    outputs: Mapping[str, NDArray[Any]], heads: Sequence[Head], min_score: float
) -> tuple[NDArray[np.float32], ...]:
    """The kernel, in numpy."""
    batch = len(next(iter(outputs.values())))
    return tuple(
        np.concatenate([rows_of(outputs, head, picture, min_score) for head in heads]) for picture in range(batch)
    )


def rows_of(outputs: Mapping[str, NDArray[Any]], head: Head, picture: int, min_score: float) -> NDArray[np.float32]:
    scores, boxes = (outputs[name][picture] for name in (head.scores, head.boxes))
    scores, boxes = (scores.T, boxes.T) if head.cells_last else (scores, boxes)
    classes = scores[:, head.class_at : head.class_at + head.classes]
    score = classes.max(1) * (1 if head.objectness is None else scores[:, head.objectness])
    keep = np.flatnonzero(score >= np.float32(min_score))
    at, box = head.cells[keep], boxes[keep, head.box_at :]
    if head.form == "sides":
        bins = box[:, :32].reshape(-1, 4, 8)
        weights = np.exp(bins - bins.max(2, keepdims=True))
        side = (weights * np.arange(8)).sum(2) / weights.sum(2) * at[:, 2:]
        corners = np.concatenate((at[:, :2] - side[:, :2], at[:, :2] + side[:, 2:]), 1)
    else:
        centre, size = box[:, :2], box[:, 2:4]
        if head.form == "cell":
            centre, size = (centre + at[:, :2]) * at[:, 2:], np.exp(size) * at[:, 2:]
        corners = np.concatenate((centre - size / 2, centre + size / 2), 1)
    labels = classes[keep].argmax(1)[:, None]
    return np.concatenate((corners, score[keep, None], labels), 1).astype(np.float32)


class Device:
    """A device played by ONNX Runtime and numpy. ``capacity``: candidates of a picture that come back."""

    def __init__(self, engine: OnnxEngine, spec: InputSpec, capacity: int = 512) -> None:
        self._engine, self._spec, self._capacity = engine, spec, capacity
        self.backend, self.input, self.outputs = engine.backend, engine.input, engine.outputs
        self.slots, self.max_batch = engine.slots, engine.max_batch
        self.heads: tuple[Head, ...] = ()
        self.raw = 0

    def output_shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {spec.name: tuple(side or 1 for side in spec.shape) for spec in self.outputs}

    def take_frames(self, layout: PixelFormat, heads: Sequence[Head], min_score: float) -> None:
        assert layout.size == self._spec.size
        self.heads, self._min_score = tuple(heads), min_score

    def set_min_score(self, min_score: float) -> None:
        self._min_score = min_score

    def submit_frames(self, pixels: Sequence[NDArray[np.uint8]], placements: Sequence[Placement]) -> Any:
        preprocessor = Preprocessor(self._spec, batch=len(pixels))
        for place, (picture, placement) in enumerate(zip(pixels, placements, strict=True)):
            transform = preprocessor.fill(place, picture)
            assert (transform.source, transform.target) == placement
        return self._engine.submit(preprocessor.buffer)

    def collect_frames(self, ticket: Any) -> FrameOutputs:
        raw = self._engine.collect(ticket)
        found = candidates(raw, self.heads, self._min_score) if self.heads else None
        if found is None or max(map(len, found)) > self._capacity:
            self.raw += 1
            return FrameOutputs(raw, None)
        return FrameOutputs({}, found)

    def submit(self, batch: NDArray[np.generic]) -> Any:
        return self._engine.submit(batch)

    def collect(self, ticket: Any) -> Any:
        return self._engine.collect(ticket)

    def close(self) -> None:
        self._engine.close()


def frame(pixels: Any, seq: int = 0) -> Frame:
    return Frame("gate", seq, np.asarray(pixels, np.uint8), 0.0, 0.0)


def assert_same(found: Detections, wanted: Detections) -> None:
    assert found.labels == wanted.labels
    assert np.allclose(found.scores, wanted.scores, atol=1e-6)
    assert np.allclose(found.boxes, wanted.boxes, atol=1e-2)


@pytest.fixture(params=["yolox_nano_416", "nanodet_m_320"])
def package(request: pytest.FixtureRequest, material: Path, tmp_path: Path) -> ModelPackage:
    path = material / "models" / f"{request.param}.onnx"
    return add_model(path, Wishes(name="m", labels="coco80"), tmp_path, OnnxEngine, replace=False).package


@pytest.mark.parametrize("capacity", [512, 0])
def test_a_detector_on_a_device_finds_what_the_one_on_the_host_finds(
    package: ModelPackage, material: Path, capacity: int
) -> None:
    file = package.file_of(package.choose())
    device = Device(OnnxEngine(file, threads=1), package.input, capacity)
    assert isinstance(device, FrameEngine)
    on_device, on_host = Detector(package, device), Detector(package, OnnxEngine(file, threads=1))
    assert device.heads
    for picture in ("dog.jpg", "bus.jpg", "person.jpg"):
        pixels = cv2.imread(str(material / "images" / "samples" / picture))
        assert_same(on_device.detect(frame(pixels)), on_host.detect(frame(pixels)))
    assert device.raw == (0 if capacity else 3), "too many candidates: decoded from the raw outputs"
    on_device.close()
    on_host.close()


SHAPES = {
    "yolox": {"out": (2, 84, 7)},
    "yolov5": {"out": (2, 252, 8)},
    "yolov8": {"out": (2, 6, 84)},
    "nanodet": {
        "c8": (2, 64, 3), "c16": (2, 16, 3), "c32": (2, 4, 3),
        "d8": (2, 64, 32), "d16": (2, 16, 32), "d32": (2, 4, 32),
    },
}  # fmt: skip


@pytest.mark.parametrize("family", SHAPES)
@pytest.mark.parametrize("seed", range(5))
def test_the_heads_of_a_family_are_its_decoder(family: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    outputs = {name: rng.random(shape, np.float32) for name, shape in SHAPES[family].items()}
    decoder = BUILT_IN[family]((64, 64), 2)
    heads = heads_of(decoder, {name: (1, *shape[1:]) for name, shape in SHAPES[family].items()})
    found = candidates(outputs, heads, 0.4)
    for rows, wanted in zip(found, decoder.decode(outputs, 0.4), strict=True):
        assert len(wanted.scores) > 0
        assert np.array_equal(rows[:, 4], wanted.scores)
        assert np.array_equal(rows[:, 5].astype(int), wanted.class_ids)
        assert np.allclose(rows[:, :4], wanted.boxes, atol=1e-4)


def test_families_that_have_not_learned_it_are_decoded_from_the_raw_outputs() -> None:
    assert heads_of(BUILT_IN["end2end"]((64, 64), 2), {"out": (1, 300, 6)}) == ()


def test_more_frames_than_slots_are_refused_by_name(package: ModelPackage) -> None:
    device = Device(OnnxEngine(package.file_of(package.choose()), threads=1), package.input)
    detector = Detector(package, device)
    pending = detector.submit([frame(np.zeros((40, 40, 3)))])
    with pytest.raises(EngineError, match="m: all 1 slots are taken, collect one first"):
        detector.submit([frame(np.zeros((40, 40, 3)))])
    detector.collect(pending)
    detector.close()


@pytest.mark.parametrize("on_device", [True, False])
def test_another_score_holds_from_the_next_frame_on(package: ModelPackage, material: Path, on_device: bool) -> None:
    engine = OnnxEngine(package.file_of(package.choose()), threads=1)
    detector = Detector(package, Device(engine, package.input) if on_device else engine, score=0.6)
    seen = frame(cv2.imread(str(material / "images" / "samples" / "bus.jpg")))
    few = len(detector.detect(seen))
    detector.retune(score=0.2, iou=0.65, max_detections=300, nms="exact")
    more = detector.detect(seen)
    assert len(more) > few
    assert more.scores.min() < 0.6
    detector.close()
