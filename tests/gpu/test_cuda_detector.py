"""A whole detector on the device beside the one on the CPU: the same detections, whatever comes in which order."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from agent.data import Detections, Frame
from agent.detection.add import Wishes, add_model
from agent.detection.detector import Detector
from agent.detection.model import ModelPackage
from agent.engines.cuda.device import Device
from agent.engines.cuda.engine import CudaEngine
from agent.engines.cuda.onnx import OnnxNetwork
from agent.engines.onnx import OnnxEngine


def frame(pixels: NDArray[np.uint8], seq: int = 0) -> Frame:
    return Frame("gate", seq, pixels, 0.0, 0.0)


@pytest.fixture(scope="module", params=["yolox_nano_416", "nanodet_m_320"])
def package(request: pytest.FixtureRequest, material: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    wishes = Wishes(name=request.param, labels="coco80")
    path = material / "models" / f"{request.param}.onnx"
    return add_model(path, wishes, tmp_path_factory.mktemp("models"), OnnxEngine, replace=False).package


def on_device(
    package: ModelPackage, *, score: float = 0.4, strict: bool = True, slots: int = 2, graphs: bool = True
) -> Detector:
    device = Device()
    network = OnnxNetwork(device, package.file_of(package.choose()), strict_fp32=strict)
    return Detector(package, CudaEngine(device, network, slots=slots, graphs=graphs), score=score)


def pictures(material: Path, count: int = 24) -> list[NDArray[np.uint8]]:
    files = sorted((material / "images" / "coco" / "val").glob("*.jpg"))[:count]
    return [np.asarray(cv2.imread(str(file)), np.uint8) for file in files]


def assert_same(found: Detections, wanted: Detections) -> None:
    assert found.labels == wanted.labels
    assert np.allclose(found.scores, wanted.scores, atol=2e-3)
    assert np.allclose(found.boxes, wanted.boxes, atol=0.5)


@pytest.mark.parametrize("graphs", [True, False])
def test_the_detections_are_the_cpus(package: ModelPackage, material: Path, graphs: bool) -> None:
    on_cpu = Detector(package, OnnxEngine(package.file_of(package.choose())))
    detector = on_device(package, graphs=graphs)
    try:
        for seq, pixels in enumerate(pictures(material)):
            assert_same(detector.detect(frame(pixels, seq)), on_cpu.detect(frame(pixels, seq)))
    finally:
        detector.close()
        on_cpu.close()


def test_the_same_frame_is_the_same_detections_whatever_came_between(package: ModelPackage, material: Path) -> None:
    detector = on_device(package, score=0.1)
    try:
        some = pictures(material, 8)
        first = [detector.detect(frame(pixels)) for pixels in some]
        for _ in range(5):
            waiting = [detector.submit([frame(pixels)]) for pixels in some[:2]]
            again = [detector.collect(one)[0] for one in waiting]
            again += [detector.detect(frame(pixels)) for pixels in some[2:]]
            for found, wanted in zip(again, first, strict=True):
                assert np.array_equal(found.boxes, wanted.boxes)
                assert np.array_equal(found.scores, wanted.scores)
    finally:
        detector.close()


def test_more_candidates_than_come_back_are_decoded_from_the_raw_outputs(package: ModelPackage, material: Path) -> None:
    on_cpu = Detector(package, OnnxEngine(package.file_of(package.choose())), score=0.0001)
    detector = on_device(package, score=0.0001)
    try:
        (pixels,) = pictures(material, 1)
        found, wanted = detector.detect(frame(pixels)), on_cpu.detect(frame(pixels))
        assert len(found) == len(wanted) == 300
        assert np.allclose(found.scores, wanted.scores, atol=2e-3)
    finally:
        detector.close()
        on_cpu.close()


@pytest.mark.parametrize("graphs", [True, False])
def test_detectors_that_come_and_go_leave_nothing_on_the_device(
    package: ModelPackage, material: Path, graphs: bool
) -> None:
    (pixels,) = pictures(material, 1)
    on_device(package).close()
    left = []
    for _ in range(6):
        detector = on_device(package, graphs=graphs)
        detector.detect(frame(pixels))
        detector.close()
        device = Device()
        left.append(device.memory()[0])
        device.close()
    assert max(left[1:]) - min(left[1:]) < 8 << 20


def test_the_accuracy_is_the_cpus(package: ModelPackage, material: Path) -> None:
    from agent.precision.accuracy import Truth

    files = sorted((material / "images" / "coco" / "val").glob("*.jpg"))
    truth = Truth(material / "images" / "coco" / "instances_val.json", package.labels)
    figures = []
    for detector in (
        on_device(package, score=0.001, strict=False),
        Detector(package, OnnxEngine(package.file_of(package.choose())), score=0.001),
    ):
        found = {}
        for file in files:
            pixels = np.asarray(cv2.imread(str(file)), np.uint8)
            found[file.name] = detector.detect(frame(pixels))
        detector.close()
        figures.append(truth.score(found))
    print(package.name, "mAP50-95, mAP50 on the device, on the CPU:", *(one[:2] for one in figures))
    assert abs(figures[0].map50_95 - figures[1].map50_95) < 0.003
    assert abs(figures[0].map50 - figures[1].map50) < 0.003


def test_another_score_holds_from_the_next_frame_on(package: ModelPackage, material: Path) -> None:
    detector = on_device(package, score=0.6)
    try:
        (pixels,) = pictures(material, 1)
        few = len(detector.detect(frame(pixels)))
        detector.retune(score=0.2, iou=0.65, max_detections=300, nms="exact")
        assert len(detector.detect(frame(pixels))) > few
    finally:
        detector.close()


def test_a_graph_that_runs_on_the_cpu_in_part_is_let_go_without_harm(material: Path, tmp_path: Path) -> None:
    path = material / "models" / "yolo11n_int8_agpl.onnx"  # its ConvInteger nodes are unknown to the provider
    package = add_model(path, Wishes(name="parts", labels="coco80"), tmp_path, OnnxEngine, replace=False).package
    for _ in range(3):
        detector = on_device(package)
        try:
            assert all(len(detector.detect(frame(pixels))) for pixels in pictures(material, 2))
        finally:
            detector.close()
