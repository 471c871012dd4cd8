"""A pyramid of pools is chained, each made of the one below: the same numbers, bit for bit; all else stays as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, checker, helper, load, load_from_string

from agent.detection.add import Wishes, add_model
from agent.engines.onnx import OnnxEngine
from agent.engines.onnx_pools import chained_pools

Sides = tuple[int, int]


def pyramid(
    *sides: Sides, maker: str = "Relu", told: bool = False, indices: bool = False, **attributes: Any
) -> ModelProto:
    """``x -> maker -> pools of these sides, each with an Abs behind it -> Concat -> y``.

    ``told``: the first pool is an output too. Of the last pool: ``attributes``, and whether it gives ``indices`` too.
    """
    bytes_ = maker == "DequantizeLinear"
    nodes = [helper.make_node(maker, ["x", *["scale"] * bytes_], ["start"])]
    for at, (height, width) in enumerate(sides):
        last = at == len(sides) - 1
        known = {"kernel_shape": [height, width], "pads": [height // 2, width // 2] * 2, "strides": [1, 1]}
        outputs = [f"pool{at}", *["indices"] * (indices and last)]
        nodes.append(helper.make_node("MaxPool", ["start"], outputs, **(known | (attributes if last else {}))))
        nodes.append(helper.make_node("Abs", [f"pool{at}"], [f"size{at}"]))
    nodes.append(helper.make_node("Concat", ["start", *(f"size{at}" for at in range(len(sides)))], ["y"], axis=1))
    graph = helper.make_graph(
        nodes,
        "pyramid",
        [helper.make_tensor_value_info("x", TensorProto.UINT8 if bytes_ else TensorProto.FLOAT, [1, 2, 9, 14])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4) for name in ("y", *["pool0"] * told)],
        [helper.make_tensor("scale", TensorProto.FLOAT, [], [0.1])] * bytes_,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def computed(content: bytes) -> Any:
    x = np.random.default_rng(1).normal(size=(1, 2, 9, 14)).astype(np.float32)
    (y,) = onnxruntime.InferenceSession(content).run(["y"], {"x": x})
    return y


def kernels(content: bytes) -> list[list[int]]:
    pools = [node for node in load_from_string(content).graph.node if node.op_type == "MaxPool"]
    return [list(one.ints) for node in pools for one in node.attribute if one.name == "kernel_shape"]


def test_yoloxs_pyramid_is_three_pools_of_five() -> None:
    chained = chained_pools(pyramid((5, 5), (9, 9), (13, 13)).SerializeToString())
    assert chained is not None
    assert kernels(chained) == [[5, 5]] * 3


ODD = st.integers(1, 6).map(lambda half: 2 * half + 1)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(ODD, ODD) | ODD.map(lambda side: (side, side)), min_size=2, max_size=5), st.booleans())
def test_pools_of_any_odd_sides_in_any_order_give_the_same_numbers_by_fewer_comparisons(
    sides: list[Sides], told: bool
) -> None:
    original = pyramid(*sides, told=told).SerializeToString()
    chained = chained_pools(original)
    if all(height == width for height, width in sides):
        assert (chained is None) == (len(set(sides)) == 1)
    if chained is None:
        return
    checker.check_model(load_from_string(chained), full_check=True)
    assert np.array_equal(computed(chained), computed(original))
    before, after = ([height * width for height, width in kernels(content)] for content in (original, chained))
    assert sum(after) < sum(before)


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(pyramid((5, 5)), id="one alone"),
        pytest.param(pyramid((5, 5), (5, 5)), id="two of one size"),
        pytest.param(pyramid((3, 9), (9, 3)), id="neither within the other"),
        pytest.param(pyramid((3, 3), (5, 5), dilations=[2, 2]), id="one with gaps"),
        pytest.param(pyramid((3, 3), (5, 5), strides=[2, 2]), id="each second place"),
        pytest.param(pyramid((3, 3), (5, 5), pads=[2, 2, 2, 3]), id="padded more on one side"),
        pytest.param(pyramid((3, 3), (6, 6)), id="an even side"),
        pytest.param(pyramid((3, 3), (5, 5), auto_pad="SAME_UPPER"), id="padding left to the runtime"),
        pytest.param(pyramid((3, 3), (5, 5), indices=True), id="the places are told as well"),
        pytest.param(pyramid((3, 3), (5, 5), maker="DequantizeLinear"), id="pools of bytes"),
    ],
)
def test_what_only_looks_like_a_pyramid_is_left_alone(model: ModelProto) -> None:
    assert chained_pools(model.SerializeToString()) is None


WHOLE = pyramid((5, 5), (9, 9), (13, 13)).SerializeToString()


@given(st.binary(max_size=200) | st.integers(1, len(WHOLE)).map(lambda cut: WHOLE[:-cut]))
def test_what_is_no_onnx_file_or_breaks_off_is_left_alone_or_stays_one(content: bytes) -> None:
    chained = chained_pools(content)
    assert chained is None or load_from_string(chained).graph.node


def test_yoloxs_own_export_is_added_with_its_pyramid_chained_and_computes_the_same(
    material: Path, tmp_path: Path
) -> None:
    original = (material / "models" / "yolox_nano_416.onnx").read_bytes()
    chained = chained_pools(original)
    assert chained is not None
    picture = np.random.default_rng(2).uniform(0, 255, (1, 3, 416, 416)).astype(np.float32)
    (before,), (after,) = (
        onnxruntime.InferenceSession(content).run(None, {"images": picture}) for content in (original, chained)
    )
    assert np.array_equal(before, after)
    wishes = Wishes(name="nano", labels="coco80")
    added = add_model(material / "models" / "yolox_nano_416.onnx", wishes, tmp_path, OnnxEngine, replace=False)
    assert any("pyramid was chained" in note for note in added.notes)
    assert kernels(load(str(added.package.file_of(added.package.choose()))).SerializeToString()) == [[5, 5]] * 3
