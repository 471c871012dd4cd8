"""A device that answers nothing any more is given up whole, and a new detector works in the same process."""

from __future__ import annotations

import contextlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from agent.data import Frame
from agent.detection.add import Wishes, add_model
from agent.detection.detector import Detector
from agent.detection.model import ModelPackage
from agent.engines.cuda.engine import CudaEngine
from agent.engines.cuda.nvrtc import cubin
from agent.engines.cuda.onnx import open_onnx
from agent.engines.onnx import OnnxEngine
from agent.errors import DeviceLostError

WRECK = 'extern "C" __global__ void wreck(int *nowhere) { nowhere[1 << 28] = 1; }'


@pytest.fixture
def package(material: Path, tmp_path: Path) -> ModelPackage:
    path = material / "models" / "yolox_nano_416.onnx"
    return add_model(path, Wishes(name="yolox", labels="coco80"), tmp_path, OnnxEngine, replace=False).package


def detector_of(package: ModelPackage) -> tuple[Detector, CudaEngine]:
    engine = open_onnx(package.file_of(package.choose()), strict_fp32=True)
    return Detector(package, engine), engine


def wreck(engine: CudaEngine) -> None:
    """Write where nothing is: from then on the context fails."""
    device = engine.device
    module = device.driver.module_from_buffer(cubin(WRECK, device.capability, [], None))
    function = module.get_function("wreck")
    function.prepare(["P"])
    function.prepared_async_call((1, 1), (1, 1, 1), None, 16)
    with contextlib.suppress(device.driver.Error):
        device.driver.Context.synchronize()


def test_after_an_illegal_access_a_new_detector_finds_the_same(package: ModelPackage, material: Path) -> None:
    pixels = np.asarray(cv2.imread(str(material / "images" / "coco" / "val" / sorted_first(material))), np.uint8)
    frame = Frame("gate", 0, pixels, 0.0, 0.0)
    detector, engine = detector_of(package)
    wanted = detector.detect(frame)
    for _ in range(2):
        wreck(engine)
        with pytest.raises(DeviceLostError, match="the device is lost"):
            detector.detect(frame)
        detector.close()
        detector, engine = detector_of(package)
        found = detector.detect(frame)
        assert found.labels == wanted.labels
        assert np.allclose(found.boxes, wanted.boxes, atol=1e-3)
    detector.close()


def sorted_first(material: Path) -> str:
    return min(path.name for path in (material / "images" / "coco" / "val").glob("*.jpg"))
