"""Weights among the inputs become constants, and the graph stays the same otherwise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, load, load_from_string, numpy_helper

from agent.detection.add import Wishes, add_model
from agent.engines.onnx import OnnxEngine
from agent.engines.onnx_weights import constant_weights


def old_export(listed: bool) -> bytes:
    """``y = x @ w + b`` as exporters wrote it before IR version 4: every weight an input, too."""
    floats = TensorProto.FLOAT
    weights = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(3, np.float32)}
    inputs = [helper.make_tensor_value_info("x", floats, [1, 2])]
    if listed:
        inputs += [helper.make_tensor_value_info(name, floats, value.shape) for name, value in weights.items()]
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"])],
        "line",
        inputs,
        [helper.make_tensor_value_info("y", floats, [1, 3])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model.metadata_props.add(key="names", value="kept")
    content: bytes = model.SerializeToString()
    return content


def test_weights_are_no_inputs_any_more_and_nothing_else_changes() -> None:
    changed = constant_weights(old_export(listed=True))
    assert changed is not None
    assert load_from_string(changed) == load_from_string(old_export(listed=False))
    assert constant_weights(changed) is None, "once is enough"


@given(st.binary(max_size=200) | st.integers(1, 200).map(lambda cut: old_export(listed=True)[:-cut]))
def test_what_is_no_onnx_file_is_left_alone(content: bytes) -> None:
    changed = constant_weights(content)
    assert changed is None or len(changed) < len(content)


def test_nanodets_own_export_is_added_with_constants_and_computes_the_same(material: Path, tmp_path: Path) -> None:
    original = material / "models" / "nanodet_m_320.onnx"
    added = add_model(original, Wishes(name="nano", labels="coco80"), tmp_path, OnnxEngine, replace=False)
    assert any("made constants" in note for note in added.notes)
    package = added.package
    (only,) = load(str(package.file_of(package.choose()))).graph.input
    picture = np.random.default_rng(0).random((1, 3, 320, 320), np.float32)
    sessions = [onnxruntime.InferenceSession(str(path)) for path in (original, package.file_of(package.choose()))]
    wanted, found = (session.run(None, {only.name: picture}) for session in sessions)
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-4)
