"""Protobuf's wire format, as far as ONNX files need it: the fields of a message, read and put together again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple


class Field(NamedTuple):
    """One field: its number, its value (a number, or the bytes of a text or message), and all of its own bytes."""

    number: int
    value: int | memoryview
    raw: memoryview


def spans(data: memoryview) -> Iterator[Field]:
    """The fields of a message, in order. Raises ValueError where it breaks off."""
    at = 0
    while at < len(data):
        start = at
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            number, at = _varint(data, at)
            yield Field(key >> 3, number, data[start:at])
            continue
        if kind == 2:
            size, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"a field of unknown kind {kind}")
        if at + size > len(data):
            raise ValueError("it breaks off")
        yield Field(key >> 3, data[at : at + size], data[start : at + size])
        at += size


def fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field of a message. Raises ValueError where it breaks off."""
    for field in spans(data):
        yield field.number, field.value


def message(value: int | memoryview) -> memoryview:
    """A value that has to be bytes. Raises ValueError."""
    if isinstance(value, int):
        raise ValueError("a number where a message was meant")
    return value


def text(value: int | memoryview) -> str:
    """A value that has to be text; bytes that are none are replaced. Raises ValueError."""
    return str(message(value), "utf-8", "replace")


def first_text(data: memoryview, wanted: int) -> str:
    """The first text of a message under that number, empty where there is none. Raises ValueError."""
    return next((text(value) for number, value in fields(data) if number == wanted), "")


def numbers(value: int | memoryview) -> tuple[int, ...]:
    """The signed integers of a field that may hold one, or many packed. Raises ValueError where they break off."""
    if isinstance(value, int):
        return (_signed(value),)
    found, at = [], 0
    while at < len(value):
        one, at = _varint(value, at)
        found.append(_signed(one))
    return tuple(found)


def written_number(number: int, value: int) -> bytes:
    """A field of an integer that is not negative."""
    return _number(number << 3) + _number(value)


def written(number: int, content: bytes) -> bytes:
    """A field of bytes: its key, its length, and them."""
    return _number(number << 3 | 2) + _number(len(content)) + content


def _number(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    result = shift = 0
    while at < len(data) and shift < 64:
        byte = data[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, at
        shift += 7
    raise ValueError("a number breaks off")
