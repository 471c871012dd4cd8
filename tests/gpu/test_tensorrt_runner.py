"""TensorRT's runner on a real GPU, with ONNX Runtime playing TensorRT on the same addresses."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest

from agent.data import Frame
from agent.detection.add import Wishes, add_model
from agent.detection.detector import Detector
from agent.detection.model import ModelPackage
from agent.engines import flavour
from agent.engines.cuda.device import Device
from agent.engines.cuda.engine import CudaEngine
from agent.engines.onnx import OnnxEngine
from agent.errors import EngineError


@pytest.fixture
def tensorrt(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The stand-in as ``tensorrt``, and our runner loaded against it."""
    import tensorrt_stand_in

    monkeypatch.setitem(sys.modules, "tensorrt", tensorrt_stand_in)
    flavour._load.cache_clear()
    for name in ("agent.engines.tensorrt_log", "agent.engines.cuda.tensorrt"):
        sys.modules.pop(name, None)
    yield importlib.import_module("agent.engines.cuda.tensorrt")
    tensorrt_stand_in.IExecutionContext.fails = 0
    for name in ("agent.engines.tensorrt_log", "agent.engines.cuda.tensorrt"):
        sys.modules.pop(name, None)
    flavour._load.cache_clear()


@pytest.fixture
def package(material: Path, tmp_path: Path) -> ModelPackage:
    path = material / "models" / "yolox_nano_416.onnx"
    return add_model(path, Wishes(name="yolox", labels="coco80"), tmp_path, OnnxEngine, replace=False).package


def detector_on(tensorrt: Any, package: ModelPackage, **options: Any) -> Detector:
    device = Device()
    try:
        network = tensorrt.TensorRtNetwork(device, package.file_of(package.choose()).read_bytes())
    except BaseException:
        device.close()
        raise
    return Detector(package, CudaEngine(device, network, **options))


def frames(material: Path, count: int) -> list[Frame]:
    files = sorted((material / "images" / "coco" / "val").glob("*.jpg"))[:count]
    pictures = [np.asarray(cv2.imread(str(file)), np.uint8) for file in files]
    return [Frame("gate", seq, pixels, 0.0, 0.0) for seq, pixels in enumerate(pictures)]


@pytest.mark.parametrize("options", [{}, {"graphs": False}, {"slots": 3}, {"mapped": False}], ids=str)
def test_the_detections_are_the_cpus_also_with_frames_side_by_side(
    tensorrt: Any, package: ModelPackage, material: Path, options: dict[str, Any]
) -> None:
    on_cpu = Detector(package, OnnxEngine(package.file_of(package.choose())))
    detector = detector_on(tensorrt, package, **options)
    try:
        detector.warm_up()
        some = frames(material, 12)
        for start in range(0, len(some), detector.slots):
            under_way = [detector.submit([frame]) for frame in some[start : start + detector.slots]]
            for frame, pending in zip(some[start:], under_way, strict=False):
                (found,), wanted = detector.collect(pending), on_cpu.detect(frame)
                assert found.labels == wanted.labels
                assert np.allclose(found.boxes, wanted.boxes, atol=0.5)
    finally:
        detector.close()
        on_cpu.close()


def test_what_tensorrt_reports_is_the_error_and_the_next_frame_works(
    tensorrt: Any, package: ModelPackage, material: Path
) -> None:
    import tensorrt_stand_in

    detector = detector_on(tensorrt, package)
    try:
        (frame,) = frames(material, 1)
        tensorrt_stand_in.IExecutionContext.fails = 1
        with pytest.raises(EngineError, match="the engine failed while running: an illegal memory access was imagined"):
            detector.detect(frame)
        assert len(detector.detect(frame)) == len(detector.detect(frame)) > 0
    finally:
        detector.close()


def test_a_plan_that_is_none_is_refused_with_tensorrts_words(tensorrt: Any) -> None:
    device = Device()
    try:
        with pytest.raises(EngineError, match="the plan cannot be loaded: not a plan"):
            tensorrt.TensorRtNetwork(device, b"ftrt and nothing else")
    finally:
        device.close()


def test_the_layers_times_are_the_mean_of_the_runs_dearest_first(tensorrt: Any, package: ModelPackage) -> None:
    detector = detector_on(tensorrt, package)
    try:
        engine = detector.engine
        assert isinstance(engine, CudaEngine)
        assert [tuple(one) for one in engine.layers(runs=3) or ()] == [("head + sigmoid", "", 0.5), ("stem", "", 0.25)]
        assert engine.memory()["buffers"] > 0
    finally:
        detector.close()
