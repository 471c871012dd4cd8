"""A graph of fixed batch to one that takes any number of pictures, proven on the graph itself.

Exporters write a batch of 1 into the input, the outputs and the shapes of Reshape nodes; all else follows from those.
Needs the onnx package.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from agent.engines.onnx import OnnxEngine
from agent.errors import AgentError, ModelError
from agent.precision.graph import require_onnx

AXIS = "batch"
PICTURES = 2
TOLERANCE = 1e-4
"""Of the largest value of an output: what kernels for another batch may differ by."""


def open_batch(path: Path, target: Path) -> None:
    """Write to ``target`` the graph with an open batch axis.

    Raises ModelError where a batch of two does not give what its pictures give one by one.
    """
    onnx = require_onnx(path)
    try:
        model = onnx.load(str(path))
    except Exception as error:  # noqa: BLE001 - protobuf's and the system's errors share no base class
        raise ModelError(f"{path}: not a graph: {' '.join(str(error).split())[:200]}") from None
    _open(model)
    onnx.save(model, str(target))
    _prove(path, target)


def _open(model: Any) -> None:
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    constants |= {
        node.output[0]: node.attribute[0].t
        for node in model.graph.node
        if node.op_type == "Constant" and node.attribute[0].name == "value"
    }
    inputs = [value for value in model.graph.input if value.name not in constants]
    batch = inputs[0].type.tensor_type.shape.dim[0].dim_value
    for value in (*inputs, *model.graph.output):
        axes = value.type.tensor_type.shape.dim
        if len(axes) and axes[0].dim_value == batch:
            axes[0].dim_param = AXIS
    del model.graph.value_info[:]
    for number, node in enumerate(model.graph.node):
        if node.op_type == "Reshape" and node.input[1] in constants:
            _open_reshape(model, node, constants[node.input[1]], batch, number)


def _open_reshape(model: Any, node: Any, constant: Any, batch: int, number: int) -> None:
    """0 stands for the length that the data has there."""
    from onnx import numpy_helper

    shape = numpy_helper.to_array(constant).copy()
    if shape.ndim != 1 or not shape.size or shape[0] != batch:
        return
    shape[0] = 0
    name = f"{node.input[1]}_open_{number}"
    model.graph.initializer.append(numpy_helper.from_array(shape, name))
    node.input[1] = name


def _prove(path: Path, target: Path) -> None:
    fixed, opened = OnnxEngine(path), None
    try:
        shape = [axis or 64 for axis in fixed.input.shape]
        pictures = np.random.default_rng(1).random((PICTURES * shape[0], *shape[1:])) * 255
        batch = pictures.astype(fixed.input.dtype)
        opened = OnnxEngine(target)
        together = opened.collect(opened.submit(batch))
        parts = [dict(fixed.collect(fixed.submit(batch[at : at + shape[0]]))) for at in range(0, len(batch), shape[0])]
        for name, values in together.items():
            alone = np.concatenate([part[name] for part in parts])
            reach = TOLERANCE * max(1.0, float(np.abs(alone).max(initial=0.0)))
            if alone.shape != values.shape or not np.allclose(alone, values, rtol=1e-3, atol=reach):
                raise ModelError(f"output {name} of two pictures is not that of each alone")
    except AgentError as error:
        target.unlink(missing_ok=True)
        raise ModelError(f"{path}: its batch cannot be opened: {error}; export it with a dynamic batch") from None
    finally:
        fixed.close()
        if opened is not None:
            opened.close()
