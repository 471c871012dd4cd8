"""A float32 graph to float16 weights and arithmetic, its inputs and outputs left float32.

Nodes whose real activations do not fit float16 stay float32, by name and with the reason.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from agent.errors import ModelError
from agent.precision.activations import runner

if TYPE_CHECKING:
    from agent.precision.activations import Pictures
    from agent.precision.graph import Graph

FLOAT = 1
"""ONNX's number for float32, part of the format."""
LARGEST = 65504.0
MARGIN = 0.5
"""Of float16's largest number, the part that an activation of the calibration pictures may reach: others are larger."""


class Kept(NamedTuple):
    """A node that stays float32, and why."""

    node: str
    reason: str


def halved(graph: Graph, kept: Iterable[str] = ()) -> Any:
    """An onnx.ModelProto in float16, with the nodes named in ``kept`` in float32. Raises ModelError."""
    import onnx

    try:
        from onnxconverter_common.float16 import convert_float_to_float16
    except ImportError:
        raise ModelError("fp16 needs the onnxconverter-common package: pip install 'edgewarden[model]'") from None
    model = onnx.ModelProto()
    model.CopyFrom(graph.proto)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of every weight below float16's smallest, which rounds to that
        floats = {*kept, *_casts_to_float(model)}
        return convert_float_to_float16(model, keep_io_types=True, node_block_list=sorted(floats))


def _casts_to_float(model: Any) -> list[str]:
    """A Cast says itself that it makes float32, which the converter leaves so; what follows casts again."""
    return [
        node.name
        for node in model.graph.node
        if node.op_type == "Cast" and any(one.name == "to" and one.i == FLOAT for one in node.attribute)
    ]


def overflowing(graph: Graph, pictures: Pictures) -> list[Kept]:
    """The nodes that read, hold or write a number too large for float16 on these pictures."""
    too_large = _too_large(largest_of(graph, pictures))
    for name, value in graph.constants.items():
        if np.issubdtype(value.dtype, np.floating) and np.abs(value[np.isfinite(value)]).max(initial=0.0) > LARGEST:
            too_large[name] = float(np.abs(value[np.isfinite(value)]).max())
    kept = []
    for node in graph.proto.graph.node:
        worst = max((too_large[name] for name in (*node.input, *node.output) if name in too_large), default=0.0)
        if worst:
            kept.append(Kept(node.name, f"reaches {worst:.3g}, float16 ends at {LARGEST:.0f}"))
    return kept


def largest_of(graph: Graph, pictures: Pictures) -> dict[str, float]:
    """The largest magnitude that each float tensor of the graph has on these pictures."""
    tensors = [name for node in graph.proto.graph.node for name in node.output if name]
    run = runner(graph.proto, tensors)
    tops = dict.fromkeys(tensors, 0.0)
    for picture in pictures():
        for name, value in run(picture).items():
            if np.issubdtype(value.dtype, np.floating):
                tops[name] = max(tops[name], float(np.abs(value).max(initial=0.0)))
    return tops


def _too_large(tops: Mapping[str, float]) -> dict[str, float]:
    return {name: top for name, top in tops.items() if not top <= LARGEST * MARGIN}
