"""The further families, each against a plain loop written from its description alone, or against its own library."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from agent.detection.decoders.base import Candidates, Decoder
from agent.detection.decoders.boxes_scores import DamoYolo, Detr, Ultraface, ultraface_priors
from agent.detection.decoders.detr_processed import DetrEndToEnd, DetrRows
from agent.detection.decoders.four_tensors import EfficientNms, TfliteSsd, TfSsd
from agent.detection.decoders.nanodet import Nanodet
from agent.detection.decoders.registry import recognise
from agent.detection.decoders.ssd_priors import RetinaFace, priors
from agent.detection.decoders.yolov5 import Yolov5, Yolov7EndToEnd
from agent.detection.decoders.yunet import Yunet
from agent.detection.nms import nms
from agent.detection.preprocess import Transform

SIZE = (96, 64)
CELLS = {stride: (96 // stride) * (64 // stride) for stride in (8, 16, 32)}
ALL = sum(CELLS.values())
Outputs = Mapping[str, NDArray[Any]]


class Found(NamedTuple):
    box: tuple[float, ...]
    score: float
    class_id: int


class Family(NamedTuple):
    """A decoder, random outputs for it, and the same decoded by hand."""

    decoder: type[Decoder]
    classes: int
    draw: Callable[[np.random.Generator, int], dict[str, NDArray[Any]]]
    plain: Callable[[dict[str, NDArray[Any]]], list[Found]]


def likeliest(values: NDArray[Any]) -> int:
    return max(range(len(values)), key=lambda index: (values[index], -index))


def centred(cx: float, cy: float, w: float, h: float) -> tuple[float, ...]:
    return cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2


def draw_yolov5(rng: np.random.Generator, batch: int) -> dict[str, NDArray[Any]]:
    boxes, rest = rng.uniform(1, 90, (batch, ALL * 3, 4)), rng.uniform(0, 1, (batch, ALL * 3, 4))
    return {"output": np.concatenate([boxes, rest], axis=2).astype(np.float32)}


def plain_yolov5(outputs: dict[str, NDArray[Any]]) -> list[Found]:
    found = []
    for cx, cy, w, h, objectness, *classes in outputs["output"].tolist():
        best = likeliest(np.array(classes))
        found.append(Found(centred(cx, cy, w, h), objectness * classes[best], best))
    return found


def draw_nanodet(rng: np.random.Generator, batch: int) -> dict[str, NDArray[Any]]:
    outputs: dict[str, NDArray[Any]] = {}
    for stride, count in CELLS.items():
        outputs[f"cls_{stride}"] = rng.uniform(0, 1, (batch, count, 3)).astype(np.float32)
        outputs[f"dis_{stride}"] = rng.normal(0, 2, (batch, count, 32)).astype(np.float32)
    return outputs


def side_of(bins: NDArray[Any]) -> float:
    weights = [math.exp(float(value)) for value in bins]
    return sum(number * weight for number, weight in enumerate(weights)) / sum(weights)


def nanodet_box(cx: float, cy: float, sides: NDArray[Any], stride: int) -> tuple[float, ...]:
    left, top, right, bottom = (side_of(sides[place * 8 : place * 8 + 8]) * stride for place in range(4))
    return cx - left, cy - top, cx + right, cy + bottom


def plain_nanodet(outputs: dict[str, NDArray[Any]]) -> list[Found]:
    found = []
    for stride in CELLS:
        index = 0
        for row in range(64 // stride):
            for column in range(96 // stride):
                scores, sides = outputs[f"cls_{stride}"][index], outputs[f"dis_{stride}"][index]
                index += 1
                best = likeliest(scores)
                cx, cy = column * stride + (stride - 1) / 2, row * stride + (stride - 1) / 2
                found.append(Found(nanodet_box(cx, cy, sides, stride), float(scores[best]), best))
    return found


def draw_ultraface(rng: np.random.Generator, batch: int) -> dict[str, NDArray[Any]]:
    count = ultraface_priors(SIZE)
    low = rng.uniform(0, 0.6, (batch, count, 2))
    boxes = np.concatenate([low, low + rng.uniform(0.01, 0.3, (batch, count, 2))], axis=2)
    face = rng.uniform(0, 1, (batch, count, 1))
    return {"scores": np.concatenate([1 - face, face], 2).astype(np.float32), "boxes": boxes.astype(np.float32)}


def plain_ultraface(outputs: dict[str, NDArray[Any]]) -> list[Found]:
    pairs = zip(outputs["boxes"].tolist(), outputs["scores"].tolist(), strict=True)
    return [Found((x1 * 96, y1 * 64, x2 * 96, y2 * 64), face, 0) for (x1, y1, x2, y2), (_, face) in pairs]


def draw_damo(rng: np.random.Generator, batch: int) -> dict[str, NDArray[Any]]:
    low = rng.uniform(0, 60, (batch, ALL, 2))
    boxes = np.concatenate([low, low + rng.uniform(1, 30, (batch, ALL, 2))], axis=2)
    return {"o1": rng.uniform(0, 1, (batch, ALL, 5)).astype(np.float32), "o2": boxes.astype(np.float32)}


def plain_damo(outputs: dict[str, NDArray[Any]]) -> list[Found]:
    pairs = zip(outputs["o2"].tolist(), outputs["o1"], strict=True)
    return [Found(tuple(box), float(scores[likeliest(scores)]), likeliest(scores)) for box, scores in pairs]


def draw_yunet(rng: np.random.Generator, batch: int) -> dict[str, NDArray[Any]]:
    outputs: dict[str, NDArray[Any]] = {}
    for stride, count in CELLS.items():
        for name, columns in (("cls", 1), ("obj", 1)):
            outputs[f"{name}_{stride}"] = rng.uniform(0.2, 1, (batch, count, columns)).astype(np.float32)
        for name, columns in (("bbox", 4), ("kps", 10)):
            outputs[f"{name}_{stride}"] = rng.normal(0, 0.7, (batch, count, columns)).astype(np.float32)
    return outputs


def plain_yunet(outputs: dict[str, NDArray[Any]]) -> list[Found]:
    found = []
    for stride in CELLS:
        for index in range(CELLS[stride]):
            row, column = divmod(index, 96 // stride)
            dx, dy, dw, dh = outputs[f"bbox_{stride}"][index].tolist()
            score = float(outputs[f"cls_{stride}"][index, 0]) * float(outputs[f"obj_{stride}"][index, 0])
            box = centred((column + dx) * stride, (row + dy) * stride, math.exp(dw) * stride, math.exp(dh) * stride)
            found.append(Found(box, score, 0))
    return found


def draw_retina(rng: np.random.Generator, batch: int) -> dict[str, NDArray[Any]]:
    count = 2 * ALL
    face = rng.uniform(0, 1, (batch, count, 1))
    return {
        "loc": rng.normal(0, 1, (batch, count, 4)).astype(np.float32),
        "conf": np.concatenate([1 - face, face], 2).astype(np.float32),
        "landms": rng.normal(0, 1, (batch, count, 10)).astype(np.float32),
    }


def plain_retina(outputs: dict[str, NDArray[Any]]) -> list[Found]:
    found, index = [], 0
    for stride, sides in ((8, (16, 32)), (16, (64, 128)), (32, (256, 512))):
        for row in range(64 // stride):
            for column in range(96 // stride):
                for side in sides:
                    dx, dy, dw, dh = outputs["loc"][index].tolist()
                    cx, cy = (column + 0.5) * stride + dx * 0.1 * side, (row + 0.5) * stride + dy * 0.1 * side
                    box = centred(cx, cy, side * math.exp(dw * 0.2), side * math.exp(dh * 0.2))
                    found.append(Found(box, float(outputs["conf"][index, 1]), 0))
                    index += 1
    return found


def draw_four(names: tuple[str, str, str, str], pixels: bool) -> Any:
    def draw(rng: np.random.Generator, batch: int) -> dict[str, NDArray[Any]]:
        boxes, scores, classes, count = names
        low = rng.uniform(0, 0.6, (batch, 20, 2))
        corners = np.concatenate([low, low + 0.2], axis=2) * (96 if pixels else 1)
        return {
            boxes: corners.astype(np.float32),
            classes: rng.integers(1, 5, (batch, 20)).astype(np.float32),
            scores: rng.uniform(0, 1, (batch, 20)).astype(np.float32),
            count: rng.integers(0, 21, (batch, 1)).astype(np.float32),
        }

    return draw


TF = ("detection_boxes", "detection_scores", "detection_classes", "num_detections")
TFLITE = ("TFLite_PostProcess", "TFLite_PostProcess:2", "TFLite_PostProcess:1", "TFLite_PostProcess:3")
TRT = ("det_boxes", "det_scores", "det_classes", "num_dets")


def plain_four(names: tuple[str, str, str, str], pixels: bool, first: int) -> Any:
    def plain(outputs: dict[str, NDArray[Any]]) -> list[Found]:
        boxes, scores, classes, count = (outputs[name] for name in names)
        found = []
        for place in range(int(count[0])):
            a, b, c, d = boxes[place].tolist()
            box = (a, b, c, d) if pixels else (b * 96, a * 64, d * 96, c * 64)
            found.append(Found(box, float(scores[place]), int(classes[place]) - first))
        return found

    return plain


def draw_three(rng: np.random.Generator, batch: int) -> dict[str, NDArray[Any]]:
    low = rng.uniform(0, 60, (batch, 30, 2))
    return {
        "labels": rng.integers(0, 5, (batch, 30)).astype(np.float32),
        "boxes": np.concatenate([low, low + rng.uniform(1, 30, (batch, 30, 2))], axis=2).astype(np.float32),
        "scores": rng.uniform(0, 1, (batch, 30)).astype(np.float32),
    }


def plain_three(outputs: dict[str, NDArray[Any]]) -> list[Found]:
    rows = zip(*(outputs[name].tolist() for name in ("boxes", "scores", "labels")), strict=True)
    return [Found(tuple(box), score, int(label)) for box, score, label in rows]


def draw_rows(rng: np.random.Generator, batch: int) -> dict[str, NDArray[Any]]:
    return {"output0": rng.uniform(0.1, 0.5, (batch, 300, 4 + 3)).astype(np.float32)}


def plain_rows(outputs: dict[str, NDArray[Any]]) -> list[Found]:
    found = []
    for cx, cy, w, h, *classes in outputs["output0"].tolist():
        best = likeliest(np.array(classes))
        found.append(Found(centred(cx * 96, cy * 64, w * 96, h * 64), classes[best], best))
    return found


FAMILIES = [
    pytest.param(Family(Yolov5, 3, draw_yolov5, plain_yolov5), id="yolov5"),
    pytest.param(Family(Nanodet, 3, draw_nanodet, plain_nanodet), id="nanodet"),
    pytest.param(Family(Ultraface, 1, draw_ultraface, plain_ultraface), id="ultraface"),
    pytest.param(Family(DamoYolo, 5, draw_damo, plain_damo), id="damoyolo"),
    pytest.param(Family(Yunet, 1, draw_yunet, plain_yunet), id="yunet"),
    pytest.param(Family(RetinaFace, 1, draw_retina, plain_retina), id="retinaface"),
    pytest.param(Family(DetrEndToEnd, 5, draw_three, plain_three), id="detr-end2end"),
    pytest.param(Family(DetrRows, 3, draw_rows, plain_rows), id="rtdetr-ultralytics"),
    pytest.param(Family(TfSsd, 5, draw_four(TF, False), plain_four(TF, False, 1)), id="tf-ssd"),
    pytest.param(Family(TfliteSsd, 5, draw_four(TFLITE, False), plain_four(TFLITE, False, 0)), id="tflite-ssd"),
    pytest.param(Family(EfficientNms, 5, draw_four(TRT, True), plain_four(TRT, True, 0)), id="efficientnms"),
]


def decoded(family: Family, outputs: Outputs, min_score: float) -> list[Candidates]:
    return family.decoder(SIZE, family.classes).decode(outputs, min_score)


def as_found(candidates: Candidates) -> list[Found]:
    rows = zip(candidates.boxes.tolist(), candidates.scores.tolist(), candidates.class_ids.tolist(), strict=True)
    return [Found(tuple(box), score, class_id) for box, score, class_id in rows]


@pytest.mark.parametrize("family", FAMILIES)
@given(seed=st.integers(0, 2**32 - 1), min_score=st.sampled_from([0.0, 0.3, 0.7]))
def test_it_finds_what_a_plain_loop_finds(family: Family, seed: int, min_score: float) -> None:
    outputs = family.draw(np.random.default_rng(seed), 1)
    (candidates,) = decoded(family, outputs, min_score)
    wanted = family.plain({name: array[0] for name, array in outputs.items()})
    sure = [found for found in wanted if found.score >= min_score and abs(found.score - min_score) > 1e-6]
    got = [found for found in as_found(candidates) if abs(found.score - min_score) > 1e-6]
    assert [found.class_id for found in got] == [found.class_id for found in sure]
    np.testing.assert_allclose([f.score for f in got], [f.score for f in sure], rtol=1e-5)
    np.testing.assert_allclose([f.box for f in got], [f.box for f in sure], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_gives_what_its_pictures_give_alone(family: Family) -> None:
    outputs = family.draw(np.random.default_rng(5), 3)
    together = decoded(family, outputs, 0.4)
    alone = [
        decoded(family, {name: array[place : place + 1] for name, array in outputs.items()}, 0.4)[0]
        for place in range(3)
    ]
    assert [as_found(found) for found in together] == [as_found(found) for found in alone]


@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_known_by_its_outputs(family: Family) -> None:
    shapes = {name: array.shape for name, array in family.draw(np.random.default_rng(1), 1).items()}
    names = [match.family for match in recognise(shapes, SIZE)]
    assert family.decoder.family in names
    assert family.decoder.matches(shapes, SIZE) in (0, family.classes)
    assert family.decoder.matches({"o": (1, 1000)}, SIZE) is None


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@given(seed=st.integers(0, 2**32 - 1), bad=st.sampled_from([math.nan, math.inf, -math.inf]))
def test_what_is_not_finite_becomes_no_box_and_boxes_stay_in_the_picture(family: Family, seed: int, bad: float) -> None:
    rng = np.random.default_rng(seed)
    outputs = family.draw(rng, 1)
    for name, array in outputs.items():
        if not name.startswith("num") and array.size > 1:
            array.reshape(-1)[rng.integers(0, array.size, max(1, array.size // 10))] = bad
    (found,) = decoded(family, outputs, 0.3)
    chosen = nms(found.boxes, found.scores, found.class_ids, 0.5, 100)
    boxes, _ = Transform((0, 0, 192, 128), (0, 0, 96, 64), (192, 128)).undo(found.boxes[chosen])
    real = boxes[(boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])]
    assert np.isfinite(real).all()
    assert ((real >= 0) & (real <= [192, 128, 192, 128])).all()


@given(seed=st.integers(0, 2**32 - 1), iou=st.sampled_from([0.3, 0.5, 0.7]))
def test_nms_keeps_the_order_of_scores_and_changes_nothing_the_second_time(seed: int, iou: float) -> None:
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 60, (200, 2))
    boxes = np.concatenate([low, low + rng.uniform(2, 40, (200, 2))], axis=1).astype(np.float32)
    scores, classes = rng.uniform(0, 1, 200).astype(np.float32), rng.integers(0, 3, 200).astype(np.int32)
    once = nms(boxes, scores, classes, iou, 300)
    assert (np.diff(scores[once]) <= 0).all()
    again = nms(boxes[once], scores[once], classes[once], iou, 300)
    assert again.tolist() == list(range(len(once)))


def test_nanodet_plus_in_one_output_has_its_centres_at_the_corners() -> None:
    rng = np.random.default_rng(2)
    size, count = (64, 64), 64 + 16 + 4 + 1
    raw = np.concatenate([rng.uniform(0, 1, (1, count, 80)), rng.normal(0, 1, (1, count, 32))], 2).astype(np.float32)
    assert Nanodet.matches({"o": raw.shape}, size) == 80
    (found,) = Nanodet(size, 80).decode({"o": raw}, 0.0)
    np.testing.assert_allclose(found.boxes[9], nanodet_box(8, 8, raw[0, 9, 80:], 8), rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(found.boxes[-1], nanodet_box(0, 0, raw[0, -1, 80:], 64), rtol=1e-4, atol=1e-3)


def test_nanodet_plus_counts_the_cells_that_the_edge_cuts_off() -> None:
    size, count = (416, 416), 52 * 52 + 26 * 26 + 13 * 13 + 7 * 7
    raw = np.zeros((1, count, 3 + 32), np.float32)
    raw[0, -1, 0] = 0.9
    assert Nanodet.matches({"o": raw.shape}, size) == 3
    (found,) = Nanodet(size, 3).decode({"o": raw}, 0.5)
    np.testing.assert_allclose(found.boxes, [[384 - 224, 384 - 224, 384 + 224, 384 + 224]])


def test_yolov7_end_to_end_sorts_its_rows_by_picture() -> None:
    rows = np.array([[0, 1, 2, 3, 4, 5, 0.75], [2, 5, 6, 7, 8, 1, 0.5], [2, 5, 6, 7, 8, 1, 0.25]], np.float32)
    found = Yolov7EndToEnd(SIZE, 80).decode({"o": rows}, 0.5)
    assert [as_found(one) for one in found] == [
        [Found((1, 2, 3, 4), 0.75, 5)],
        [],
        [Found((5, 6, 7, 8), 0.5, 1)],
    ]
    assert Yolov7EndToEnd.matches({"o": (3, 7)}, SIZE) == 0


def test_landmarks_lie_where_the_formula_puts_them() -> None:
    outputs = draw_yunet(np.random.default_rng(4), 1)
    (found,) = Yunet(SIZE, 1).decode(outputs, 0.0)
    assert found.landmarks is not None
    dx, dy = outputs["kps_8"][0, 13, 4:6].tolist()
    np.testing.assert_allclose(found.landmarks[13, 2], ((1 + dx) * 8, (1 + dy) * 8), rtol=1e-4)
    outputs = draw_retina(np.random.default_rng(4), 1)
    (found,) = RetinaFace(SIZE, 1).decode(outputs, 0.0)
    assert found.landmarks is not None
    dx, dy = outputs["landms"][0, 1, :2].tolist()
    np.testing.assert_allclose(found.landmarks[1, 0], (4 + dx * 3.2, 4 + dy * 3.2), rtol=1e-4)
    assert len(priors(SIZE)[0]) == 2 * ALL


def test_scores_that_are_logits_become_probabilities() -> None:
    outputs = draw_retina(np.random.default_rng(4), 1)
    face = outputs["conf"][..., 1]
    outputs["conf"] = np.stack([np.zeros_like(face), np.log(face / (1 - face))], axis=2)
    (found,) = RetinaFace(SIZE, 1).decode(outputs, 0.0)
    np.testing.assert_allclose(found.scores, face[0], rtol=1e-4)


@pytest.mark.parametrize("name", ["rtdetr", "dfine"])
def test_rt_detr_and_d_fine_give_what_their_own_library_makes_of_their_outputs(name: str) -> None:
    recorded = np.load(Path(__file__).with_name("detr_outputs.npz"))
    height, width = recorded["picture"].tolist()
    outputs = {key: recorded[f"{name}_{key}"] for key in ("logits", "pred_boxes")}
    (found,) = Detr((width, height), 5).decode(outputs, float(recorded[f"{name}_threshold"]))
    order = np.argsort(-recorded[f"{name}_scores"], kind="stable")
    assert len(found.scores) == len(order) > 10
    np.testing.assert_allclose(found.scores, recorded[f"{name}_scores"][order], rtol=1e-5)
    assert found.class_ids.tolist() == recorded[f"{name}_labels"][order].tolist()
    np.testing.assert_allclose(found.boxes, recorded[f"{name}_boxes"][order], rtol=1e-4, atol=1e-3)
    assert Detr.matches({key: array.shape for key, array in outputs.items()}, (128, 128)) == 5
