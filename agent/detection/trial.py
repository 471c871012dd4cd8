"""A model tried on one picture: what it finds as it is fed, and as it would be fed otherwise.

A wrong colour order or normalisation is no error anywhere, only fewer and fainter boxes; this makes it visible.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from agent.data import Detections, Frame
from agent.detection.customs import NANODET, ONE, UNIT, ZERO
from agent.detection.decoders.base import Decoder
from agent.detection.detector import Detector
from agent.detection.manifest import Colour, InputSpec, Triple
from agent.detection.model import ModelPackage
from agent.engines.base import Engine

BELIEVABLE = 50
"""Boxes in one picture; a network that is fed wrongly may see hundreds."""
NORMALISATIONS: Mapping[str, tuple[Triple, Triple]] = {
    "0..255": (ZERO, ONE),
    "/255": (ZERO, UNIT),
    "(x-127)/128": ((127.0, 127.0, 127.0), (1 / 128, 1 / 128, 1 / 128)),
    "mean/std": (NANODET["mean"], NANODET["scale"]),  # in the order blue, green, red
}


class Feed(NamedTuple):
    """One way to feed a model, and what it found that way: boxes, and the sum of their scores."""

    colour: Colour
    normalisation: str
    found: int
    strength: float


def try_model(
    package: ModelPackage, engine: Engine, pixels: NDArray[np.uint8], extra: Mapping[str, type[Decoder]] | None = None
) -> Detections:
    """What the model finds in one BGR picture, uint8 ``[H, W, 3]``, at the usual score. Raises ModelError, EngineError.

    The engine stays open and the caller's.
    """
    frame = Frame(camera="try", seq=0, pixels=pixels, captured_at=0.0, captured_mono=0.0)
    return Detector(package, engine, decoders=extra).detect(frame)


def try_feeds(
    package: ModelPackage, engine: Engine, pixels: NDArray[np.uint8], extra: Mapping[str, type[Decoder]] | None = None
) -> list[Feed]:
    """What the model finds for every usual colour order and normalisation; the first is the package's own way."""
    ways = [("as given", package.input)] + [
        (name, _fed_so(package.input, colour, *normalisation))
        for name, normalisation in NORMALISATIONS.items()
        for colour in ("rgb", "bgr")
    ]
    feeds: dict[InputSpec, Feed] = {}
    for name, spec in ways:
        if spec not in feeds:
            found = try_model(msgspec.structs.replace(package, input=spec), engine, pixels, extra)
            feeds[spec] = Feed(spec.colour, name, len(found), float(found.scores.sum()))
    return list(feeds.values())


def better_feed(feeds: list[Feed]) -> Feed | None:
    """A way that finds something where the first finds nothing, None otherwise.

    More boxes are no sign of a better way: a network made for 0..1 that gets 0..255 is sure of hundreds of wrong ones
    (measured: yolo11n 66 for 4, yolo26n 253 for 4). So nothing is compared but nothing with something believable.
    """
    others = [feed for feed in feeds[1:] if 0 < feed.found <= BELIEVABLE]
    return max(others, key=lambda feed: feed.strength) if feeds[0].found == 0 and others else None


def _fed_so(spec: InputSpec, colour: Colour, mean: Triple, scale: Triple) -> InputSpec:
    """``mean`` and ``scale`` stand in the order blue, green, red."""
    if colour == "rgb":
        mean, scale = mean[::-1], scale[::-1]
    return msgspec.structs.replace(spec, colour=colour, mean=mean, scale=scale)
