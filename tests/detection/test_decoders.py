"""Each family against a plain loop over its cells, written from the family's description alone."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from agent.detection.decoders.base import Candidates, Decoder
from agent.detection.decoders.end_to_end import EndToEnd
from agent.detection.decoders.registry import BUILT_IN, EXPECTED, Match, decoder_class, recognise
from agent.detection.decoders.yolov8 import Yolov8
from agent.detection.decoders.yolox import Yolox
from agent.errors import ModelError

SIZE = (96, 64)
CELLS = 12 * 8 + 6 * 4 + 3 * 2


class Found(NamedTuple):
    box: tuple[float, ...]
    score: float
    class_id: int


def likeliest(values: NDArray[Any]) -> int:
    return max(range(len(values)), key=lambda index: (values[index], -index))


def plain_yolox(output: NDArray[Any], min_score: float) -> list[Found]:
    found, index = [], 0
    for stride in (8, 16, 32):
        for row in range(SIZE[1] // stride):
            for column in range(SIZE[0] // stride):
                x, y, w, h, objectness, *classes = (float(value) for value in output[index])
                index += 1
                class_id = likeliest(np.array(classes))
                score = objectness * classes[class_id]
                cx, cy = (x + column) * stride, (y + row) * stride
                half_w, half_h = math.exp(w) * stride / 2, math.exp(h) * stride / 2
                if score >= min_score:
                    found.append(Found((cx - half_w, cy - half_h, cx + half_w, cy + half_h), score, class_id))
    return found


def plain_yolov8(output: NDArray[Any], min_score: float) -> list[Found]:
    found = []
    for index in range(output.shape[1]):
        cx, cy, w, h = (float(value) for value in output[:4, index])
        class_id = likeliest(output[4:, index])
        score = float(output[4 + class_id, index])
        if score >= min_score:
            found.append(Found((cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2), score, class_id))
    return found


def plain_end_to_end(output: NDArray[Any], min_score: float) -> list[Found]:
    return [
        Found(tuple(float(value) for value in row[:4]), float(row[4]), int(row[5]))
        for row in output
        if row[4] >= min_score and row[5] >= 0
    ]


def random_yolox(rng: np.random.Generator, classes: int) -> NDArray[np.float32]:
    boxes = rng.normal(0, 1, (CELLS, 4))
    return np.concatenate([boxes, rng.uniform(0, 1, (CELLS, 1 + classes))], axis=1).astype(np.float32)


def random_yolov8(rng: np.random.Generator, classes: int) -> NDArray[np.float32]:
    boxes = rng.uniform(0, 96, (4, CELLS))
    return np.concatenate([boxes, rng.uniform(0, 1, (classes, CELLS))]).astype(np.float32)


def random_end_to_end(rng: np.random.Generator, classes: int) -> NDArray[np.float32]:
    boxes, scores = rng.uniform(0, 96, (20, 4)), rng.uniform(0, 1, (20, 1))
    return np.concatenate([boxes, scores, rng.integers(-1, classes, (20, 1))], axis=1).astype(np.float32)


FAMILIES = [
    pytest.param(Yolox, random_yolox, plain_yolox, id="yolox"),
    pytest.param(Yolov8, random_yolov8, plain_yolov8, id="yolov8"),
    pytest.param(EndToEnd, random_end_to_end, plain_end_to_end, id="end2end"),
]


def as_found(candidates: Candidates) -> list[Found]:
    rows = zip(candidates.boxes.tolist(), candidates.scores.tolist(), candidates.class_ids.tolist(), strict=True)
    return [Found(tuple(box), score, class_id) for box, score, class_id in rows]


@pytest.mark.parametrize(("family", "draw", "plain"), FAMILIES)
@given(seed=st.integers(0, 2**32 - 1), classes=st.integers(1, 5), min_score=st.sampled_from([0.0, 0.25, 0.5, 0.9]))
def test_it_finds_what_a_plain_loop_over_the_cells_finds(
    family: type[Decoder], draw: Any, plain: Any, seed: int, classes: int, min_score: float
) -> None:
    output = draw(np.random.default_rng(seed), classes)
    (candidates,) = family(SIZE, classes).decode({"output": output[None]}, min_score)
    wanted = plain(output, np.float32(min_score))
    # A score that is the threshold to within rounding may fall on either side.
    sure = [found for found in wanted if abs(found.score - min_score) > 1e-6]
    got = [found for found in as_found(candidates) if abs(found.score - min_score) > 1e-6]
    assert [found.class_id for found in got] == [found.class_id for found in sure]
    np.testing.assert_allclose([f.score for f in got], [f.score for f in sure], rtol=1e-5)
    np.testing.assert_allclose([f.box for f in got], [f.box for f in sure], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("family", "draw", "plain"), FAMILIES)
def test_types_and_shapes_are_those_of_the_contract_also_when_nothing_is_found(
    family: type[Decoder], draw: Any, plain: Any
) -> None:
    output = draw(np.random.default_rng(1), 3)
    for min_score, dtype in ((0.3, np.float32), (0.3, np.float16), (2.0, np.float32)):
        (found,) = family(SIZE, 3).decode({"output": output[None].astype(dtype)}, min_score)
        assert isinstance(family(SIZE, 3), Decoder)
        names = [array.dtype.name for array in (found.boxes, found.scores, found.class_ids)]
        assert names == ["float32", "float32", "int32"]
        assert found.boxes.shape == (len(found.scores), 4)
        assert len(found.class_ids) == len(found.scores)


@pytest.mark.parametrize(("family", "draw", "plain"), FAMILIES)
def test_a_batch_gives_what_its_pictures_give_alone(family: type[Decoder], draw: Any, plain: Any) -> None:
    rng = np.random.default_rng(7)
    outputs = [draw(rng, 4) for _ in range(3)]
    together = family(SIZE, 4).decode({"output": np.stack(outputs)}, 0.4)
    alone = [family(SIZE, 4).decode({"output": output[None]}, 0.4)[0] for output in outputs]
    assert [as_found(found) for found in together] == [as_found(found) for found in alone]


@pytest.mark.filterwarnings("error")
def test_a_wild_yolox_size_becomes_infinite_without_a_warning() -> None:
    output = np.zeros((1, CELLS, 6), np.float32)
    output[0, 3] = (0, 0, 1000, 1000, 1, 1)
    (found,) = Yolox(SIZE, 1).decode({"output": output}, 0.5)
    assert np.isinf(found.boxes).all()


@pytest.mark.parametrize(
    ("shapes", "matches"),
    [
        ({"o": (1, CELLS, 85)}, [Match("yolox", 80), Match("yolov5", 80), Match("nanodet", 53)]),
        ({"o": (1, CELLS, 6)}, [Match("end2end", 0), Match("yolox", 1), Match("yolov5", 1)]),
        ({"o": (1, 84, CELLS)}, [Match("yolov8", 80)]),
        ({"o": (1, 300, 6)}, [Match("end2end", 0)]),
        ({"o": (1, 1000)}, []),
        ({"o": (1, CELLS * 3, 85)}, [Match("yolov5", 80)]),
        ({"scores": (1, CELLS, 2), "boxes": (1, CELLS, 4)}, [Match("damoyolo", 2)]),
        ({"o": (1, CELLS, 5)}, []),
        ({"o": (1, 4, CELLS)}, []),
        ({}, []),
    ],
)
def test_a_family_is_known_by_the_shapes_of_its_outputs(
    shapes: dict[str, tuple[int, ...]], matches: list[Match]
) -> None:
    assert recognise(shapes, SIZE) == matches


def test_a_model_with_a_fourth_stride_is_known_too() -> None:
    assert recognise({"o": (1, 84, 80 * 80 + 40 * 40 + 20 * 20 + 10 * 10)}, (640, 640)) == [Match("yolov8", 80)]


def test_yolox_outputs_of_another_input_size_are_refused() -> None:
    with pytest.raises(ModelError, match="17 predictions fit no input of 96x64"):
        Yolox(SIZE, 1).decode({"output": np.zeros((1, 17, 6), np.float32)}, 0.5)


def test_an_unknown_family_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ModelError, match='did you mean "yolox"'):
        decoder_class("yolo-x")


def test_a_plugins_family_is_found_beside_those_built_in() -> None:
    class Mine(EndToEnd):
        family = "mine"

    assert decoder_class("mine", {"mine": Mine}) is Mine
    assert Match("mine", 0) in recognise({"o": (1, 300, 6)}, SIZE, {"mine": Mine})


def test_every_family_says_what_it_expects() -> None:
    assert set(EXPECTED) == set(BUILT_IN)
