"""From an ONNX file to a model package: what the graph shows, what its family usually wants, what the user said.

The graph is run once; the engine that runs it is the caller's choice.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from agent.detection.coco_labels import COCO80
from agent.detection.decoders.base import Decoder
from agent.detection.decoders.registry import Match, decoder_class, recognise
from agent.detection.inspection import (
    CHOICES,
    Probe,
    best_first,
    expected_outputs,
    exported_size,
    fed,
    metadata_labels,
    not_a_detector,
    probe,
    shown_outputs,
    usual_labels,
)
from agent.detection.manifest import NAME_PATTERN, Colour, InputSpec, Manifest, Precision, Resize, Triple, Variant
from agent.detection.model import ModelPackage, write_package
from agent.detection.one_input import SIZE_INPUT, one_input
from agent.engines.base import Engine
from agent.engines.onnx_focus import folded_focus
from agent.engines.onnx_pools import chained_pools
from agent.engines.onnx_weights import constant_weights
from agent.errors import EngineError, MissingModelError, ModelError

EngineFactory = Callable[[Path], Engine]

NAME = re.compile(NAME_PATTERN)
IMPROVEMENTS = (
    (constant_weights, "its weights were listed among its inputs: made constants, which runs faster"),
    (folded_focus, "its focus was folded into the convolution behind it, which runs faster"),
    (chained_pools, "its pooling pyramid was chained, each level made of the one below, which runs faster"),
)
"""What makes of a graph's bytes one that computes the same faster, and what is said of it."""
QUANTISED = (b"QuantizeLinear", b"ConvInteger", b"QLinearConv")


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


class Added(NamedTuple):
    """A new package, and what was assumed on the way, one line each."""

    package: ModelPackage
    notes: list[str]


def add_model(
    path: Path,
    wishes: Wishes,
    models: Path,
    engine_factory: EngineFactory,
    *,
    replace: bool,
    extra: Mapping[str, type[Decoder]] | None = None,
) -> Added:
    """Run the graph once, work out the rest, write the package. ``extra``: families of plugins.

    Raises MissingModelError, ModelError (also for what only the user can know, with the flags to say it), EngineError.
    """
    if not path.is_file():
        raise MissingModelError(f"{path}: {'a folder, not an ONNX file' if path.is_dir() else 'no such file'}")
    if not NAME.fullmatch(wishes.name):
        raise ModelError(f"{wishes.name!r}: no name for a package; letters, digits, dot, dash, underscore, 64 at most")
    with one_input(path, wishes.size) as graph:
        return _add(path, graph, wishes, models, engine_factory, replace=replace, extra=extra)


def _add(
    path: Path,
    graph: Path,
    wishes: Wishes,
    models: Path,
    engine_factory: EngineFactory,
    *,
    replace: bool,
    extra: Mapping[str, type[Decoder]] | None,
) -> Added:
    """``graph``: what is added, ``path`` itself or made of it."""
    engine = engine_factory(graph)
    try:
        seen = _probe(engine, path, wishes)
    finally:
        engine.close()
    notes: list[str] = []
    if graph != path:
        notes.append(f"its second input, {SIZE_INPUT}, was made a constant of {seen.size[0]}x{seen.size[1]}")
    labels = _named_labels(wishes, seen.metadata)
    match = _family(path, seen, wishes.family, labels, extra)
    if labels is None:
        labels = _usual_labels(path, match, seen, notes)
    if match.classes not in (0, len(labels)):
        raise ModelError(
            f"{path}: the graph tells {match.classes} classes apart, but {len(labels)} label(s) were given"
        )
    with _self_contained(graph, engine_factory, notes) as file:
        manifest = _manifest(file, wishes, seen, match.family, labels)
        return Added(write_package(models, manifest, {manifest.variant[0].file: file}, replace=replace), notes)


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


def _probe(engine: Engine, path: Path, wishes: Wishes) -> Probe:
    size = wishes.size
    if size is None and None in engine.input.shape[2:]:
        size = exported_size(getattr(engine, "metadata", {}))
    return probe(engine, str(path), size)


def _family(
    path: Path,
    seen: Probe,
    wanted: str | None,
    labels: tuple[str, ...] | None,
    extra: Mapping[str, type[Decoder]] | None,
) -> Match:
    """The family: as wanted, else the one that the outputs fit, with the right number of classes if there is one."""
    if wanted is not None:
        classes = decoder_class(wanted, extra).matches(seen.shapes, seen.size)
        if classes is None:
            shown = shown_outputs(seen.shapes)
            raise ModelError(
                f"{path}: not of family {wanted}: outputs {shown}; known families expect {expected_outputs()}"
            )
        return Match(wanted, classes)
    task = seen.metadata.get("task", "detect")
    if task != "detect":
        raise ModelError(
            f"{path}: not a detector: exported for the task {task!r} (name a --family to add it all the same)"
        )
    matches = recognise(seen.shapes, seen.size, extra)
    if not matches:
        raise ModelError(f"{path}: not a detector: {not_a_detector(seen.shapes)}")
    return best_first(matches, seen, labels)[0]


def _usual_labels(path: Path, match: Match, seen: Probe, notes: list[str]) -> tuple[str, ...]:
    labels = usual_labels(match, seen)
    if labels is None:
        how_many = f"its {match.classes} classes have no names" if match.classes else "its classes have no names"
        raise ModelError(f"{path}: {how_many}; give --labels coco80, a file with a label a line, or a,b,c")
    if labels == COCO80:
        notes.append("80 classes and no --labels: took them for COCO's (coco80)")
    return labels


def _manifest(file: Path, wishes: Wishes, seen: Probe, family: str, labels: tuple[str, ...]) -> Manifest:
    said = {key: getattr(wishes, key) for key in ("colour", "mean", "scale", "resize", "pad")}
    proposed = fed(family, seen)
    values = {key: proposal.value for key, proposal in proposed.items()}
    values |= {key: value for key, value in said.items() if value is not None}
    _ask_for_the_rest(wishes.name, family, [key for key in said if key not in values])
    precision = wishes.precision or ("int8" if _is_quantised(file) else "fp32")
    name = wishes.name if precision == "fp32" else f"{wishes.name}-{precision}"
    manifest = Manifest(
        name=wishes.name,
        family=family,
        labels=labels,
        input=InputSpec(size=seen.size, layout=seen.layout, **values),
        variant=(Variant(precision=precision, file=f"{name}.onnx", sha256="0" * 64),),
    )
    try:
        return msgspec.convert(msgspec.to_builtins(manifest), Manifest)
    except msgspec.ValidationError as error:
        raise ModelError(f"{wishes.name}: {error}") from None


def _ask_for_the_rest(origin: str, family: str, missing: Collection[str]) -> None:
    if missing:
        ways = "; ".join(CHOICES[key] for key in CHOICES if key in missing)
        raise ModelError(f"{origin}: how networks of family {family} are fed is not known here; say it: {ways}")


def _is_quantised(file: Path) -> bool:
    """Whether the file names an operator that quantised graphs alone have: their names stand in it as plain text."""
    content = file.read_bytes()
    return any(name in content for name in QUANTISED)


@contextlib.contextmanager
def _self_contained(path: Path, engine_factory: EngineFactory, notes: list[str]) -> Iterator[Path]:
    """The graph as one file that loads on its own, away from any file of weights that lay beside it, and runs as fast
    as the same sums can."""
    with tempfile.TemporaryDirectory(prefix="edgewarden-") as folder:
        copy = Path(folder) / "graph.onnx"
        shutil.copyfile(path, copy)
        try:
            engine_factory(copy).close()
        except EngineError:
            _join_external_data(path, copy)
            notes.append("the weights lay in files of their own: joined into one ONNX file")
            engine_factory(copy).close()
        original = content = copy.read_bytes()
        for improved, note in IMPROVEMENTS:
            if (better := improved(content)) is not None:
                content = better
                notes.append(note)
        if content is not original:
            copy.write_bytes(content)
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
