"""A float graph to one whose chosen nodes compute in int8: QuantizeLinear and DequantizeLinear around their inputs.

Symmetric, weights one step an output channel, activations one a tensor. TensorRT refuses a DequantizeLinear of int32,
so biases stay float; older ones refuse it of any constant, so weights are stored as floats, rounded already, behind a
pair of their own. ONNX Runtime makes the same int8 of them when it loads. Which nodes and steps is the caller's choice.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from agent.precision.activations import LEVELS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agent.precision.graph import Graph, Weighted

LEAST_STEP = 1e-8


def quantised(graph: Graph, chosen: Collection[str], thresholds: Mapping[str, float]) -> Any:
    """An onnx.ModelProto in which the nodes named in ``chosen`` take int8 data and weights.

    ``thresholds``: by tensor, the magnitude that becomes 127. Equal arguments give equal bytes.
    """
    import onnx

    model = onnx.ModelProto()
    model.CopyFrom(graph.proto)
    nodes = {node.name: node for node in model.graph.node}
    made: dict[str, list[Any]] = {}
    for weighted in graph.weighted:
        if weighted.name not in chosen:
            continue
        node = nodes[weighted.name]
        node.input[0] = _activation(model, weighted.data, thresholds[weighted.data], made)
        node.input[1] = _weights(model, weighted, graph.constants[weighted.weight], made)
    _insert(model, made)
    _drop_unused(model)
    return model


def share_of(graph: Graph, chosen: Collection[str]) -> float:
    """Which share of the multiply-accumulates the chosen nodes make, 0..1."""
    return sum(node.macs for node in graph.weighted if node.name in chosen) / max(1, graph.macs)


def steps_of(weight: NDArray[np.generic], axis: int) -> NDArray[np.float32]:
    """One step an output channel: its largest magnitude becomes 127."""
    others = tuple(index for index in range(weight.ndim) if index != axis)
    largest = np.abs(weight).max(axis=others)
    steps: NDArray[np.float32] = np.maximum(largest / LEVELS, LEAST_STEP).astype(np.float32)
    return steps


def _activation(model: Any, tensor: str, threshold: float, made: dict[str, list[Any]]) -> str:
    from onnx import helper

    restored = f"{tensor}_dequantised"
    if restored not in made:
        step = np.float32(max(threshold / LEVELS, LEAST_STEP))
        scale, zero = _constant(model, f"{tensor}_scale", step), _constant(model, f"{tensor}_zero", np.int8(0))
        whole = f"{tensor}_int8"
        made[restored] = [
            helper.make_node("QuantizeLinear", [tensor, scale, zero], [whole], f"{tensor}_QuantizeLinear"),
            helper.make_node("DequantizeLinear", [whole, scale, zero], [restored], f"{tensor}_DequantizeLinear"),
        ]
    return restored


def _weights(model: Any, weighted: Weighted, weight: NDArray[np.generic], made: dict[str, list[Any]]) -> str:
    from onnx import helper

    name = weighted.weight
    restored = f"{name}_dequantised"
    if restored not in made:
        steps = steps_of(weight, weighted.axis)
        shape = [-1 if axis == weighted.axis else 1 for axis in range(weight.ndim)]
        scales = steps.reshape(shape)
        rounded = np.clip(np.round(weight.astype(np.float32) / scales), -LEVELS, LEVELS) * scales
        stored = _constant(model, f"{name}_rounded", rounded.astype(np.float32))
        scale = _constant(model, f"{name}_scale", steps)
        zero = _constant(model, f"{name}_zero", np.zeros(len(steps), np.int8))
        whole, axis = f"{name}_int8", weighted.axis
        made[restored] = [
            helper.make_node("QuantizeLinear", [stored, scale, zero], [whole], f"{name}_QuantizeLinear", axis=axis),
            helper.make_node(
                "DequantizeLinear", [whole, scale, zero], [restored], f"{name}_DequantizeLinear", axis=axis
            ),
        ]
    return restored


def _constant(model: Any, name: str, value: Any) -> str:
    from onnx import numpy_helper

    model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return name


def _insert(model: Any, made: Mapping[str, list[Any]]) -> None:
    """Put the new nodes before the first one that needs them, so that the order stays topological."""
    waiting = dict(made)
    ordered: list[Any] = []
    for node in model.graph.node:
        for name in node.input:
            ordered.extend(waiting.pop(name, ()))
        ordered.append(node)
    del model.graph.node[:]
    model.graph.node.extend(ordered)


def _drop_unused(model: Any) -> None:
    used = {name for node in model.graph.node for name in node.input} | {value.name for value in model.graph.output}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    nodes = [node for node in model.graph.node if node.op_type != "Constant" or node.output[0] in used]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    inputs = [value for value in model.graph.input if value.name in used]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
