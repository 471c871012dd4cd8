"""Engines that fail while they work: loaded anew as they were, else as the package's own; a lost device takes all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from agent.data import Frame
from agent.detection.add import Wishes, add_model
from agent.detection.detector import Detector
from agent.detection.engine_set import EngineSet, Offer, load_within
from agent.detection.model import ModelPackage
from agent.engines.onnx import OnnxEngine
from agent.errors import DeviceLostError, EngineError


@pytest.fixture
def package(material: Path, tmp_path: Path) -> ModelPackage:
    path = material / "models" / "nanodet_m_320.onnx"
    return add_model(path, Wishes(name="nano", labels="coco80"), tmp_path, OnnxEngine, replace=False).package


class Failing(OnnxEngine):
    """Works until it is told to fail, and then never again."""

    fault: EngineError | None = None

    def submit(self, batch: np.ndarray) -> object:  # type: ignore[override]
        if self.fault is not None:
            raise self.fault
        return super().submit(batch)


class Workshop:
    """Makes detectors, and remembers the engines."""

    def __init__(self, package: ModelPackage) -> None:
        self.package = package
        self.engines: list[Failing] = []
        self.refuses = False

    def make(self) -> Detector:
        if self.refuses:
            raise EngineError("no memory")
        self.engines.append(Failing(self.package.file_of(self.package.choose()), threads=1))
        return Detector(self.package, self.engines[-1])


@pytest.fixture
def frame(material: Path) -> Frame:
    return Frame("gate", 0, np.asarray(cv2.imread(str(material / "images/samples/bus.jpg")), np.uint8), 0.0, 0.0)


def loaded(make: Callable[[], Detector]) -> EngineSet:
    return load_within(["fp32"], lambda _precision: make(), 1 << 40, lambda: 0)


def test_an_engine_that_failed_is_loaded_anew_with_the_thresholds_of_now(package: ModelPackage, frame: Frame) -> None:
    shop = Workshop(package)
    engines = loaded(shop.make)
    engines.retune(score=0.6, iou=0.5, max_detections=7, nms="exact")
    wanted = engines.detect(frame)
    shop.engines[0].fault = fault = EngineError("a cosmic ray")
    with pytest.raises(EngineError, match="cosmic ray"):
        engines.detect(frame)
    engines.revive(fault)
    found = engines.detect(frame)
    assert found.labels == wanted.labels
    assert np.array_equal(found.scores, wanted.scores)
    assert len(shop.engines) == 2
    engines.close()


def test_a_better_engine_that_cannot_be_loaded_anew_gives_way_to_the_packages_own(
    package: ModelPackage, frame: Frame
) -> None:
    own, better = Workshop(package), Workshop(package)
    engines = loaded(own.make)
    engines.offer(Offer("fp32", better.make, lambda detector: detector.backend))
    wanted = engines.detect(frame)
    assert len(better.engines) == 1
    engines.revive(EngineError("it stumbled"))
    assert len(better.engines) == 2, "as it was"
    better.refuses = True
    engines.revive(DeviceLostError("gone"))
    assert engines.detect(frame).labels == wanted.labels
    assert len(own.engines) == 2
    engines.close()


def test_where_nothing_can_be_loaded_the_error_names_all_that_was_tried(package: ModelPackage) -> None:
    shop = Workshop(package)
    engines = loaded(shop.make)
    shop.refuses = True
    with pytest.raises(EngineError, match="the bus is off; no memory"):
        engines.revive(DeviceLostError("the bus is off"))
    engines.close()
