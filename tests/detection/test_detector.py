from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from graphs import brightness_graph
from numpy.typing import NDArray

from agent.data import Detections, Frame
from agent.detection.detector import Detector
from agent.detection.manifest import InputSpec, Variant
from agent.detection.model import ModelPackage
from agent.engines.onnx import OnnxEngine
from agent.errors import EngineError, ModelError

ROWS = np.array(
    [
        [10, 10, 30, 30, 0.9, 0],
        [11, 10, 30, 30, 0.8, 0],  # the first once more: only NMS, which this family does without, would take it
        [20, 20, 60, 40, 0.5, 1],
        [0, 0, 64, 5, 0.6, 1],  # in the padding of a wide picture
        [-50, 20, 900, 40, 0.7, 2],  # reaches out of the picture, class without a label
        [0, 0, 1, 1, 0.1, 0],
    ],
    np.float32,
)


def package(family: str = "end2end", labels: tuple[str, ...] = ("cup", "phone")) -> ModelPackage:
    return ModelPackage(
        name="tiny",
        family=family,
        labels=labels,
        input=InputSpec(size=(64, 48), scale=(1.0, 1.0, 1.0), pad=0),
        variant=(Variant(precision="fp32", file="tiny.onnx", sha256="0" * 64),),
        folder=Path("nowhere"),
    )


def frame(value: int = 0, width: int = 640, height: int = 320, seq: int = 0) -> Frame:
    pixels: NDArray[np.uint8] = np.full((height, width, 3), value, np.uint8)
    return Frame("door", seq, pixels, 1000.0, time.monotonic())


MakeEngine = Callable[..., OnnxEngine]


@pytest.fixture
def engine(tmp_path: Path) -> MakeEngine:
    def make(rows: NDArray[np.float32] = ROWS, *, batch: int | str = 1, slots: int = 1) -> OnnxEngine:
        # The first row's score falls with the picture's brightness, so that pictures can be told apart: by .001 a
        # grey level of a picture that covers two thirds of the input.
        weight = np.zeros_like(rows)
        weight[0, 4] = -0.0015
        return OnnxEngine(brightness_graph(tmp_path / "tiny.onnx", rows, weight, batch=batch), slots=slots)

    return make


def test_detections_are_sorted_and_in_pixels_of_the_source_picture(engine: MakeEngine) -> None:
    found = Detector(package(), engine(), score=0.4).detect(frame(seq=7))
    # 640x320 in 64x48 is 64x32 with 8 rows above: a tenth of the size.
    np.testing.assert_allclose(
        found.boxes, [[100, 20, 300, 220], [110, 20, 300, 220], [0, 120, 640, 320], [200, 120, 600, 320]], rtol=1e-5
    )
    np.testing.assert_allclose(found.scores, [0.9, 0.8, 0.7, 0.5], rtol=1e-6)
    assert found.labels == ("cup", "cup", "class 2", "phone")
    assert (found.camera, found.seq, found.captured_at, found.size) == ("door", 7, 1000.0, (640, 320))
    assert found.precision == "fp32"
    assert found.latency_ms > 0
    assert [a.dtype.name for a in (found.boxes, found.scores, found.class_ids)] == ["float32", "float32", "int32"]


def test_nothing_found_is_an_empty_answer(engine: MakeEngine) -> None:
    found = Detector(package(), engine(), score=0.95).detect(frame())
    assert len(found) == 0
    assert found.boxes.shape == (0, 4)


def test_the_surest_detections_are_kept_when_there_are_too_many(engine: MakeEngine) -> None:
    found = Detector(package(), engine(), max_detections=2).detect(frame())
    np.testing.assert_allclose(found.scores, [0.9, 0.8], rtol=1e-6)


def test_numbers_that_are_none_are_no_detections(engine: MakeEngine) -> None:
    rows = ROWS.copy()
    rows[0, :4], rows[1, 4] = np.nan, np.nan
    found = Detector(package(), engine(rows), score=0.4).detect(frame())
    np.testing.assert_allclose(found.scores, [0.7, 0.5], rtol=1e-6)


def scores(found: list[Detections]) -> list[float]:
    return [round(float(detections.scores.max()), 3) for detections in found]


def test_a_batch_gives_each_picture_its_own_answer(engine: MakeEngine) -> None:
    detector = Detector(package(), engine(batch="n"))
    found = detector.collect(detector.submit([frame(0), frame(50), frame(100, width=100, height=300)]))
    together = detector.collect(detector.submit([frame(0)]))
    assert scores(found)[:2] == [0.9, 0.85]
    assert [detections.size for detections in found] == [(640, 320), (640, 320), (100, 300)]
    assert scores(together) == [0.9]


def test_a_graph_of_fixed_batch_takes_fewer_pictures_too(engine: MakeEngine) -> None:
    detector = Detector(package(), engine(batch=2))
    assert scores(detector.collect(detector.submit([frame(20)]))) == [0.88]
    assert scores(detector.collect(detector.submit([frame(10), frame(20)]))) == [0.89, 0.88]
    with pytest.raises(EngineError, match="takes 1 to 2 frames at once, not 3"):
        detector.submit([frame(), frame(), frame()])
    with pytest.raises(EngineError):
        detector.submit([])


def test_slots_in_flight_do_not_share_a_buffer_and_are_collected_in_order(engine: MakeEngine) -> None:
    detector = Detector(package(), engine(slots=3))
    assert detector.slots == 3
    for _ in range(3):
        pending = [detector.submit([frame(value)]) for value in (0, 30, 60)]
        with pytest.raises(EngineError, match="all 3 slots are taken"):
            detector.submit([frame()])
        with pytest.raises(EngineError, match="in the order of submit"):
            detector.collect(pending[1])
        assert [scores(detector.collect(one)) for one in pending] == [[0.9], [0.87], [0.84]]
    detector.close()
    detector.close()


def test_warming_up_refuses_outputs_of_another_family(engine: MakeEngine) -> None:
    with pytest.raises(ModelError, match=r"tiny: outputs output \[1, 6, 6\] are not those of family yolox"):
        Detector(package("yolox"), engine()).warm_up()


def test_warming_up_refuses_a_wrong_number_of_labels(engine: MakeEngine) -> None:
    rows = np.zeros((48 + 12 + 2, 5 + 3), np.float32)
    with pytest.raises(ModelError, match=r"3 classes apart, model\.toml names 2"):
        Detector(package("yolox"), engine(rows)).warm_up()
    Detector(package("yolox", ("a", "b", "c")), engine(rows)).warm_up()


def test_an_input_of_another_size_than_the_package_says_is_refused(tmp_path: Path) -> None:
    other = OnnxEngine(brightness_graph(tmp_path / "other.onnx", ROWS, size=(32, 32)))
    with pytest.raises(ModelError, match=r"\[1, 3, 32, 32\] float32, model\.toml says \[N, 3, 48, 64\]"):
        Detector(package(), other)


def test_an_unknown_family_is_refused(engine: MakeEngine) -> None:
    with pytest.raises(ModelError, match="family 'yolo9000' is not known"):
        Detector(package("yolo9000"), engine())


def test_the_engine_alone_can_be_run_for_a_benchmark(engine: MakeEngine) -> None:
    detector = Detector(package(), engine(batch="n"))
    assert detector.engine_alone(frame())["output"].shape == (1, 6, 6)
    assert detector.backend.startswith("onnxruntime")
