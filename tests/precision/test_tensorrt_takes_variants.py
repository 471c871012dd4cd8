"""TensorRT's own parser and builder take what ``model prepare`` makes: TensorRT-RTX, which builds without a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tensorrt_parser import built, parse, trt

from agent.detection.add import Wishes, add_model
from agent.engines.onnx import OnnxEngine
from agent.precision.activations import METHODS, histograms
from agent.precision.calibration import sample
from agent.precision.graph import Graph, load_graph
from agent.precision.half import halved, overflowing
from agent.precision.quantise import quantised, share_of
from agent.precision.sparsity import pruned
from agent.precision.trial import inputs

MODELS = ("yolox_nano_416", "nanodet_m_320")


@pytest.fixture(scope="module", params=MODELS)
def variants(request: pytest.FixtureRequest, material: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Every kind of graph that is made of a model: by the functions of ``model prepare``, without its search."""
    name: str = request.param
    folder = tmp_path_factory.mktemp("models")
    model = material / "models" / f"{name}.onnx"
    package = add_model(model, Wishes(name=name, labels="coco80"), folder, OnnxEngine, replace=False).package
    width, height = package.input.size
    graph = load_graph(package.file_of(package.choose()), (1, 3, height, width))
    frames = sample([str(material / "images" / "coco" / "calibrate")], 3).frames
    tensors = sorted({node.data for node in graph.weighted})
    seen = histograms(graph.proto, tensors, lambda: inputs(package, frames))
    ranges = {tensor: one.threshold(METHODS[0]) for tensor, one in seen.items()}
    return _all_kinds(graph, ranges, [one.node for one in overflowing(graph, lambda: inputs(package, frames))])


def _all_kinds(graph: Graph, ranges: Mapping[str, float], kept: list[str]) -> dict[str, Any]:
    every = [node.name for node in graph.weighted]
    # Depthwise ones and each third of the others stay float: borders between int8 and float everywhere.
    some = [node.name for index, node in enumerate(graph.weighted) if not node.depthwise and index % 3]
    assert share_of(graph, some) < 1
    return {
        "fp16": halved(graph, kept),
        "fp16 with float32 islands": halved(graph, every[3::7]),
        "int8": quantised(graph, every, ranges),
        "mixed": quantised(graph, some, ranges),
        "sparse int8": quantised(pruned(graph), every, ranges),
    }


def test_its_parser_takes_every_kind_of_variant_of_both_models(variants: Mapping[str, Any]) -> None:
    for kind, model in variants.items():
        parsed = parse(model)
        assert parsed.errors == (), kind
        assert (parsed.network.num_inputs, parsed.network.get_input(0).dtype) == (1, trt.DataType.FLOAT), kind
        types = {parsed.network.get_output(index).dtype for index in range(parsed.network.num_outputs)}
        assert types == {trt.DataType.FLOAT}, "float32 at both ends, whatever is in between"


def test_the_int8_graph_is_int8_in_tensorrt_too(variants: Mapping[str, Any]) -> None:
    network = parse(variants["int8"]).network
    kinds = [network.get_layer(index).type for index in range(network.num_layers)]
    written = [node.op_type for node in variants["int8"].graph.node]
    assert kinds.count(trt.LayerType.QUANTIZE) == written.count("QuantizeLinear")
    assert kinds.count(trt.LayerType.DEQUANTIZE) == written.count("DequantizeLinear")


@pytest.mark.parametrize("kind", ["fp16", "int8", "mixed"])
def test_its_builder_makes_a_plan_for_boards_that_are_not_here(variants: Mapping[str, Any], kind: str) -> None:
    assert len(built(parse(variants[kind]))) > 1 << 20


def test_a_quantised_bias_is_what_it_refuses_and_what_is_never_made(variants: Mapping[str, Any]) -> None:
    """Why biases stay float: the usual recipe's int32 biases are no graph for TensorRT."""
    usual = onnx.ModelProto()
    usual.CopyFrom(variants["int8"])
    node = next(one for one in usual.graph.node if one.op_type == "Conv" and len(one.input) == 3)
    bias = next(numpy_helper.to_array(one) for one in usual.graph.initializer if one.name == node.input[2])
    usual.graph.initializer.extend(
        [
            numpy_helper.from_array(np.round(bias / 1e-4).astype(np.int32), "bias_int32"),
            numpy_helper.from_array(np.float32(1e-4), "bias_scale"),
        ]
    )
    usual.graph.node.insert(0, helper.make_node("DequantizeLinear", ["bias_int32", "bias_scale"], ["bias_restored"]))
    node = next(one for one in usual.graph.node if one.output[0] == node.output[0])
    node.input[2] = "bias_restored"
    onnx.checker.check_model(usual)
    refusal = parse(usual)
    told = [*refusal.errors, *refusal.log.lines]
    assert refusal.errors, "TensorRT takes int32 biases now: they need not stay float any more"
    assert any("int32" in line.lower() for line in told), told
    for model in variants.values():
        assert all(one.data_type != TensorProto.INT32 for one in model.graph.initializer)
