"""From an ONNX file to a model package: what the graph shows, what its family usually wants, what the user said.

The graph is run once; the engine that runs it is the caller's choice.
"""

from __future__ import annotations

import ast
import contextlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from agent.detection.coco_labels import COCO80
from agent.detection.decoders.registry import BUILT_IN, EXPECTED, Match, decoder_class, recognise
from agent.detection.manifest import NAME_PATTERN, Colour, InputSpec, Manifest, Precision, Resize, Triple, Variant
from agent.detection.model import ModelPackage, write_package
from agent.engines.base import Engine
from agent.errors import EngineError, MissingModelError, ModelError

EngineFactory = Callable[[Path], Engine]

INPUT_OF_FAMILY: Mapping[str, dict[str, Any]] = {
    "yolox": {"colour": "bgr", "scale": (1.0, 1.0, 1.0), "resize": "letterbox-topleft"},
}
NAME = re.compile(NAME_PATTERN)
QUANTISED = (b"QuantizeLinear", b"ConvInteger", b"QLinearConv")
LONGEST_NAMES = 1 << 20


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """What the user said of the model; None is left to the graph and its family's custom."""

    name: str
    family: str | None = None
    labels: str | None = None
    precision: Precision | None = None
    size: tuple[int, int] | None = None
    colour: Colour | None = None
    mean: Triple | None = None
    scale: Triple | None = None
    resize: Resize | None = None
    pad: int | None = None


class Probe(NamedTuple):
    """What one run of a graph showed: the input's width and height, the outputs' shapes for one picture, and the
    texts that the exporter put in."""

    size: tuple[int, int]
    shapes: dict[str, tuple[int, ...]]
    metadata: Mapping[str, str]


class Added(NamedTuple):
    """A new package, and what was assumed on the way, one line each."""

    package: ModelPackage
    notes: list[str]


def add_model(path: Path, wishes: Wishes, models: Path, engine_factory: EngineFactory, *, replace: bool) -> Added:
    """Run the graph once, work out the rest, write the package. Raises MissingModelError, ModelError, EngineError."""
    if not path.is_file():
        raise MissingModelError(f"{path}: {'a folder, not an ONNX file' if path.is_dir() else 'no such file'}")
    if not NAME.fullmatch(wishes.name):
        raise ModelError(f"{wishes.name!r}: no name for a package; letters, digits, dot, dash, underscore, 64 at most")
    engine = engine_factory(path)
    try:
        seen = probe(engine, str(path), wishes.size)
    finally:
        engine.close()
    notes: list[str] = []
    labels = _named_labels(wishes, seen.metadata)
    match = _family(path, seen, wishes.family, labels)
    if labels is None:
        labels = _usual_labels(path, match.classes, notes)
    if match.classes not in (0, len(labels)):
        raise ModelError(
            f"{path}: the graph tells {match.classes} classes apart, but {len(labels)} label(s) were given"
        )
    with _self_contained(path, engine_factory, notes) as file:
        manifest = _manifest(file, wishes, seen, match.family, labels)
        return Added(write_package(models, manifest, {manifest.variant[0].file: file}, replace=replace), notes)


def probe(engine: Engine, origin: str, size: tuple[int, int] | None = None) -> Probe:
    """Run a graph once on an empty picture. ``size``: for inputs of open size. Raises ModelError, EngineError."""
    shape = engine.input.shape
    if len(shape) != 4 or shape[1] not in (None, 3):
        shown = ["?" if side is None else side for side in shape]
        raise ModelError(f"{origin}: input {engine.input.name} is {shown}; a detector takes pictures as [N, 3, H, W]")
    width, height = _input_size(origin, shape[3], shape[2], size)
    batch = np.zeros((shape[0] or 1, 3, height, width), engine.input.dtype)
    outputs = engine.collect(engine.submit(batch))
    shapes = {name: (1, *array.shape[1:]) for name, array in outputs.items()}
    # The contract of engines knows no metadata; ONNX Runtime's has it.
    return Probe((width, height), shapes, getattr(engine, "metadata", {}))


def _input_size(origin: str, width: int | None, height: int | None, wanted: tuple[int, int] | None) -> tuple[int, int]:
    if wanted is None:
        if width is None or height is None:
            raise ModelError(f"{origin}: takes pictures of any size; choose one with --size WIDTHxHEIGHT")
        return width, height
    if width not in (None, wanted[0]) or height not in (None, wanted[1]):
        raise ModelError(f"{origin}: takes pictures of {width or 'any'}x{height or 'any'}, not {wanted[0]}x{wanted[1]}")
    return wanted


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
    return ", ".join(f"{family} {EXPECTED[family]}" for family in BUILT_IN)


def _named_labels(wishes: Wishes, metadata: Mapping[str, str]) -> tuple[str, ...] | None:
    text = wishes.labels
    if text is None:
        return metadata_labels(metadata)
    if text == "coco80":
        return COCO80
    path = Path(text).expanduser()
    if path.is_file():
        return _labels_in(path)
    if "/" in text or path.suffix in (".txt", ".names"):
        raise MissingModelError(
            f"{text}: no such file of labels; --labels takes coco80, a file with a label a line, a,b,c"
        )
    return _checked([label.strip() for label in text.split(",")], "--labels")


def _labels_in(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: no file of labels, one a line: {error}") from None
    return _checked([line.strip() for line in lines if line.strip()], str(path))


def _checked(labels: list[str], origin: str) -> tuple[str, ...]:
    if not labels or not all(labels):
        raise ModelError(f"{origin}: holds an empty label")
    return tuple(labels)


def _family(path: Path, seen: Probe, wanted: str | None, labels: tuple[str, ...] | None) -> Match:
    """The family: as wanted, else the one that the outputs fit, with the right number of classes if there is one."""
    shown = ", ".join(f"{name} {list(shape)}" for name, shape in seen.shapes.items())
    task = seen.metadata.get("task", "detect")
    if task != "detect" and wanted is None:
        raise ModelError(
            f"{path}: not a detector: exported for the task {task!r} (name a --family to add it all the same)"
        )
    if wanted is not None:
        classes = decoder_class(wanted).matches(seen.shapes, seen.size)
        if classes is None:
            raise ModelError(
                f"{path}: not of family {wanted}: outputs {shown}; known families expect {expected_outputs()}"
            )
        return Match(wanted, classes)
    matches = recognise(seen.shapes, seen.size)
    if not matches:
        raise ModelError(f"{path}: not a detector: outputs {shown}; known families expect {expected_outputs()}")
    count = len(labels or ())
    return next((match for match in matches if labels and match.classes in (0, count)), matches[0])


def _usual_labels(path: Path, classes: int, notes: list[str]) -> tuple[str, ...]:
    if classes == len(COCO80):
        notes.append("80 classes and no --labels: took them for COCO's (coco80)")
        return COCO80
    how_many = f"its {classes} classes have no names" if classes else "its classes have no names"
    raise ModelError(f"{path}: {how_many}; give --labels coco80, a file with a label a line, or a,b,c")


def _manifest(file: Path, wishes: Wishes, seen: Probe, family: str, labels: tuple[str, ...]) -> Manifest:
    said = {key: getattr(wishes, key) for key in ("colour", "mean", "scale", "resize", "pad")}
    values = INPUT_OF_FAMILY.get(family, {}) | {key: value for key, value in said.items() if value is not None}
    precision = wishes.precision or ("int8" if _is_quantised(file) else "fp32")
    name = wishes.name if precision == "fp32" else f"{wishes.name}-{precision}"
    manifest = Manifest(
        name=wishes.name,
        family=family,
        labels=labels,
        input=InputSpec(size=seen.size, **values),
        variant=(Variant(precision=precision, file=f"{name}.onnx", sha256="0" * 64),),
    )
    try:
        return msgspec.convert(msgspec.to_builtins(manifest), Manifest)
    except msgspec.ValidationError as error:
        raise ModelError(f"{wishes.name}: {error}") from None


def _is_quantised(file: Path) -> bool:
    """Whether the file names an operator that quantised graphs alone have: their names stand in it as plain text."""
    content = file.read_bytes()
    return any(name in content for name in QUANTISED)


@contextlib.contextmanager
def _self_contained(path: Path, engine_factory: EngineFactory, notes: list[str]) -> Iterator[Path]:
    """The graph as one file that loads on its own, away from any file of weights that lay beside it."""
    with tempfile.TemporaryDirectory(prefix="edgewarden-") as folder:
        copy = Path(folder) / "graph.onnx"
        shutil.copyfile(path, copy)
        try:
            engine_factory(copy).close()
        except EngineError:
            _join_external_data(path, copy)
            notes.append("the weights lay in files of their own: joined into one ONNX file")
            engine_factory(copy).close()
        yield copy


def _join_external_data(path: Path, target: Path) -> None:
    try:
        import onnx
    except ImportError:
        raise ModelError(
            f"{path}: keeps its weights in other files; joining them needs the onnx package: "
            "pip install 'edgewarden[model]'"
        ) from None
    try:
        onnx.save(onnx.load(str(path)), str(target))
    except Exception as error:  # noqa: BLE001 - protobuf's, onnx's and the system's errors share no base class
        raise ModelError(f"{path}: keeps its weights in other files, which cannot be joined: {error}") from None
