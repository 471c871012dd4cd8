"""Tiny ONNX graphs with known outputs, so that tests need no real model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def brightness_graph(
    path: Path,
    output: NDArray[np.float32],
    weight: NDArray[np.float32] | None = None,
    *,
    size: tuple[int, int] = (64, 48),
    batch: int | str = 1,
    open_size: bool = False,
    metadata: Mapping[str, str] | None = None,
    external: bool = False,
) -> Path:
    """A graph ``images [batch, 3, H, W] -> output [batch, *output.shape]``: ``output + weight * mean(picture)``."""
    from onnx import TensorProto, helper, numpy_helper

    weight = np.zeros_like(output) if weight is None else weight
    height, width = ("height", "width") if open_size else (size[1], size[0])
    one_each = np.array([-1] + [1] * output.ndim, np.int64)
    constants: dict[str, NDArray[Any]] = {"shape": one_each, "weight": weight[None], "base": output[None]}
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Reshape", ["mean", "shape"], ["level"]),
        helper.make_node("Mul", ["level", "weight"], ["change"]),
        helper.make_node("Add", ["change", "base"], ["output"]),
    ]
    return save(
        path,
        nodes,
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, height, width])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [batch, *output.shape])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
        metadata,
        external=external,
    )


def save(
    path: Path,
    nodes: list[Any],
    inputs: list[Any],
    outputs: list[Any],
    initializers: list[Any] | None = None,
    metadata: Mapping[str, str] | None = None,
    *,
    opset: int = 17,
    external: bool = False,
) -> Path:
    """Write a graph as it is, without checking it."""
    import onnx
    from onnx import helper

    graph = helper.make_graph(nodes, "tiny", inputs, outputs, initializers or [])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 8
    helper.set_model_props(model, dict(metadata or {}))
    onnx.save(model, str(path), save_as_external_data=external, location=path.stem + ".bin", size_threshold=64)
    return path


def classifier_graph(path: Path) -> Path:
    """``[1, 3, 48, 64] -> [1, 1000]``: no detector."""
    return brightness_graph(path, np.zeros(1000, np.float32))


def float_value(name: str, shape: list[int | str] | None) -> Any:
    """A float32 input or output."""
    from onnx import TensorProto, helper

    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def node(operator: str, inputs: list[str], outputs: list[str], **attributes: Any) -> Any:
    """One node."""
    from onnx import helper

    return helper.make_node(operator, inputs, outputs, **attributes)
