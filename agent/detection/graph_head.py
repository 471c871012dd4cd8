"""The operators that an ONNX graph begins with, read from the file without protobuf or the onnx package.

Only the few fields needed are followed; the wire format: https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

GRAPH, NODE, INPUT, OPERATOR = 7, 1, 1, 4  # ModelProto.graph, GraphProto.node, NodeProto.input and .op_type
FIXED = {1: 8, 5: 4}
NORMALISING = frozenset({"Sub", "Add", "Mul", "Div", "BatchNormalization"})


def first_operators(path: Path, name: str) -> list[str]:
    """The operators that take the input ``name`` itself; empty for a file that cannot be read so."""
    try:
        data = memoryview(path.read_bytes())
        nodes = (node for graph in _fields(data, GRAPH) for node in _fields(graph, NODE))
        return [
            bytes(next(_fields(node, OPERATOR), memoryview(b""))).decode()
            for node in nodes
            if any(bytes(text) == name.encode() for text in _fields(node, INPUT))
        ]
    except (OSError, IndexError, ValueError):
        return []


def _fields(data: memoryview, wanted: int) -> Iterator[memoryview]:
    """The contents of a message's fields of one number that have a length."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            _, at = _varint(data, at)
        elif kind in FIXED:
            at += FIXED[kind]
        elif kind == 2:
            length, at = _varint(data, at)
            if key >> 3 == wanted:
                yield data[at : at + length]
            at += length
        else:
            raise ValueError(f"wire type {kind}")


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
