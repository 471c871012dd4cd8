"""model.toml as structs, read and written. The folder around it, its files and their hashes are model.py's."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from agent.config import read_struct
from agent.errors import ModelError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Colour = Literal["rgb", "bgr"]
Resize = Literal["letterbox", "letterbox-topleft", "stretch", "crop"]
Precision = Literal["fp32", "fp16", "bf16", "int8", "mixed"]
Optimisation = Literal["all", "extended", "basic", "off"]
NAME_PATTERN = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
Name = Annotated[str, Meta(pattern=NAME_PATTERN)]
FileName = Annotated[str, Meta(pattern=r"^[^/\\\x00-\x1f]{1,200}$")]
Side = Annotated[int, Meta(ge=1, le=16384)]
Label = Annotated[str, Meta(min_length=1, max_length=200)]
Triple = tuple[float, float, float]


class InputSpec(Struct, frozen=True, kw_only=True):
    """``[input]``: how a picture becomes the network's input, ``(pixel - mean) * scale`` in its channel order.

    ``size``: width and height. ``resize``: ``letterbox`` keeps the aspect ratio, centred, the rest is ``pad``;
    ``letterbox-topleft`` the same from the corner; ``stretch`` does not keep it; ``crop`` cuts the middle out.
    ``pad``: pixel value 0..255 before mean and scale. ``layout``: of the axes, ``nchw`` or (TensorFlow's) ``nhwc``.
    """

    size: tuple[Side, Side]
    colour: Colour = "rgb"
    mean: Triple = (0.0, 0.0, 0.0)
    scale: Triple = (1 / 255, 1 / 255, 1 / 255)
    resize: Resize = "letterbox"
    pad: Annotated[int, Meta(ge=0, le=255)] = 114
    layout: Literal["nchw", "nhwc"] = "nchw"

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, self.mean)):
            raise ValueError("mean: three finite numbers are needed")
        if not all(math.isfinite(value) and value != 0 for value in self.scale):
            raise ValueError("scale: three finite numbers other than 0 are needed")


class Variant(Struct, frozen=True, kw_only=True):
    """``[[variant]]``: one ONNX file, and what was learned of it when it was made. That of bf16 is fp32's: the engine
    computes it in bfloat16.

    ``calibration``: hash of the pictures that it was calibrated with; ``accuracy``: figures, the data they were
    measured on, and the loss against fp32. ``share``: of the multiply-accumulates that runs in int8. ``optimisation``:
    the highest level at which ONNX Runtime runs it. ``verdict``: the gate's on the machine that made it; ``forced``: it
    may be used whatever the gate says. ``sparse``: its weights are 2:4 sparse.
    """

    precision: Precision
    file: FileName
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    calibration: str | None = None
    share: float | None = None
    optimisation: Optimisation | None = None
    verdict: str | None = None
    forced: bool | None = None
    sparse: bool | None = None
    accuracy: dict[str, Any] = {}

    def __post_init__(self) -> None:
        if self.file in (".", "..", "model.toml"):
            raise ValueError(f"file: {self.file!r} is not the name of an ONNX file in the package")


class Manifest(Struct, frozen=True, kw_only=True):
    """The whole of model.toml."""

    name: Name
    family: Annotated[str, Meta(min_length=1)]
    labels: Annotated[tuple[Label, ...], Meta(min_length=1)]
    input: InputSpec
    variant: tuple[Variant, ...]

    def __post_init__(self) -> None:
        if not self.variant:
            raise ValueError("variant: at least one [[variant]] is needed")
        precisions = [variant.precision for variant in self.variant]
        for precision in sorted({name for name in precisions if precisions.count(name) > 1}):
            raise ValueError(f"variant: there are two of precision {precision}")


def parse(text: str, origin: str) -> Manifest:
    """Check the text of a model.toml. Raises ModelError with one line, begun by ``origin``, for each fault."""
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # endless numbers, endless nesting
        raise ModelError(f"{origin}: not valid TOML: {error}") from None
    manifest, faults = read_struct(Manifest, table, "")
    if manifest is None:
        raise ModelError("\n".join(f"{origin}: {fault}" for fault in faults))
    return manifest


def to_toml(manifest: Manifest) -> str:
    """The text of a model.toml, which ``parse`` reads back as the same manifest."""
    head = {"name": manifest.name, "family": manifest.family, "labels": manifest.labels}
    lines = [*_lines(head), "", "[input]", *_lines(msgspec.structs.asdict(manifest.input))]
    for variant in manifest.variant:
        values = msgspec.structs.asdict(variant)
        accuracy = values.pop("accuracy")
        lines += ["", "[[variant]]", *_lines(values)]
        if accuracy:
            lines += ["[variant.accuracy]", *_lines(accuracy)]
    return "\n".join(lines) + "\n"


def _lines(table: Mapping[str, Any]) -> Iterator[str]:
    return (f"{_key(key)} = {_value(value)}" for key, value in table.items() if value is not None)


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _text(key)


def _value(value: Any) -> str:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(key)} = {_value(item)}" for key, item in value.items()) + "}"
    raise TypeError(f"{type(value).__name__} has no place in a model.toml")


def _text(text: str) -> str:
    # JSON's escapes are TOML's, except that TOML wants DEL escaped too.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
