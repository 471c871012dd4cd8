"""What an ONNX file says of itself: is it a detector, of which family, how is it fed - with how sure that is, and why.

The graph is run on an empty picture; which engine runs it is the caller's choice. Making a package is add.py's.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agent.detection.coco_labels import COCO80
from agent.detection.customs import Sure, custom_of
from agent.detection.decoders.base import Decoder
from agent.detection.decoders.registry import BUILT_IN, EXPECTED, Match, recognise
from agent.detection.graph_head import NORMALISING, first_operators
from agent.engines.base import Engine
from agent.errors import EngineError, ModelError

LONGEST_NAMES = 1 << 20
USUAL_SIZES = ((640, 640), (416, 416), (320, 320))
FLAGS = {name: f"--{name}" for name in ("family", "size", "labels", "colour", "mean", "scale", "resize", "pad")}
CHOICES = {
    "colour": "--colour rgb or bgr",
    "mean": "--mean 0, 127 or 123.675,116.28,103.53",
    "scale": "--scale 1, 0.00392156862745098 (1/255), 0.0078125 (1/128) or 0.01712475,0.017507,0.01742919",
    "resize": "--resize letterbox, letterbox-topleft or stretch",
    "pad": "--pad 114 or 0",
}


class Probe(NamedTuple):
    """What one run of a graph showed: the input's width and height, the outputs' shapes for one picture, the texts
    that the exporter put in, and how far the first column of an only output ``[1, N, K]`` reaches."""

    size: tuple[int, int]
    shapes: dict[str, tuple[int, ...]]
    metadata: Mapping[str, str]
    reach: float = 0.0
    layout: Literal["nchw", "nhwc"] = "nchw"


class Proposal(NamedTuple):
    """A value for ``model.toml``. ``sure``: ``certain`` - the file itself says so; ``likely`` - what all known
    networks of the family have in common; ``guess`` - one usual way among several. ``flag``: how to say otherwise."""

    value: Any
    sure: Sure
    why: str
    flag: str


class Inspection(NamedTuple):
    """``detector``: whether any known family fits. ``proposals`` by the keys of ``model.toml``; ``fault``: why there
    are none, or what is in the way of adding it."""

    detector: bool
    shapes: dict[str, tuple[int, ...]]
    families: list[Match]
    proposals: dict[str, Proposal]
    fault: str | None = None


def inspect_graph(
    engine: Engine,
    origin: str,
    size: tuple[int, int] | None = None,
    extra: Mapping[str, type[Decoder]] | None = None,
) -> Inspection:
    """Run the graph on an empty picture and say what it is. ``extra``: families of plugins. Raises EngineError."""
    layout = layout_of(engine)
    metadata = getattr(engine, "metadata", {})
    try:
        seen, how = _probe_at_some_size(engine, origin, size, extra)
    except ModelError as error:
        return Inspection(False, {}, [], {"layout": layout} if layout else {}, str(error))
    matches = best_first(recognise(seen.shapes, seen.size, extra), seen, metadata_labels(metadata))
    task = metadata.get("task", "detect")
    if task != "detect" or not matches:
        reason = f"exported for the task {task!r}" if task != "detect" else not_a_detector(seen.shapes)
        return Inspection(False, seen.shapes, [], {}, f"{origin}: not a detector: {reason}")
    assert layout is not None
    proposals = {"family": _family(matches, seen), "layout": layout, "size": how}
    proposals |= _checked_by_the_graph(engine, fed(matches[0].family, seen)) | _labels(matches[0], seen)
    return Inspection(True, seen.shapes, matches, proposals)


def fed(family: str, seen: Probe) -> dict[str, Proposal]:
    """Colour, mean, scale, resize and pad as a family has them; empty where its custom is not known."""
    custom = custom_of(family, seen.metadata)
    values = {} if custom is None else custom.values
    return {key: Proposal(value, custom.sure, custom.why, FLAGS[key]) for key, value in values.items() if custom}


def _checked_by_the_graph(engine: Engine, proposals: dict[str, Proposal]) -> dict[str, Proposal]:
    """Mean and scale are but a guess where the graph begins with arithmetic of its own."""
    path = getattr(engine, "path", None)
    own = NORMALISING & set(first_operators(path, engine.input.name) if path is not None else ())
    if not own:
        return proposals
    why = f"; but the graph itself begins with {', '.join(sorted(own))}: if it normalises there, --mean 0 --scale 1"
    doubted = {key: proposals[key] for key in ("mean", "scale") if key in proposals}
    return proposals | {key: one._replace(sure="guess", why=one.why + why) for key, one in doubted.items()}


def layout_of(engine: Engine) -> Proposal | None:
    """NCHW or NHWC, None for an input that takes no pictures."""
    shape = engine.input.shape
    if len(shape) != 4:
        return None
    shown = ["?" if side is None else side for side in shape]
    if shape[1] == 3:
        return Proposal("NCHW", "certain", f"the input is {shown}", "")
    if shape[3] == 3:
        return Proposal("NHWC", "certain", f"the input is {shown}", "")
    return Proposal("NCHW", "guess", f"the input {shown} does not say; nearly all exports are", "")


def probe(engine: Engine, origin: str, size: tuple[int, int] | None = None) -> Probe:
    """Run a graph once on an empty picture. ``size``: for inputs of open size. Raises ModelError, EngineError."""
    shape = engine.input.shape
    last = len(shape) == 4 and shape[3] == 3 and shape[1] != 3
    if len(shape) != 4 or (not last and shape[1] not in (None, 3)):
        shown = ["?" if side is None else side for side in shape]
        raise ModelError(
            f"{origin}: input {engine.input.name} is {shown}; a detector takes pictures as [N, 3, H, W] or [N, H, W, 3]"
        )
    width, height = _input_size(origin, shape[2 if last else 3], shape[1 if last else 2], size)
    axes = (height, width, 3) if last else (3, height, width)
    batch = np.zeros((shape[0] or 1, *axes), engine.input.dtype)
    outputs = engine.collect(engine.submit(batch))
    shapes = {name: (1, *array.shape[1:]) for name, array in outputs.items()}
    # The contract of engines knows no metadata; ONNX Runtime's has it.
    return Probe((width, height), shapes, getattr(engine, "metadata", {}), _reach(outputs), "nhwc" if last else "nchw")


def _reach(outputs: Mapping[str, NDArray[np.generic]]) -> float:
    arrays = [array for array in outputs.values() if array.ndim == 3 and array.size]
    return float(np.abs(arrays[0][..., 0].astype(np.float64)).max()) if len(outputs) == len(arrays) == 1 else 0.0


def exported_size(metadata: Mapping[str, str]) -> tuple[int, int] | None:
    """Width and height of the ``imgsz`` (height, width) that Ultralytics writes into its exports."""
    match = re.fullmatch(r"\[?\s*([1-9]\d{0,3})(?:\s*,\s*([1-9]\d{0,3}))?\s*\]?", metadata.get("imgsz", ""))
    return None if match is None else (int(match[2] or match[1]), int(match[1]))


def metadata_labels(metadata: Mapping[str, str]) -> tuple[str, ...] | None:
    """The class names that Ultralytics writes into its exports (``{0: 'person', …}``), None where there are none."""
    text = metadata.get("names", "")
    if not text or len(text) > LONGEST_NAMES:
        return None
    try:
        names = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    if isinstance(names, dict):
        if set(names) != set(range(len(names))):
            return None
        names = [names[index] for index in range(len(names))]
    good = isinstance(names, list) and names and all(isinstance(name, str) and name for name in names)
    return tuple(names) if good else None


def expected_outputs() -> str:
    """The outputs that the known families have, for a message."""
    return ", ".join(f"{family} {EXPECTED[family]}" for family in BUILT_IN if family in EXPECTED)


def shown_outputs(shapes: Mapping[str, Sequence[int]]) -> str:
    """Names and shapes of outputs, for a message."""
    return ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())


def not_a_detector(shapes: Mapping[str, Sequence[int]]) -> str:
    """Why outputs are no detector's, and what they look like."""
    looks = ""
    if len(shapes) == 1:
        (shape,) = shapes.values()
        if math.prod(shape) == max(shape):
            looks = f" (one vector of {max(shape)}: a classifier, or an embedding)"
        elif len(shape) == 4 and min(shape[2:]) > 8:
            looks = " (a value for each pixel: segmentation, or depth)"
    return f"outputs {shown_outputs(shapes)}{looks}; known families expect {expected_outputs()}"


def _probe_at_some_size(
    engine: Engine, origin: str, size: tuple[int, int] | None, extra: Mapping[str, type[Decoder]] | None
) -> tuple[Probe, Proposal]:
    shape = engine.input.shape
    if size is not None:
        return probe(engine, origin, size), Proposal(size, "certain", "as you said", FLAGS["size"])
    if len(shape) != 4 or None not in shape[2:] or shape[1] not in (None, 3):
        seen = probe(engine, origin)
        return seen, Proposal(seen.size, "certain", "the graph's input is of this size alone", FLAGS["size"])
    exported = exported_size(getattr(engine, "metadata", {}))
    for one in ((exported,) if exported else ()) + USUAL_SIZES:
        try:
            seen = probe(engine, origin, one)
        except (EngineError, ModelError):
            continue  # not every graph of open size runs at every size
        if recognise(seen.shapes, seen.size, extra):
            why = (
                "metadata imgsz"
                if one == exported
                else "it takes any size: smaller is faster, larger sees smaller things"
            )
            return seen, Proposal(one, "likely" if one == exported else "guess", why, FLAGS["size"])
    if None not in shape[2:]:
        return probe(engine, origin), Proposal(None, "guess", "", FLAGS["size"])
    raise ModelError(f"{origin}: takes pictures of any size; choose one with --size WIDTHxHEIGHT")


def _input_size(origin: str, width: int | None, height: int | None, wanted: tuple[int, int] | None) -> tuple[int, int]:
    if wanted is None:
        if width is None or height is None:
            raise ModelError(f"{origin}: takes pictures of any size; choose one with --size WIDTHxHEIGHT")
        return width, height
    if width not in (None, wanted[0]) or height not in (None, wanted[1]):
        raise ModelError(f"{origin}: takes pictures of {width or 'any'}x{height or 'any'}, not {wanted[0]}x{wanted[1]}")
    return wanted


def best_first(matches: list[Match], seen: Probe, labels: Sequence[str] | None) -> list[Match]:
    """The families with the right number of classes before the others, and what the values speak against last.

    YOLOX leaves its boxes raw, in cells, YOLOv5's form has them in pixels: centres from one edge to the other.
    """
    raw = seen.reach < seen.size[0] / 2
    against = {"yolov5"} if raw else {"yolox"}

    def order(match: Match) -> tuple[int, bool]:
        unfit = 0 if not labels or match.classes == len(labels) else 1 if match.classes == 0 else 2
        return unfit, match.family in against

    return sorted(matches, key=order)


def _family(matches: list[Match], seen: Probe) -> Proposal:
    family, others = matches[0].family, [match.family for match in matches[1:]]
    why = f"outputs {shown_outputs(seen.shapes)} at an input of {seen.size[0]}x{seen.size[1]}"
    if others and family in ("yolox", "yolov5") and not {"end2end"} & set(others):
        form = "raw, in cells" if family == "yolox" else "in pixels"
        return Proposal(family, "likely", f"{why}; its boxes are {form}", FLAGS["family"])
    if others:
        return Proposal(family, "guess", f"{why}; {', '.join(others)} would fit too", FLAGS["family"])
    return Proposal(family, "certain" if "names" in seen.metadata else "likely", f"{why} fit no other", FLAGS["family"])


def _labels(match: Match, seen: Probe) -> dict[str, Proposal]:
    named = metadata_labels(seen.metadata)
    if named is not None:
        return {"labels": Proposal(named, "certain", "metadata names", FLAGS["labels"])}
    usual = usual_labels(match, seen)
    if usual is None:
        return {}
    why = "80 classes, as in COCO" if len(usual) == len(COCO80) else "the family knows but this"
    return {"labels": Proposal(usual, "likely", why, FLAGS["labels"])}


def usual_labels(match: Match, seen: Probe) -> tuple[str, ...] | None:
    """Labels of a nameless graph: a family's only one, or COCO's where there are 80 classes; else None."""
    custom = custom_of(match.family, seen.metadata)
    if custom is not None and custom.labels is not None and match.classes in (0, len(custom.labels)):
        return custom.labels
    return COCO80 if match.classes == len(COCO80) else None
