"""Pictures of several cameras in one inference: where it is faster, measured with engines whose pace is made up."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from graphs import brightness_graph
from numpy.typing import NDArray

from agent.config import CameraConfig
from agent.data import Detections, Event, Frame
from agent.detection.batch_size import best_batch
from agent.detection.detector import Detector
from agent.detection.engine_set import EngineSet
from agent.detection.manifest import InputSpec, Variant
from agent.detection.model import ModelPackage
from agent.engines.onnx import OnnxEngine
from agent.pipeline import Lane, Pipeline
from agent.tracking.events import Events
from agent.tracking.tracker import Tracker

ROWS = np.array([[10, 10, 30, 30, 0.9, 0], [0, 20, 64, 40, 0.7, 1]], np.float32)
PACKAGE = ModelPackage(
    name="tiny",
    family="end2end",
    labels=("cup", "phone"),
    input=InputSpec(size=(64, 48), scale=(1.0, 1.0, 1.0), pad=0),
    variant=(Variant(precision="fp32", file="tiny.onnx", sha256="0" * 64),),
    folder=Path("nowhere"),
)


class Paced(OnnxEngine):
    """Takes ``seconds(pictures)`` for a batch by its ``clock``: as a device would, which no machine of a test does."""

    def __init__(self, path: Path, seconds: Callable[[int], float], slots: int = 1) -> None:
        super().__init__(path, threads=1, slots=slots)
        self.seconds = seconds
        self.batches: list[int] = []
        self._now = 0.0

    def clock(self) -> float:
        """Time goes by in this engine alone."""
        return self._now

    def submit(self, batch: NDArray[np.generic]) -> object:  # type: ignore[override]
        self.batches.append(len(batch))
        self._now += self.seconds(len(batch))
        return super().submit(batch)


MakeDetector = Callable[..., Detector]


def clock_of(detector: Detector) -> Callable[[], float]:
    assert isinstance(detector.engine, Paced)
    return detector.engine.clock


@pytest.fixture
def detector(tmp_path: Path) -> MakeDetector:
    def make(seconds: Callable[[int], float], batch: int | str = "batch", slots: int = 1) -> Detector:
        # The first row's score falls with the picture's brightness: pictures can be told apart.
        weight = np.zeros_like(ROWS)
        weight[0, 4] = -0.001
        path = brightness_graph(tmp_path / "tiny.onnx", ROWS, weight, batch=batch)
        return Detector(PACKAGE, Paced(path, seconds, slots), score=0.1)

    return make


def at_a_price(count: int) -> float:
    """One that pays for a submit, and little for a picture."""
    return 0.004 + 0.0005 * count


def at_its_limit(count: int) -> float:
    """One whose memory several pictures are too much for."""
    return 0.008 * math.pow(count, 1.4)


class Row:
    """A camera with pictures that wait, each ``brightness`` grey."""

    live = False
    failure = None

    def __init__(self, name: str, brightness: int, count: int) -> None:
        pixels: NDArray[np.uint8] = np.full((48, 64, 3), brightness, np.uint8)
        self.frames = deque(Frame(name, seq, pixels, 0.0, time.monotonic()) for seq in range(count))
        self.source = self

    @property
    def ended(self) -> bool:
        return not self.frames

    def take(self) -> Frame | None:
        return self.frames.popleft() if self.frames else None

    def media_time(self, frame: Frame) -> float:
        return frame.captured_mono + frame.seq / 10

    def spare(self, until: float) -> None:
        """Nothing to be spared."""


class Receiver:
    def __init__(self) -> None:
        self.found: dict[str, list[tuple[int, float]]] = {}

    def offer_events(self, events: Sequence[tuple[Event, Frame | None]]) -> None:
        """Not of interest."""

    def offer_detections(self, detections: Detections, frame: Frame) -> None:
        scores = dict(zip(detections.labels, detections.scores.tolist(), strict=True))
        assert detections.camera == frame.camera
        self.found.setdefault(detections.camera, []).append((detections.seq, scores["cup"]))


def lane(name: str, brightness: int, count: int) -> Lane:
    config = CameraConfig(name=name, source="x", realtime=False)
    return Lane(config, Row(name, brightness, count), Tracker(), Events(name, "node"))  # type: ignore[arg-type]


def test_batches_are_used_where_they_were_measured_to_be_faster_and_only_there(detector: MakeDetector) -> None:
    for seconds, batch in ((at_a_price, 4), (at_its_limit, 1)):
        engines = EngineSet({"fp32": (paced := detector(seconds))})
        engines.measure_batches(5, clock_of(paced))
        assert engines.batch == batch
        assert list(engines.used.batch_rates) == [1, 2, 4], "not more than there are cameras"
        assert not engines.measure_batches(3, clock_of(paced)), "known already"
        assert engines.measure_batches(9, clock_of(paced))
        assert list(engines.used.batch_rates) == [1, 2, 4, 8]
        engines.close()


def test_nothing_is_measured_of_a_graph_that_takes_one_picture_or_for_one_camera(detector: MakeDetector) -> None:
    for wanted, cameras in ((detector(at_a_price, batch=1), 4), (detector(at_a_price), 1)):
        engines = EngineSet({"fp32": wanted})
        engines.measure_batches(cameras)
        assert (engines.batch, engines.used.batch_rates) == (1, {})
        engines.close()
    assert best_batch(detector(at_a_price, batch=2)) == (2, {})


@pytest.mark.parametrize("slots", [1, 3])
def test_every_camera_gets_its_own_results_in_order_out_of_shared_batches(detector: MakeDetector, slots: int) -> None:
    chosen = detector(at_a_price, slots=slots)
    engines = EngineSet({"fp32": chosen})
    engines.measure_batches(4, clock_of(chosen))
    assert engines.batch == 4
    paced = chosen.engine
    assert isinstance(paced, Paced)
    paced.batches.clear()
    lanes = [lane("dark", 0, 9), lane("dim", 50, 5), lane("grey", 100, 9), lane("light", 150, 2)]
    receiver = Receiver()
    Pipeline(lanes, engines, receiver, score=0.1, wake=threading.Event()).run()
    assert {name: [seq for seq, _ in found] for name, found in receiver.found.items()} == {
        "dark": list(range(9)),
        "dim": list(range(5)),
        "grey": list(range(9)),
        "light": [0, 1],
    }
    for name, brightness in (("dark", 0), ("dim", 50), ("grey", 100), ("light", 150)):
        for _, score in receiver.found[name]:
            assert score == pytest.approx(0.9 - 0.001 * brightness, abs=1e-4)
    assert sum(paced.batches) == 25
    assert max(paced.batches) == 4
    assert len(paced.batches) == 9, "as many at once as cameras have one ready"
    engines.close()


def test_what_the_run_is_to_end_after_is_not_passed_by_a_batch(detector: MakeDetector) -> None:
    engines = EngineSet({"fp32": detector(at_a_price)})
    engines.used.batch = 4
    lanes = [lane(name, 0, 9) for name in "abcd"]
    loop = Pipeline(lanes, engines, Receiver(), score=0.1, wake=threading.Event(), max_frames=6)
    loop.run()
    assert loop.counts.inferred == 6
    engines.close()
