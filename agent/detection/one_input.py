"""Graphs that ask for the picture's size as a second input: the network's own is written into a copy.

The detector maps boxes back to each picture itself, so to the graph every picture is as large as its input.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from agent.errors import ModelError

SIZE_INPUT = "orig_target_sizes"
"""RT-DETR's and D-FINE's name for it: int64 ``[N, 2]``, width and height."""


@contextlib.contextmanager
def one_input(path: Path, size: tuple[int, int] | None = None) -> Iterator[Path]:
    """The graph with its picture input alone: ``path`` itself, or a copy for the time of the context.

    ``size``: of the input, where the graph takes any. Raises ModelError.
    """
    if not path.is_file() or SIZE_INPUT.encode() not in path.read_bytes():
        yield path
        return
    model = _load(path)
    inputs = {value.name: value for value in model.graph.input}
    if SIZE_INPUT not in inputs or len(inputs) != 2:
        yield path
        return
    picture = next(value for name, value in inputs.items() if name != SIZE_INPUT)
    _write(model, inputs[SIZE_INPUT], size or _size_of(path, picture))
    with tempfile.TemporaryDirectory(prefix="edgewarden-") as folder:
        copy = Path(folder) / path.name
        copy.write_bytes(model.SerializeToString())
        yield copy


def _load(path: Path) -> Any:
    try:
        import onnx
    except ImportError:
        raise ModelError(
            f"{path}: has a second input, {SIZE_INPUT}; writing the size into it needs the onnx package: "
            "pip install 'edgewarden[model]'"
        ) from None
    try:
        return onnx.load(str(path))
    except Exception as error:  # noqa: BLE001 - protobuf's, onnx's and the system's errors share no base class
        raise ModelError(f"{path}: cannot be read: {error}") from None


def _size_of(path: Path, picture: Any) -> tuple[int, int]:
    axes = [axis.dim_value for axis in picture.type.tensor_type.shape.dim]
    if len(axes) != 4 or not all(axes[2:]):
        raise ModelError(f"{path}: takes pictures of any size; choose one with --size WIDTHxHEIGHT")
    return axes[3], axes[2]


def _write(model: Any, size_input: Any, size: tuple[int, int]) -> None:
    """The input becomes a constant of one row, which every picture of a batch shares."""
    from onnx import helper, numpy_helper

    dtype = helper.tensor_dtype_to_np_dtype(size_input.type.tensor_type.elem_type)
    model.graph.initializer.append(numpy_helper.from_array(np.array([size], dtype), SIZE_INPUT))
    model.graph.input.remove(size_input)
