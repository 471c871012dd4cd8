"""A focus at a network's beginning, folded into the convolution behind it: the same sums in fewer steps.

YOLOX and the first YOLOv5 take each second pixel of a picture in four ways (strided slices), stack them, and convolve
that. A convolution of twice the size and stride over the picture itself computes the same, and nothing is copied:
ONNX Runtime's YOLOX-nano takes 12 % less time so. What does not look exactly so is left alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
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
    with_graph,
)
from agent.engines.wire import Field, fields, first_text, message, numbers, spans, text, written, written_number

FLOATS: Mapping[int, np.dtype[Any]] = {1: np.dtype("<f4"), 10: np.dtype("<f2")}
INTEGERS: Mapping[int, np.dtype[Any]] = {6: np.dtype("<i4"), 7: np.dtype("<i8")}
TO_THE_END = 2**31 - 1
"""What exporters write for "as far as it goes" is at least that."""
HEIGHT, WIDTH = 2, 3


class _Node(NamedTuple):
    """``numbers``: its attributes that are integers or lists of them; ``tensors``: those that are tensors."""

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    numbers: Mapping[str, tuple[int, ...]]
    texts: Mapping[str, str]
    tensors: Mapping[str, memoryview]


class _Focus(NamedTuple):
    """``picture``: what is sliced. ``phases``: row and column (0 or 1) at which each of the four slices begins."""

    picture: str
    phases: tuple[tuple[int, int], ...]


def folded_focus(content: bytes) -> bytes | None:
    """An ONNX file's bytes with each focus folded; None where there is none, or where it is no ONNX file."""
    return with_graph(content, lambda graph: _Graph(graph).folded())


class _Graph:
    """The main graph, as far as this needs to understand it."""

    def __init__(self, data: memoryview) -> None:
        self._parts = list(spans(data))
        self._nodes = {at: _node(message(part.value)) for at, part in self._of(GRAPH_NODE)}
        self._outputs = {first_text(message(part.value), VALUE_NAME) for _, part in self._of(GRAPH_OUTPUT)}
        self._maker = {name: node for node in self._nodes.values() for name in node.outputs}
        self._tensors = {
            first_text(message(part.value), TENSOR_NAME): message(part.value) for _, part in self._of(GRAPH_INITIALIZER)
        }
        constants = [node for node in self._nodes.values() if node.operator == "Constant" and "value" in node.tensors]
        self._tensors |= {node.outputs[0]: node.tensors["value"] for node in constants}

    def folded(self) -> bytes | None:
        """With each focus folded; None where there is none."""
        used = self._uses(self._nodes.values())
        new: dict[int, bytes] = {}
        for at, node in list(self._nodes.items()):
            focus = self._focus_before(node, used)
            weights = self._weights(node) if focus is not None else None
            if focus is not None and weights is not None and weights.shape[1] % 4 == 0:
                name = f"{node.outputs[0]}.folded_weights"
                changed = node._replace(inputs=(focus.picture, name, *node.inputs[2:]))
                new[at] = written(GRAPH_NODE, _convolution(message(self._parts[at].value), changed))
                new[at] += written(GRAPH_INITIALIZER, _tensor(name, _unfolded(weights, focus.phases)))
                self._nodes[at] = changed
        return self._put_together(new, used) if new else None

    def _of(self, number: int) -> list[tuple[int, Field]]:
        return [(at, part) for at, part in enumerate(self._parts) if part.number == number]

    def _uses(self, nodes: Iterable[_Node]) -> Counter[str]:
        return Counter([*self._outputs, *(name for node in nodes for name in node.inputs)])

    def _focus_before(self, node: _Node, used: Mapping[str, int]) -> _Focus | None:
        """The focus that a plain convolution alone takes."""
        stack = self._maker.get(node.inputs[0]) if node.operator == "Conv" else None
        if stack is None or stack.operator != "Concat" or used[node.inputs[0]] != 1 or not _is_plain(node):
            return None
        if stack.numbers.get("axis") not in ((1,), (-3,)) or len(stack.inputs) != 4:
            return None
        slices = [self._phase(name) for name in stack.inputs]
        pictures = {one[0] for one in slices if one is not None}
        phases = tuple(one[1] for one in slices if one is not None)
        return _Focus(pictures.pop(), phases) if len(pictures) == 1 and len(set(phases)) == 4 else None

    def _phase(self, name: str) -> tuple[str, tuple[int, int]] | None:
        """What a chain of slices takes each second row and column of, and from which on."""
        begins: dict[int, int] = {}
        while (node := self._maker.get(name)) is not None and node.operator == "Slice":
            given = [self._integers(one) for one in node.inputs[1:]]
            if len(given) != 4:
                return None
            for start, end, axis, step in zip(*given, strict=True):
                axis = axis + 4 if axis < 0 else axis
                if (
                    axis not in (HEIGHT, WIDTH)
                    or axis in begins
                    or end < TO_THE_END
                    or step != 2
                    or start not in (0, 1)
                ):
                    return None
                begins[axis] = start
            name = node.inputs[0]
        return (name, (begins[HEIGHT], begins[WIDTH])) if len(begins) == 2 else None

    def _integers(self, name: str) -> tuple[int, ...]:
        """A constant of integers; nothing where it is none."""
        array = _array(self._tensors[name], INTEGERS) if name in self._tensors else None
        return () if array is None else tuple(array.ravel().tolist())

    def _weights(self, node: _Node) -> NDArray[np.generic] | None:
        array = _array(self._tensors[node.inputs[1]], FLOATS) if node.inputs[1] in self._tensors else None
        return array if array is not None and array.ndim == 4 else None

    def _put_together(self, new: Mapping[int, bytes], used: Mapping[str, int]) -> bytes:
        """All parts but those that nobody needs any more."""
        dead: set[str] = set()
        while gone := used.keys() - self._uses(self._nodes.values()).keys() - dead:
            dead |= gone
            self._nodes = {at: node for at, node in self._nodes.items() if not dead.issuperset(node.outputs)}
        names = {GRAPH_INITIALIZER: TENSOR_NAME, GRAPH_VALUE_INFO: VALUE_NAME}
        kept = []
        for at, part in enumerate(self._parts):
            if part.number == GRAPH_NODE and at not in self._nodes:
                continue
            if part.number in names and first_text(message(part.value), names[part.number]) in dead:
                continue
            kept.append(new.get(at, part.raw))
        return b"".join(kept)


def _node(data: memoryview) -> _Node:
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
    return _Node(operator, tuple(inputs), tuple(outputs), integers, texts, tensors)


def _is_plain(node: _Node) -> bool:
    """Whether a convolution is one of two dimensions without groups, gaps, or padding that depends on the size."""
    known = node.numbers
    whole = len(known.get("kernel_shape", ())) == 2 and node.texts.get("auto_pad", "NOTSET") == "NOTSET"
    return whole and known.get("group", (1,)) == (1,) and set(known.get("dilations", (1,))) == {1}


def _unfolded(weights: NDArray[np.generic], phases: Sequence[tuple[int, int]]) -> NDArray[np.generic]:
    """``[out, 4 x in, h, w]`` over stacked phases as ``[out, in, 2 h, 2 w]`` over the picture."""
    out, stacked, height, width = weights.shape
    result = np.empty((out, stacked // 4, 2 * height, 2 * width), weights.dtype)
    for (row, column), part in zip(phases, np.split(weights, 4, axis=1), strict=True):
        result[:, :, row::2, column::2] = part
    return result


def _convolution(data: memoryview, node: _Node) -> bytes:
    """The node's message, with new inputs and all lengths doubled."""
    doubled = {"kernel_shape": node.numbers["kernel_shape"], "strides": node.numbers.get("strides", (1, 1))}
    doubled["pads"] = node.numbers.get("pads", (0, 0, 0, 0))
    parts = [written(NODE_INPUT, name.encode()) for name in node.inputs]
    for field in spans(data):
        if field.number == NODE_INPUT or (
            field.number == NODE_ATTRIBUTE and first_text(message(field.value), ATTRIBUTE_NAME) in doubled
        ):
            continue
        parts.append(bytes(field.raw))
    for name, values in doubled.items():
        lengths = b"".join(written_number(ATTRIBUTE_NUMBERS, 2 * value) for value in values)
        attribute = written(ATTRIBUTE_NAME, name.encode()) + lengths + written_number(ATTRIBUTE_TYPE, TYPE_INTS)
        parts.append(written(NODE_ATTRIBUTE, attribute))
    return b"".join(parts)


def _tensor(name: str, array: NDArray[np.generic]) -> bytes:
    kind = next(number for number, dtype in FLOATS.items() if dtype == array.dtype)
    dims = b"".join(written_number(TENSOR_DIMS, side) for side in array.shape)
    head = dims + written_number(TENSOR_TYPE, kind)
    return head + written(TENSOR_NAME, name.encode()) + written(TENSOR_RAW, array.tobytes())


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
