"""What is asked of the builder: the graph, the shapes it shall run with, the options; sent between processes.

Pure; how it is carried out is tensorrt_build.py's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from agent.engines.onnx_file import Input
from agent.errors import EngineError

Shape = tuple[int, ...]


class Range(NamedTuple):
    """The least, the typical (tuned for) and the most of an axis that the graph leaves open."""

    least: int
    typical: int
    most: int


class Sizes(NamedTuple):
    """What the open axes shall take."""

    batch: Range
    height: Range
    width: Range


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """The shapes of one input: least, typical, most; equal where the graph is fixed."""

    input: str
    least: Shape
    typical: Shape
    most: Shape

    def __str__(self) -> str:
        shapes = ["x".join(map(str, shape)) for shape in (self.least, self.typical, self.most)]
        return f"{self.input} {shapes[0]}" if len(set(shapes)) == 1 else f"{self.input} {'..'.join(shapes)}"


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The builder's options; all of them are part of a plan's identity.

    ``dla``: the accelerator core to use, what it cannot run goes to the GPU. ``sparse``: use 2:4 sparse weights.
    ``version_compatible`` and ``hardware_compatible`` (Ampere and newer) make plans that run elsewhere, and slower.
    ``effort``: TensorRT's optimization level 0..5, None for its own default.
    """

    dla: int | None = None
    sparse: bool = False
    version_compatible: bool = False
    hardware_compatible: bool = False
    effort: int | None = None

    def __str__(self) -> str:
        values = {name: getattr(self, name) for name in self.__struct_fields__}
        told = [
            name if value is True else f"{name} {value}" for name, value in values.items() if value not in (None, False)
        ]
        return ", ".join(told) or "default options"


class Wish(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What somebody asked of a plan, None for what follows from the model; kept with it, for when it is built anew."""

    batch: Range | None = None
    height: Range | None = None
    width: Range | None = None
    options: Options = Options()


class BuildRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One plan to be built. ``backend``: which library is meant, another one refuses. ``target``: the compute
    capability of a GPU that is not this machine's. ``workspace``: bytes. ``timing_cache``: a file to read and write."""

    onnx: str
    backend: str
    precision: str
    profile: Profile
    options: Options = Options()
    target: tuple[int, int] | None = None
    workspace: int
    timing_cache: str | None = None


def profile_of(
    picture: Input, sizes: Sizes, layout: Literal["nchw", "nhwc"] = "nchw", *, strict: bool = False
) -> Profile:
    """The profile of a picture input: fixed axes as they are, open ones as ``sizes`` says. Raises EngineError.

    ``strict``: also where the batch that is asked for is not the graph's fixed one.
    """
    for name, one in sizes._asdict().items():
        if not 1 <= one.least <= one.typical <= one.most:
            raise EngineError(f"{name}: least, typical and most must grow from 1, got {', '.join(map(str, one))}")
    if len(picture.shape) != 4:
        raise EngineError(f"{picture.name}: a picture input has four axes, this one {len(picture.shape)}")
    channels = Range(3, 3, 3)
    ranges = [sizes.batch, channels, sizes.height, sizes.width]
    if layout == "nhwc":
        ranges = [sizes.batch, sizes.height, sizes.width, channels]
    fixed = picture.shape[0]
    if strict and fixed is not None and sizes.batch.most != fixed:
        raise EngineError(
            f"{picture.name}: the graph takes batches of {fixed}, not up to {sizes.batch.most}; "
            "`edgewarden model add --open-batch` makes one that takes any number"
        )
    least, typical, most = (_shape(picture.shape, [one[place] for one in ranges]) for place in range(3))
    return Profile(input=picture.name, least=least, typical=typical, most=most)


def picture_input(path: Path, inputs: Sequence[Input]) -> Input:
    """The only input of a graph. Raises EngineError."""
    if len(inputs) != 1:
        names = ", ".join(one.name for one in inputs) or "none"
        raise EngineError(f"{path}: one picture input is needed, the graph has {len(inputs)}: {names}")
    return inputs[0]


def _is_set(value: object) -> bool:
    return value is not None and value is not False


def _shape(fixed: Sequence[int | None], wanted: Sequence[int]) -> Shape:
    return tuple(have if have is not None else want for have, want in zip(fixed, wanted, strict=True))
