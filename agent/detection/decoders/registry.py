"""The families of detectors by name: those built in, and those that plugins register."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from agent.config import did_you_mean
from agent.detection.decoders.base import Decoder
from agent.detection.decoders.end_to_end import EndToEnd
from agent.detection.decoders.yolov8 import Yolov8
from agent.detection.decoders.yolox import Yolox
from agent.errors import ModelError

BUILT_IN: Mapping[str, type[Decoder]] = {decoder.family: decoder for decoder in (Yolox, Yolov8, EndToEnd)}

EXPECTED = {
    "yolox": "[1, N, 5 + classes]",
    "yolov8": "[1, 4 + classes, N]",
    "end2end": "[1, N, 6]",
}


class Match(NamedTuple):
    """A family that outputs fit; ``classes`` is 0 where their shapes do not say how many there are."""

    family: str
    classes: int


def decoder_class(family: str, extra: Mapping[str, type[Decoder]] | None = None) -> type[Decoder]:
    """The decoder of a family; ``extra`` holds those of plugins. Raises ModelError for an unknown name."""
    known = {**BUILT_IN, **(extra or {})}
    if family not in known:
        raise ModelError(f"family {family!r} is not known{did_you_mean(family, known)}")
    return known[family]


def recognise(
    shapes: Mapping[str, Sequence[int]],
    input_size: tuple[int, int],
    extra: Mapping[str, type[Decoder]] | None = None,
) -> list[Match]:
    """The families that outputs of these shapes (batch 1) fit, the most particular first."""
    known = {**BUILT_IN, **(extra or {})}
    found = ((family, decoder.matches(shapes, input_size)) for family, decoder in known.items())
    return [Match(family, classes) for family, classes in found if classes is not None]
