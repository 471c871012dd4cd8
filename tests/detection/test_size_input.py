"""RT-DETR's and D-FINE's own exports ask for the picture's size beside the picture; they are added all the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from graphs import save
from onnx import TensorProto, helper, numpy_helper

from agent.cli.model import command as model
from agent.data import Frame
from agent.detection.add import Wishes, add_model
from agent.detection.detector import Detector
from agent.detection.one_input import one_input
from agent.engines.onnx import OnnxEngine
from agent.errors import ModelError

SIDES: tuple[Any, Any] = (64, 96)


def two_inputs(path: Path, sides: tuple[Any, Any] = SIDES) -> Path:
    """Boxes are fixed fractions of the size that the second input tells, as RTDETRPostProcessor makes them; the first
    score is the picture's brightness."""
    boxes = np.array([[[0.25, 0.25, 0.75, 0.5], [0, 0, 1, 1]]], np.float32)
    constants = {"fractions": boxes, "one": np.array([1]), "floor": np.array([0.25], np.float32)}
    constants |= {"known": np.array([[2, 0]]), "flat": np.array([-1, 1])}
    nodes = [
        helper.make_node("Cast", ["orig_target_sizes"], ["size"], to=TensorProto.FLOAT),
        helper.make_node("Concat", ["size", "size"], ["sizes"], axis=1),
        helper.make_node("Unsqueeze", ["sizes", "one"], ["scale"]),
        helper.make_node("Mul", ["fractions", "scale"], ["each"]),
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Reshape", ["mean", "flat"], ["bright"]),
        helper.make_node("Mul", ["bright", "floor"], ["dim"]),
        helper.make_node("Concat", ["bright", "dim"], ["scores"], axis=1),
        helper.make_node("Identity", ["each"], ["boxes"]),
        helper.make_node("Identity", ["known"], ["labels"]),
    ]
    inputs = [
        helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, *sides]),
        helper.make_tensor_value_info("orig_target_sizes", TensorProto.INT64, ["N", 2]),
    ]
    outputs = [
        helper.make_tensor_value_info("labels", TensorProto.INT64, [1, 2]),
        helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["N", 2, 4]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 2]),
    ]
    weights = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    return save(path, nodes, inputs, outputs, weights)


def test_such_a_graph_is_added_and_its_boxes_lie_in_the_picture(tmp_path: Path) -> None:
    graph = two_inputs(tmp_path / "rtdetr.onnx")
    added = add_model(graph, Wishes(name="r", labels="a,b,c"), tmp_path / "models", OnnxEngine, replace=False)
    package = added.package
    assert (package.family, package.input.size, package.input.resize) == ("detr-end2end", (96, 64), "stretch")
    assert added.notes == ["its second input, orig_target_sizes, was made a constant of 96x64"]
    detector = Detector(package, OnnxEngine(package.file_of(package.choose())), score=0.5)
    detector.warm_up()
    found = detector.detect(Frame("cam", 0, np.full((200, 400, 3), 204, np.uint8), 0.0, 0.0))
    detector.close()
    assert found.labels == ("c",)
    np.testing.assert_allclose(found.boxes, [[100, 50, 300, 100]], rtol=1e-5)
    np.testing.assert_allclose(found.scores, [0.8], rtol=1e-4)


def test_inspect_tells_what_it_is(tmp_path: Path) -> None:
    graph = two_inputs(tmp_path / "rtdetr.onnx")
    told = json.loads(CliRunner().invoke(model, ["inspect", str(graph), "--json"]).output)
    assert (told["detector"], told["proposals"]["family"]["value"]) == (True, "detr-end2end")
    assert graph.read_bytes() == two_inputs(tmp_path / "again.onnx").read_bytes(), "the user's file is left alone"


def test_an_open_size_has_to_be_said(tmp_path: Path) -> None:
    graph = two_inputs(tmp_path / "open.onnx", ("height", "width"))
    with pytest.raises(ModelError, match=r"choose one with --size"), one_input(graph):
        pass
    wishes = Wishes(name="r", labels="a,b,c", size=(160, 128))
    package = add_model(graph, wishes, tmp_path / "models", OnnxEngine, replace=False).package
    assert package.input.size == (160, 128)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    graph = two_inputs(tmp_path / "cut.onnx")
    graph.write_bytes(graph.read_bytes()[:-40])
    with pytest.raises(ModelError, match=r"cut\.onnx: cannot be read"), one_input(graph):
        pass
