"""What an ONNX file says of itself, read without the onnx package, which a board need not have.

Nodes, opset, the files that hold its weights, and the hash of all of it. What a node means is left to the engines.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from agent.engines.wire import fields, first_text, message, spans, text, written
from agent.errors import EngineError

# Field numbers of onnx.proto (ONNX 1.0 to 1.21): they are part of the format and never change.
MODEL_GRAPH, MODEL_OPSETS, MODEL_FUNCTIONS = 7, 8, 25
OPSET_DOMAIN, OPSET_VERSION = 1, 2
GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_INPUT, GRAPH_OUTPUT, GRAPH_VALUE_INFO = 1, 5, 11, 12, 13
VALUE_NAME, VALUE_TYPE = 1, 2
TYPE_TENSOR, TENSOR_TYPE_SHAPE, SHAPE_AXIS, AXIS_LENGTH = 1, 2, 1, 1
FUNCTION_NODE = 7
NODE_INPUT, NODE_OUTPUT, NODE_NAME, NODE_OPERATOR, NODE_ATTRIBUTE = 1, 2, 3, 4, 5
ATTRIBUTE_NAME, ATTRIBUTE_NUMBER, ATTRIBUTE_TEXT, ATTRIBUTE_NUMBERS, ATTRIBUTE_TYPE, TYPE_INTS = 1, 3, 4, 8, 20, 7
ATTRIBUTE_TENSOR, ATTRIBUTE_GRAPH, ATTRIBUTE_TENSORS, ATTRIBUTE_GRAPHS = 5, 6, 10, 11
TENSOR_DIMS, TENSOR_TYPE, TENSOR_FLOATS, TENSOR_INT32S, TENSOR_INT64S, TENSOR_RAW = 1, 2, 4, 5, 7, 9
TENSOR_NAME, TENSOR_EXTERNAL = 8, 13
ENTRY_KEY, ENTRY_VALUE = 1, 2


class Node(NamedTuple):
    """One node of the main graph; ``name`` is its first output's where the exporter gave it none."""

    name: str
    operator: str


class Input(NamedTuple):
    """One input that is no weight; None where the graph leaves an axis open."""

    name: str
    shape: tuple[int | None, ...]


class OnnxFile(NamedTuple):
    """``opset``: of the default operator set. ``external``: names of files beside it that hold weights, sorted.
    ``outputs``: their names, in order."""

    opset: int
    inputs: tuple[Input, ...]
    nodes: tuple[Node, ...]
    external: tuple[str, ...]
    outputs: tuple[str, ...]


def read_onnx(path: Path) -> OnnxFile:
    """Read what the file says. Raises EngineError for what is no ONNX file, or names weights outside its folder."""
    try:
        # Not mapped: a file that shrinks meanwhile would kill the process.
        return _model(memoryview(path.read_bytes()))
    except OSError as error:
        raise EngineError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise EngineError(f"{path}: not an ONNX file, or a damaged one ({error})") from None


def with_graph(content: bytes, change: Callable[[memoryview], bytes | None]) -> bytes | None:
    """An ONNX file's bytes with its graph changed; None where ``change`` gives None, or where it is no ONNX file.

    ``change`` gets the graph's message, and may raise ValueError for one that it does not understand.
    """
    parts, changed = [], False
    try:
        for field in spans(memoryview(content)):
            graph = change(message(field.value)) if field.number == MODEL_GRAPH else None
            changed |= graph is not None
            parts.append(field.raw if graph is None else written(MODEL_GRAPH, graph))
    except ValueError:
        return None
    return b"".join(parts) if changed else None


def content_hash(path: Path) -> str:
    """SHA-256 of the graph, its external weights included; of a file without any it is the file's own.

    Raises EngineError, also when a file of weights is not there.
    """
    external = read_onnx(path).external
    try:
        whole = _sha256(path)
        if not external:
            return whole
        parts = [f"{name}\0{_sha256(path.parent / name)}" for name in external]
    except OSError as error:
        raise EngineError(f"{error.filename}: weights of {path.name} cannot be read: {error.strerror}") from None
    return hashlib.sha256("\n".join([whole, *parts]).encode()).hexdigest()


def content_bytes(path: Path) -> int:
    """Bytes of the graph and its external weights. Raises EngineError."""
    files = [path, *(path.parent / name for name in read_onnx(path).external)]
    try:
        return sum(file.stat().st_size for file in files)
    except OSError as error:
        raise EngineError(f"{error.filename}: weights of {path.name} cannot be read: {error.strerror}") from None


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _model(data: memoryview) -> OnnxFile:
    opset, external = 0, set()
    nodes: list[Node] = []
    inputs: list[Input] = []
    outputs: list[str] = []
    for number, value in fields(data):
        if number == MODEL_OPSETS:
            opset = _opset(message(value)) or opset
        elif number == MODEL_GRAPH:
            nodes, inputs = _graph(message(value))
            parts = [message(part) for index, part in fields(message(value)) if index == GRAPH_OUTPUT]
            outputs = [first_text(part, VALUE_NAME) for part in parts]
            external |= set(_graph_files(message(value)))
        elif number == MODEL_FUNCTIONS:
            for index, part in fields(message(value)):
                external |= set(_node_files(message(part))) if index == FUNCTION_NODE else set()
    if not nodes:
        raise ValueError("no graph in it")
    return OnnxFile(opset, tuple(inputs), tuple(nodes), tuple(sorted(external)), tuple(outputs))


def _graph(data: memoryview) -> tuple[list[Node], list[Input]]:
    nodes: list[Node] = []
    inputs: list[Input] = []
    weights: set[str] = set()
    for number, value in fields(data):
        if number == GRAPH_NODE:
            nodes.append(_node(message(value)))
        elif number == GRAPH_INPUT:
            inputs.append(_input(message(value)))
        elif number == GRAPH_INITIALIZER:
            weights.update(text(part) for index, part in fields(message(value)) if index == TENSOR_NAME)
    # Old exporters list every weight as an input too.
    return nodes, [one for one in inputs if one.name not in weights]


def _input(data: memoryview) -> Input:
    name, shape = "", []
    for number, value in fields(data):
        if number == VALUE_NAME:
            name = text(value)
        elif number == VALUE_TYPE:
            shape = [_length(axis) for axis in _deep(message(value), TYPE_TENSOR, TENSOR_TYPE_SHAPE, SHAPE_AXIS)]
    return Input(name, tuple(shape))


def _deep(data: memoryview, *path: int) -> Iterator[memoryview]:
    """The messages that lie so deep."""
    for number, value in fields(data):
        if number == path[0]:
            if len(path) == 1:
                yield message(value)
            else:
                yield from _deep(message(value), *path[1:])


def _length(axis: memoryview) -> int | None:
    lengths = [value for number, value in fields(axis) if number == AXIS_LENGTH]
    return lengths[0] if lengths and isinstance(lengths[0], int) and 0 < lengths[0] < 1 << 31 else None


def _opset(data: memoryview) -> int:
    """The version, 0 for an operator set other than the default one."""
    domain, version = "", 0
    for number, value in fields(data):
        if number == OPSET_DOMAIN:
            domain = text(value)
        elif number == OPSET_VERSION and isinstance(value, int):
            version = value
    return version if domain in ("", "ai.onnx") else 0


def _node(data: memoryview) -> Node:
    name = operator = output = ""
    for number, value in fields(data):
        if number == NODE_NAME:
            name = text(value)
        elif number == NODE_OPERATOR:
            operator = text(value)
        elif number == NODE_OUTPUT and not output:
            output = text(value)
    return Node(name or output, operator)


def _graph_files(data: memoryview) -> Iterator[str]:
    for number, value in fields(data):
        if number == GRAPH_INITIALIZER:
            yield from _tensor_file(message(value))
        elif number == GRAPH_NODE:
            yield from _node_files(message(value))


def _node_files(data: memoryview) -> Iterator[str]:
    attributes = (message(value) for number, value in fields(data) if number == NODE_ATTRIBUTE)
    for attribute in attributes:
        for number, value in fields(attribute):
            if number in (ATTRIBUTE_TENSOR, ATTRIBUTE_TENSORS):
                yield from _tensor_file(message(value))
            elif number in (ATTRIBUTE_GRAPH, ATTRIBUTE_GRAPHS):
                yield from _graph_files(message(value))


def _tensor_file(data: memoryview) -> Iterator[str]:
    for number, value in fields(data):
        if number != TENSOR_EXTERNAL:
            continue
        entry = {index: text(part) for index, part in fields(message(value))}
        if entry.get(ENTRY_KEY) == "location":
            location = PurePosixPath(entry.get(ENTRY_VALUE, ""))
            if location.is_absolute() or ".." in location.parts or not location.name:
                raise ValueError(f"its weights lie outside its folder: {location}")
            yield str(location)
