"""2:4 structured sparsity by magnitude, for TensorRT's SPARSE_WEIGHTS: of four neighbouring weights two become zero."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from agent.precision.graph import Graph

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agent.precision.graph import Weighted


def pruned(graph: Graph) -> Graph:
    """The graph with the smaller two of each four weights zeroed along the input channels, where those are a multiple
    of four (NVIDIA, "Accelerating Sparse Deep Neural Networks", 2021)."""
    import onnx
    from onnx import numpy_helper

    model = onnx.ModelProto()
    model.CopyFrom(graph.proto)
    constants = dict(graph.constants)
    for node in graph.weighted:
        constants[node.weight] = two_of_four(constants[node.weight], _inner(node))
    weights = {node.weight for node in graph.weighted}
    for tensor in model.graph.initializer:
        if tensor.name in weights:
            tensor.CopyFrom(numpy_helper.from_array(constants[tensor.name], tensor.name))
    return Graph(model, constants, graph.weighted)


def two_of_four(weight: NDArray[np.generic], axis: int) -> NDArray[np.generic]:
    """Weights with the two smallest magnitudes of each four along ``axis`` zeroed; unchanged where fours do not fit."""
    if weight.ndim < 2 or weight.shape[axis] % 4:
        return weight
    last = np.moveaxis(weight, axis, -1)
    fours = last.reshape(*last.shape[:-1], -1, 4).copy()
    np.put_along_axis(fours, np.argsort(np.abs(fours), axis=-1, kind="stable")[..., :2], 0, -1)
    return np.ascontiguousarray(np.moveaxis(fours.reshape(last.shape), -1, axis))


def _inner(node: Weighted) -> int:
    return 1 - node.axis
