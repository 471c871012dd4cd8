"""An ONNX graph as the precision room sees it: which nodes multiply, how much, and with which constant weights.

Needs the onnx package. What is done to a graph is quantise.py's and half.py's.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from agent.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

PER_CHANNEL_OPSET = 13
"""The first opset whose QuantizeLinear knows an axis."""


class Weighted(NamedTuple):
    """A node that multiplies a tensor with constant weights.

    ``axis``: of the weights, along which the output channels lie. ``macs``: multiply-accumulates for one picture.
    """

    name: str
    data: str
    weight: str
    axis: int
    macs: int
    depthwise: bool


class Graph(NamedTuple):
    """A loaded model: ``proto`` (an onnx.ModelProto whose nodes all have names), its constants, its weighted nodes in
    the order of the graph."""

    proto: Any
    constants: Mapping[str, NDArray[np.generic]]
    weighted: tuple[Weighted, ...]

    @property
    def input_dtype(self) -> str:
        """Of the picture: numpy's name."""
        from onnx import helper

        return str(helper.tensor_dtype_to_np_dtype(self.proto.graph.input[0].type.tensor_type.elem_type).name)

    @property
    def macs(self) -> int:
        """All multiply-accumulates of one picture."""
        return sum(node.macs for node in self.weighted)


def load_graph(path: Path, input_shape: tuple[int, ...]) -> Graph:
    """Read a graph, name its nodes, raise its opset to 13 where it is older, work out the shapes.

    ``input_shape``: of one picture, ``(1, 3, H, W)`` or ``(1, H, W, 3)``. Raises ModelError without the onnx package
    and for what is no graph, or one of int8 already.
    """
    onnx = require_onnx(path)
    try:
        model = onnx.load(str(path))
        if opset_of(model) < PER_CHANNEL_OPSET:
            model = onnx.version_converter.convert_version(model, PER_CHANNEL_OPSET)
    except Exception as error:  # noqa: BLE001 - protobuf's, onnx's and the system's errors share no base class
        raise ModelError(f"{path}: not a graph that can be converted: {' '.join(str(error).split())[:300]}") from None
    _refuse_quantised(path, model)
    _drop_constant_inputs(model)
    for index, node in enumerate(model.graph.node):
        node.name = f"{index:04d}_{node.op_type}"
    constants = _constants(model)
    return Graph(model, constants, tuple(_weighted(model, constants, _shapes(model, input_shape))))


def require_onnx(path: Path) -> Any:
    """The onnx package. Raises ModelError that says how to get it."""
    try:
        import onnx
        import onnx.version_converter
    except ImportError:
        raise ModelError(f"{path}: this needs the onnx package: pip install 'edgewarden[model]'") from None
    return onnx


def opset_of(model: Any) -> int:
    """The version of the default operator set."""
    return max((int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=1)


def _refuse_quantised(path: Path, model: Any) -> None:
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "ConvInteger"):
            raise ModelError(
                f"{path}: is quantised already (node {node.name} is a {node.op_type}); give the fp32 graph"
            )


def _drop_constant_inputs(model: Any) -> None:
    """Old exporters list every weight as an input with a default, which forbids changing its type."""
    constant = {tensor.name for tensor in model.graph.initializer}
    pictures = [value for value in model.graph.input if value.name not in constant]
    del model.graph.input[:]
    model.graph.input.extend(pictures)


def _constants(model: Any) -> dict[str, NDArray[np.generic]]:
    from onnx import numpy_helper

    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            found[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    return found


def _shapes(model: Any, input_shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors for one picture, as far as they can be worked out."""
    import onnx

    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    del fixed.graph.value_info[:]
    names = {tensor.name for tensor in fixed.graph.initializer}
    picture = next(value for value in fixed.graph.input if value.name not in names)
    for axis, length in zip(picture.type.tensor_type.shape.dim, input_shape, strict=True):
        axis.dim_value = length
    for value in fixed.graph.output:
        value.type.tensor_type.ClearField("shape")
    known = onnx.shape_inference.infer_shapes(fixed, data_prop=True).graph
    values = (*known.input, *known.value_info, *known.output)
    return {value.name: tuple(axis.dim_value for axis in value.type.tensor_type.shape.dim) for value in values}


def _weighted(
    model: Any, constants: Mapping[str, NDArray[np.generic]], shapes: Mapping[str, tuple[int, ...]]
) -> list[Weighted]:
    found = []
    for node in model.graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul") or node.input[1] not in constants:
            continue
        weight = constants[node.input[1]]
        output = shapes.get(node.output[0], ())
        if node.op_type == "Conv":
            # Each output element costs the products of one filter: channels of its group x kernel.
            macs = int(np.prod(output, dtype=np.int64)) * int(np.prod(weight.shape[1:]))
            found.append(Weighted(node.name, node.input[0], node.input[1], 0, macs, weight.shape[1] == 1))
        elif weight.ndim == 2:
            across = int(_attribute(node, "transB", 0)) if node.op_type == "Gemm" else 0
            axis, inner = (0, weight.shape[1]) if across else (1, weight.shape[0])
            macs = int(np.prod(output, dtype=np.int64)) * inner
            found.append(Weighted(node.name, node.input[0], node.input[1], axis, macs, False))
    return found


def _attribute(node: Any, name: str, default: Any) -> Any:
    from onnx import helper

    return next((helper.get_attribute_value(one) for one in node.attribute if one.name == name), default)
