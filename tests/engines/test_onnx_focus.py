"""A focus is folded into the convolution behind it, which computes the same; anything else stays as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, checker, helper, load, load_from_string, numpy_helper

from agent.detection.add import Wishes, add_model
from agent.engines.onnx import OnnxEngine
from agent.engines.onnx_focus import folded_focus

PHASES = ((0, 0), (1, 0), (0, 1), (1, 1))
END = 2**63 - 1


def focus(
    phases: tuple[tuple[int, int], ...] = PHASES,
    *,
    channels: int = 3,
    kernel: tuple[int, int] = (3, 3),
    stride: int = 1,
    pads: tuple[int, int, int, int] = (1, 1, 1, 1),
    step: int = 2,
    group: int = 1,
    both_axes_at_once: bool = False,
    constant_nodes: bool = False,
    also_told: bool = False,
) -> ModelProto:
    """``x -> four slices -> Concat -> Conv -> y`` as exporters write it. ``also_told``: the stack is an output too."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(5, 4 * channels // group, *kernel)).astype(np.float32)
    values: dict[str, Any] = {f"n{n}": np.array([n], np.int64) for n in (0, 1, 2, 3, END, step)}
    values |= {"rows": np.array([2], np.int64), "columns": np.array([-1], np.int64), "axes": np.array([2, 3], np.int64)}
    nodes = []
    for at, (row, column) in enumerate(phases):
        if both_axes_at_once:
            values |= {f"from{at}": np.array([row, column], np.int64)}
            values |= {"ends": np.array([END, END], np.int64), "steps": np.array([step, step], np.int64)}
            nodes.append(helper.make_node("Slice", ["x", f"from{at}", "ends", "axes", "steps"], [f"part{at}"]))
            continue
        nodes.append(helper.make_node("Slice", ["x", f"n{row}", f"n{END}", "rows", f"n{step}"], [f"half{at}"]))
        nodes.append(
            helper.make_node("Slice", [f"half{at}", f"n{column}", f"n{END}", "columns", f"n{step}"], [f"part{at}"])
        )
    nodes.append(helper.make_node("Concat", [f"part{at}" for at in range(4)], ["stack"], axis=1))
    nodes.append(
        helper.make_node(
            "Conv", ["stack", "w", "b"], ["y"], kernel_shape=kernel, strides=[stride] * 2, pads=pads, group=group
        )
    )
    used = {name for node in nodes for name in node.input}
    tensors = [numpy_helper.from_array(value, name) for name, value in values.items() if name in used]
    if constant_nodes:
        nodes = [helper.make_node("Constant", [], [one.name], value=one) for one in tensors] + nodes
        tensors = []
    tensors += [numpy_helper.from_array(weights, "w")]
    tensors += [helper.make_tensor("b", TensorProto.FLOAT, [5], rng.normal(size=5).tolist())]
    told = ["y", "stack"] if also_told else ["y"]
    graph = helper.make_graph(
        nodes,
        "focus",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, channels, 16, 24])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4) for name in told],
        tensors,
        value_info=[helper.make_tensor_value_info("stack", TensorProto.FLOAT, [None] * 4)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def computed(content: bytes, channels: int) -> Any:
    picture = np.random.default_rng(1).normal(size=(1, channels, 16, 24)).astype(np.float32)
    (y,) = onnxruntime.InferenceSession(content).run(["y"], {"x": picture})
    return y


@settings(deadline=None, max_examples=25)
@given(
    phases=st.permutations(PHASES).map(tuple),
    channels=st.integers(1, 4),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.integers(1, 2),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
    both_axes_at_once=st.booleans(),
    constant_nodes=st.booleans(),
)
def test_a_focus_of_any_order_kernel_stride_and_padding_is_one_convolution_with_the_same_sums(
    phases: Any, channels: int, kernel: Any, stride: int, pads: Any, both_axes_at_once: bool, constant_nodes: bool
) -> None:
    model = focus(
        phases,
        channels=channels,
        kernel=kernel,
        stride=stride,
        pads=pads,
        both_axes_at_once=both_axes_at_once,
        constant_nodes=constant_nodes,
    )
    original = model.SerializeToString()
    folded = folded_focus(original)
    assert folded is not None
    new = load_from_string(folded)
    checker.check_model(new, full_check=True)
    assert [node.op_type for node in new.graph.node] == ["Conv"]
    assert len(new.graph.initializer) == 2, "what only the slices needed is gone"
    assert computed(folded, channels) == pytest.approx(computed(original, channels), abs=1e-4)
    assert folded_focus(folded) is None, "once is enough"


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(focus(step=3), id="every third pixel"),
        pytest.param(focus(((0, 0), (1, 0), (0, 1), (0, 1))), id="a phase twice"),
        pytest.param(focus(group=2, channels=2), id="a grouped convolution"),
        pytest.param(focus(also_told=True), id="the stack is told as well"),
    ],
)
def test_what_only_looks_like_a_focus_is_left_alone(model: ModelProto) -> None:
    assert folded_focus(model.SerializeToString()) is None


@given(st.binary(max_size=200) | st.integers(1, 900).map(lambda cut: focus().SerializeToString()[:-cut]))
def test_what_is_no_onnx_file_or_breaks_off_is_left_alone_or_stays_whole(content: bytes) -> None:
    folded = folded_focus(content)
    assert folded is None or load_from_string(folded).graph.node[-1].op_type == "Conv"


def test_yoloxs_own_export_is_added_without_its_slices_and_computes_the_same(material: Path, tmp_path: Path) -> None:
    original = material / "models" / "yolox_nano_416.onnx"
    added = add_model(original, Wishes(name="nano", labels="coco80"), tmp_path, OnnxEngine, replace=False)
    assert any("focus was folded" in note for note in added.notes)
    file = added.package.file_of(added.package.choose())
    graph = load(str(file)).graph
    assert "Slice" not in {node.op_type for node in graph.node}
    used = {name for node in graph.node for name in node.input}
    assert {one.name for one in graph.initializer} <= used
    picture = np.random.default_rng(0).uniform(0, 255, (1, 3, 416, 416)).astype(np.float32)
    wanted, found = (
        onnxruntime.InferenceSession(str(path)).run(None, {"images": picture})[0] for path in (original, file)
    )
    assert found == pytest.approx(wanted, abs=1e-3)
