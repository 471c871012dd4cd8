from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from graphs import brightness_graph, float_value, node, save
from onnx import numpy_helper

from agent.detection.coco_labels import COCO80
from agent.detection.graph_head import first_operators
from agent.detection.inspection import Inspection, inspect_graph
from agent.engines.onnx import OnnxEngine

Fed = tuple[str, float, float, str, int]  # colour, mean and 1/scale of the first channel, resize, pad
PLAIN: Fed = ("bgr", 0, 1, "letterbox-topleft", 114)
ULTRALYTICS: Fed = ("rgb", 0, 255, "letterbox", 114)
YUNET: Fed = ("bgr", 0, 1, "letterbox-topleft", 0)
NANODET: Fed = ("bgr", 103.53, 57.375, "letterbox", 0)
ULTRAFACE: Fed = ("rgb", 127, 128, "stretch", 0)
FACE = ("face",)


def inspected(path: Path, size: tuple[int, int] | None = None) -> Inspection:
    engine = OnnxEngine(path)
    try:
        return inspect_graph(engine, path.name, size)
    finally:
        engine.close()


def fed(seen: Inspection) -> Fed:
    said = {key: proposal.value for key, proposal in seen.proposals.items()}
    return said["colour"], said["mean"][0], round(1 / said["scale"][0], 6), said["resize"], said["pad"]


@pytest.mark.parametrize(
    ("name", "family", "size", "way", "labels"),
    [
        ("yolox_nano_416", "yolox", (416, 416), PLAIN, COCO80),
        ("yolo11n_int8_agpl", "yolov8", (320, 320), ULTRALYTICS, COCO80),
        ("yolo26n_int8_agpl", "end2end", (640, 640), ULTRALYTICS, COCO80),
        ("nanodet_m_320", "nanodet", (320, 320), NANODET, COCO80),
        ("ultraface_rfb_320", "ultraface", (320, 240), ULTRAFACE, FACE),
        ("yunet_n_320", "yunet", (320, 320), YUNET, FACE),
        ("yunet_n_dynamic", "yunet", None, YUNET, FACE),
    ],
)
def test_every_real_detector_is_known_with_its_family_and_its_way_of_being_fed(
    material: Path, name: str, family: str, size: tuple[int, int] | None, way: Fed, labels: tuple[str, ...]
) -> None:
    seen = inspected(material / "models" / f"{name}.onnx")
    assert seen.detector
    assert seen.proposals["family"].value == family
    assert fed(seen) == way
    assert seen.proposals["labels"].value == labels
    assert seen.proposals["layout"].value == "NCHW"
    assert size is None or seen.proposals["size"].value == size
    assert all(proposal.why for proposal in seen.proposals.values())


@pytest.mark.parametrize(
    ("shape", "looks"),
    [
        ((1000,), "one vector of 1000: a classifier, or an embedding"),
        ((1000, 1, 1), "one vector of 1000"),
        ((512,), "an embedding"),
        ((21, 48, 64), "a value for each pixel: segmentation"),
        ((1, 48, 64), "a value for each pixel"),
        ((17, 12, 16), "a value for each pixel"),
    ],
)
def test_a_network_of_another_task_is_not_a_detector(tmp_path: Path, shape: tuple[int, ...], looks: str) -> None:
    seen = inspected(brightness_graph(tmp_path / "x.onnx", np.zeros(shape, np.float32)))
    assert not seen.detector
    assert seen.fault is not None
    assert "not a detector" in seen.fault
    assert looks in seen.fault


def test_a_pose_export_is_not_a_detector_though_its_output_looks_like_one(tmp_path: Path) -> None:
    graph = brightness_graph(tmp_path / "x.onnx", np.zeros((6, 62), np.float32), metadata={"task": "pose"})
    assert inspected(graph).fault == "x.onnx: not a detector: exported for the task 'pose'"


def test_what_the_file_says_is_certain_and_what_only_fits_is_not(tmp_path: Path) -> None:
    rows = np.zeros((6, 62), np.float32)
    names = {"names": "{0: 'a', 1: 'b'}", "task": "detect", "imgsz": "[48, 64]"}
    told = inspected(brightness_graph(tmp_path / "x.onnx", rows, metadata=names)).proposals
    bare = inspected(brightness_graph(tmp_path / "y.onnx", rows)).proposals
    assert {told[key].sure for key in ("family", "layout", "size", "colour", "labels")} == {"certain"}
    assert (bare["family"].sure, bare["colour"].sure, bare["size"].sure) == ("likely", "likely", "certain")
    assert "labels" not in bare


def test_two_families_that_fit_are_a_guess_and_the_other_is_named(tmp_path: Path) -> None:
    family = inspected(brightness_graph(tmp_path / "x.onnx", np.zeros((62, 6), np.float32))).proposals["family"]
    assert family.sure == "guess"
    assert family.flag == "--family"
    assert "would fit too" in family.why


def test_boxes_in_cells_are_a_yoloxs_and_boxes_in_pixels_are_not(tmp_path: Path) -> None:
    rows = np.zeros((62, 7), np.float32)
    rows[:, 0] = np.linspace(0, 63, 62)
    cells = inspected(brightness_graph(tmp_path / "x.onnx", rows / np.float32(32))).proposals["family"]
    pixels = inspected(brightness_graph(tmp_path / "y.onnx", rows))
    assert cells.value == "yolox"
    assert pixels.proposals["family"].value == "yolov5"


def test_the_size_of_an_open_input_is_the_exporters_or_a_guess_at_which_the_outputs_fit(tmp_path: Path) -> None:
    rows = np.zeros((300, 6), np.float32)
    open_input: dict[str, Any] = {"open_size": True, "batch": "n"}
    told = brightness_graph(tmp_path / "x.onnx", rows, metadata={"imgsz": "[480, 640]"}, **open_input)
    assert inspected(told).proposals["size"][:2] == ((640, 480), "likely")
    bare = brightness_graph(tmp_path / "y.onnx", rows, **open_input)
    assert inspected(bare).proposals["size"].sure == "guess"
    assert inspected(bare, (64, 48)).proposals["size"].value == (64, 48)


def test_a_graph_that_begins_with_arithmetic_makes_its_normalisation_a_guess(tmp_path: Path) -> None:
    nodes = [
        node("Div", ["images", "by"], ["unit"]),
        node("ReduceMean", ["unit"], ["mean"], axes=[1, 2, 3], keepdims=1),
        node("Reshape", ["mean", "shape"], ["level"]),
        node("Add", ["level", "base"], ["output"]),
    ]
    values: dict[str, Any] = {
        "by": np.array([255], np.float32),
        "shape": np.array([-1, 1, 1]),
        "base": np.zeros((1, 6, 62), np.float32),
    }
    constants = [numpy_helper.from_array(value, name) for name, value in values.items()]
    inputs, outputs = [float_value("images", [1, 3, 48, 64])], [float_value("output", [1, 6, 62])]
    proposals = inspected(save(tmp_path / "x.onnx", nodes, inputs, outputs, constants)).proposals
    assert (proposals["colour"].sure, proposals["scale"].sure) == ("likely", "guess")
    assert "the graph itself begins with Div: if it normalises there, --mean 0 --scale 1" in proposals["scale"].why


@pytest.mark.parametrize("content", [b"", b"some notes", b"\xff" * 40, b"\x3a\xff\xff", b"\x3a\x02\x0a"])
def test_a_file_that_is_no_graph_has_no_first_operators(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.onnx").write_bytes(content)
    assert first_operators(tmp_path / "x.onnx", "images") == []


def test_first_operators_are_read_as_onnx_reads_them(material: Path) -> None:
    for path in sorted((material / "models").glob("*.onnx")):
        graph = onnx.load(str(path)).graph
        name = graph.input[0].name
        assert first_operators(path, name) == [one.op_type for one in graph.node if name in one.input]
