"""The main graph of an ONNX file, as far as changing it needs: its nodes, its constants, and who uses what.

What is to be changed in it is others' business.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agent.engines.onnx_file import (
    ATTRIBUTE_GRAPH,
    ATTRIBUTE_GRAPHS,
    ATTRIBUTE_NAME,
    ATTRIBUTE_NUMBER,
    ATTRIBUTE_NUMBERS,
    ATTRIBUTE_TENSOR,
    ATTRIBUTE_TEXT,
    ATTRIBUTE_TYPE,
    GRAPH_INITIALIZER,
    GRAPH_NODE,
    GRAPH_OUTPUT,
    GRAPH_VALUE_INFO,
    NODE_ATTRIBUTE,
    NODE_INPUT,
    NODE_OPERATOR,
    NODE_OUTPUT,
    TENSOR_DIMS,
    TENSOR_FLOATS,
    TENSOR_INT32S,
    TENSOR_INT64S,
    TENSOR_NAME,
    TENSOR_RAW,
    TENSOR_TYPE,
    TYPE_INTS,
    VALUE_NAME,
)
from agent.engines.wire import Field, fields, first_text, message, numbers, spans, text, written, written_number

FLOATS: Mapping[int, np.dtype[Any]] = {1: np.dtype("<f4"), 10: np.dtype("<f2")}
INTEGERS: Mapping[int, np.dtype[Any]] = {6: np.dtype("<i4"), 7: np.dtype("<i8")}


class Node(NamedTuple):
    """``numbers``: its attributes that are integers or lists of them; ``tensors``: those that are tensors."""

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    numbers: Mapping[str, tuple[int, ...]]
    texts: Mapping[str, str]
    tensors: Mapping[str, memoryview]


class Graph:
    """``nodes``: by their place among the parts of the message. ``maker``: the node that makes a value, by its name.

    Raises ValueError for a message that is none, or a graph that has others within it.
    """

    def __init__(self, data: memoryview) -> None:
        self._parts = list(spans(data))
        self._outputs = [first_text(message(part.value), VALUE_NAME) for _, part in self._of(GRAPH_OUTPUT)]
        self._tensors = {
            first_text(message(part.value), TENSOR_NAME): message(part.value) for _, part in self._of(GRAPH_INITIALIZER)
        }
        self.nodes = {at: _node(message(part.value)) for at, part in self._of(GRAPH_NODE)}
        self.maker = {name: node for node in self.nodes.values() for name in node.outputs}
        constants = [node for node in self.nodes.values() if node.operator == "Constant" and "value" in node.tensors]
        self._tensors |= {node.outputs[0]: node.tensors["value"] for node in constants}

    def uses(self) -> Counter[str]:
        """How often each value is used, by nodes and as an output."""
        return self._used_by(self.nodes.values())

    def integers(self, name: str) -> tuple[int, ...]:
        """A constant of integers; nothing where it is none."""
        array = _array(self._tensors[name], INTEGERS) if name in self._tensors else None
        return () if array is None else tuple(array.ravel().tolist())

    def floats(self, name: str) -> NDArray[np.generic] | None:
        """A constant of float32 or float16; None where it is none."""
        return _array(self._tensors[name], FLOATS) if name in self._tensors else None

    def rewritten(self, at: int, node: Node, lengths: Mapping[str, Iterable[int]]) -> bytes:
        """The node at that place with the inputs of ``node`` and other ``lengths``, attributes that are lists of
        integers, as a part of the graph's message."""
        parts = [written(NODE_INPUT, name.encode()) for name in node.inputs]
        for field in spans(message(self._parts[at].value)):
            told = field.number == NODE_ATTRIBUTE and first_text(message(field.value), ATTRIBUTE_NAME) in lengths
            if field.number != NODE_INPUT and not told:
                parts.append(bytes(field.raw))
        for name, values in lengths.items():
            listed = b"".join(written_number(ATTRIBUTE_NUMBERS, value) for value in values)
            attribute = written(ATTRIBUTE_NAME, name.encode()) + listed + written_number(ATTRIBUTE_TYPE, TYPE_INTS)
            parts.append(written(NODE_ATTRIBUTE, attribute))
        return written(GRAPH_NODE, b"".join(parts))

    def changed(self, nodes: Mapping[int, Node], parts: Mapping[int, bytes]) -> bytes:
        """The graph's message with other ``nodes`` at their places, written as these ``parts``, and without what nobody
        needs any more."""
        used, left = self.uses(), {**self.nodes, **nodes}
        dead: set[str] = set()
        while gone := used.keys() - self._used_by(left.values()).keys() - dead:
            dead |= gone
            left = {at: node for at, node in left.items() if not dead.issuperset(node.outputs)}
        names = {GRAPH_INITIALIZER: TENSOR_NAME, GRAPH_VALUE_INFO: VALUE_NAME}
        kept = []
        for at, part in enumerate(self._parts):
            if part.number == GRAPH_NODE and at not in left:
                continue
            if part.number in names and first_text(message(part.value), names[part.number]) in dead:
                continue
            kept.append(parts.get(at, part.raw))
        return b"".join(kept)

    def _of(self, number: int) -> list[tuple[int, Field]]:
        return [(at, part) for at, part in enumerate(self._parts) if part.number == number]

    def _used_by(self, nodes: Iterable[Node]) -> Counter[str]:
        return Counter([*self._outputs, *(name for node in nodes for name in node.inputs)])


def initializer(name: str, array: NDArray[np.generic]) -> bytes:
    """A constant of float32 or float16 as a part of the graph's message."""
    kind = next(number for number, dtype in FLOATS.items() if dtype == array.dtype)
    dims = b"".join(written_number(TENSOR_DIMS, side) for side in array.shape)
    head = dims + written_number(TENSOR_TYPE, kind)
    return written(GRAPH_INITIALIZER, head + written(TENSOR_NAME, name.encode()) + written(TENSOR_RAW, array.tobytes()))


def _node(data: memoryview) -> Node:
    """Raises ValueError for one that holds graphs of its own: those may use any name of the graph around them."""
    inputs, outputs, operator = [], [], ""
    integers: dict[str, tuple[int, ...]] = {}
    texts: dict[str, str] = {}
    tensors: dict[str, memoryview] = {}
    for number, value in fields(data):
        if number == NODE_INPUT:
            inputs.append(text(value))
        elif number == NODE_OUTPUT:
            outputs.append(text(value))
        elif number == NODE_OPERATOR:
            operator = text(value)
        elif number == NODE_ATTRIBUTE:
            name = first_text(message(value), ATTRIBUTE_NAME)
            for index, one in fields(message(value)):
                if index in (ATTRIBUTE_GRAPH, ATTRIBUTE_GRAPHS):
                    raise ValueError("a graph within the graph")
                if index in (ATTRIBUTE_NUMBER, ATTRIBUTE_NUMBERS):
                    integers[name] = (*integers.get(name, ()), *numbers(one))
                elif index == ATTRIBUTE_TEXT:
                    texts[name] = text(one)
                elif index == ATTRIBUTE_TENSOR:
                    tensors[name] = message(one)
    return Node(operator, tuple(inputs), tuple(outputs), integers, texts, tensors)


def _array(data: memoryview, kinds: Mapping[int, np.dtype[Any]]) -> NDArray[np.generic] | None:
    """A tensor of one of these types; None where it is of another, or its values lie elsewhere."""
    dims: list[int] = []
    integers: list[int] = []
    kind, raw = 0, bytearray()
    for number, value in fields(data):
        if number == TENSOR_DIMS:
            dims += numbers(value)
        elif number == TENSOR_TYPE and isinstance(value, int):
            kind = value
        elif number in (TENSOR_RAW, TENSOR_FLOATS):
            raw += message(value)
        elif number in (TENSOR_INT32S, TENSOR_INT64S):
            integers += numbers(value)
    if kind not in kinds or (integers and kinds is FLOATS):  # float16 may stand as integers, which none here does
        return None
    array = np.array(integers, kinds[kind]) if integers else np.frombuffer(bytes(raw), kinds[kind])
    return array.reshape(dims) if array.size == np.prod(dims, dtype=np.int64) else None
