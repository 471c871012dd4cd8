"""Graphs that take pictures as [N, H, W, 3], as TensorFlow exports them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

from agent.data import Frame
from agent.detection.add import Wishes, add_model
from agent.detection.detector import Detector
from agent.detection.manifest import InputSpec
from agent.detection.preprocess import Preprocessor
from agent.engines.onnx import OnnxEngine


def tensorflow_graph(path: Path) -> Path:
    """uint8 [1, 48, 64, 3] to the four outputs of an SSD; the first score is the red of the picture's first pixel."""
    boxes = np.array([[[0.25, 0.25, 0.75, 0.5], [0, 0, 1, 1]]], np.float32)
    constants = {"boxes": boxes, "classes": np.array([[2, 1]], np.float32), "number": np.array([2], np.float32)}
    constants |= {"start": np.array([0, 0, 0, 0]), "end": np.array([1, 1, 1, 1]), "unit": np.float32(255)}
    constants |= {"shape": np.array([1, 1]), "half": np.array([[0.25]], np.float32)}
    nodes = [
        helper.make_node("Slice", ["input_tensor", "start", "end"], ["corner"]),
        helper.make_node("Cast", ["corner"], ["whole"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["whole", "unit"], ["share"]),
        helper.make_node("Reshape", ["share", "shape"], ["first"]),
        helper.make_node("Concat", ["first", "half"], ["detection_scores"], axis=1),
        *(
            helper.make_node("Identity", [name], [output])
            for name, output in (
                ("boxes", "detection_boxes"),
                ("classes", "detection_classes"),
                ("number", "num_detections"),
            )
        ),
    ]
    outputs = {"detection_boxes": [1, 2, 4], "detection_scores": [1, 2], "detection_classes": [1, 2]}
    graph = helper.make_graph(
        nodes,
        "ssd",
        [helper.make_tensor_value_info("input_tensor", TensorProto.UINT8, [1, 48, 64, 3])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in (outputs | {"num_detections": [1]}).items()
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    return path


def test_a_tensorflow_ssd_is_added_and_finds_its_boxes(tmp_path: Path) -> None:
    graph = tensorflow_graph(tmp_path / "ssd.onnx")
    package = add_model(graph, Wishes(name="ssd", labels="cup,phone"), tmp_path, OnnxEngine, replace=False).package
    assert (package.family, package.input.layout, package.input.colour) == ("tf-ssd", "nhwc", "rgb")
    detector = Detector(package, OnnxEngine(package.file_of(package.choose())), score=0.5)
    detector.warm_up()
    pixels = np.zeros((96, 128, 3), np.uint8)
    pixels[..., 2] = 204
    found = detector.detect(Frame("cam", 0, pixels, 0.0, 0.0))
    assert found.labels == ("phone",), "its classes count from 1"
    np.testing.assert_allclose(found.boxes, [[32, 24, 64, 72]])
    np.testing.assert_allclose(found.scores, [0.8])


def test_both_layouts_hold_the_same_picture() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (90, 120, 3), np.uint8)
    planes = Preprocessor(InputSpec(size=(64, 48)))
    last = Preprocessor(InputSpec(size=(64, 48), layout="nhwc"))
    assert planes.fill(0, pixels) == last.fill(0, pixels)
    np.testing.assert_array_equal(last.buffer, planes.buffer.transpose(0, 2, 3, 1))
    assert last.buffer.flags.c_contiguous
