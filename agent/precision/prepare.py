"""``model prepare``: makes the variants of a package, measures each, lets the gate judge them, and writes it all down.

Work in progress lies in ``.prepare`` inside the package, so that an interrupted run goes on where it was; the package
itself changes in one step at the end. How a variant is made is half.py's and quantizers.py's, which nodes search.py's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from agent.detection.manifest import Optimisation, Precision, Variant
from agent.detection.model import ModelPackage, sha256_of, update_package
from agent.engines.on_processor import BF16, version_of, why_not
from agent.engines.store import SpeedStore
from agent.errors import EngineError, ModelError
from agent.precision import search
from agent.precision.agreement import disagreement
from agent.precision.fused import share_here
from agent.precision.gate import LEAST_INT8_SHARE, MAX_LOSS, judge
from agent.precision.graph import load_graph
from agent.precision.half import halved, overflowing
from agent.precision.journal import Journal
from agent.precision.judging import Figures, Judge
from agent.precision.progress import Steps, untold
from agent.precision.quantise import share_of
from agent.precision.quantizers import ModelOptimizer, Name, OwnQuantizer, Quantizer, share_in_int8
from agent.precision.search import Candidate, Measured, Trial
from agent.precision.sparsity import pruned
from agent.precision.speed import Contestant, measure
from agent.precision.trial import detections, detections_of, inputs, runs_at
from agent.precision.usable import MEASURE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from agent.data import Detections
    from agent.precision.calibration import Sample
    from agent.precision.graph import Graph

SEARCH_SCORE = 0.05
"""Boxes from this score on count in the search."""
SENSITIVITY_PICTURES = 24
"""A node alone is judged on so many pictures; candidates are judged on all."""
WORK = ".prepare"


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be made. ``calibrator``: one of the quantizer's methods, or ``auto``, the best found; ``keep_float``:
    let the search leave sensitive nodes float, or none; ``quantizer``: who makes the int8 graphs."""

    precisions: tuple[Precision, ...] = ("fp16", "int8")
    max_loss: float = MAX_LOSS
    calibrator: str = "auto"
    keep_float: Literal["auto", "none"] = "auto"
    quantizer: Name = "own"
    sparse: bool = False
    force: bool = False


class Made(msgspec.Struct, kw_only=True):
    """A variant that was made: how, and (once measured) how good, how fast, and what the gate says. ``share``: of the
    multiply-accumulates in int8; ``share_here``: those that ONNX Runtime does not restore to float on this machine."""

    precision: Precision
    file: str
    how: str
    share: float | None = None
    share_here: float | None = None
    notes: list[str] = []
    optimisation: Optimisation = "all"
    figures: Figures | None = None
    seconds: float | None = None
    speedup: float | None = None
    usable: bool = False
    reason: str = ""


class Report(msgspec.Struct, kw_only=True):
    """All that was made, fp32 first, and every candidate that was tried."""

    package: ModelPackage
    made: list[Made]
    tried: list[Candidate]


def prepare(
    package: ModelPackage,
    wishes: Wishes,
    calibration: Sample,
    judged_by: Judge,
    store: SpeedStore,
    say: Callable[[str], None],
    steps: Steps = untold,
) -> Report:
    """Make, measure, judge, write. ``say`` is told each stage, ``steps`` each node and candidate. Raises ModelError,
    EngineError.

    Interrupted, it goes on from where it was when it is called again with the same arguments.
    """
    work = _Preparation(package, wishes, calibration, say, steps)
    made, tried = work.variants()
    fp32 = Made(
        precision="fp32", file=str(package.file_of(work.origin)), how="as given", usable=True, reason=MEASURE.reason
    )
    every = [fp32, *made]
    for one in every:
        say(f"{one.precision}: measuring accuracy")
        one.figures = work.figures(one, judged_by)
    say("measuring speed, side by side")
    graphs = [Contestant(Path(one.file), one.optimisation, one.precision) for one in every]
    for one, speed in zip(every, measure(package, graphs), strict=True):
        one.seconds, one.speedup = speed.seconds, speed.speedup
        if one.precision != BF16:  # measured against another engine's fp32
            store.put(speed)
    for one in made:
        assert one.figures is not None
        one.usable, one.reason = judge(one.figures.loss, one.speedup, wishes.max_loss, forced=wishes.force)
    updated = update_package(
        package, [(_variant(one, calibration, wishes, work.origin), Path(one.file)) for one in every]
    )
    work.journal.close()
    return Report(package=updated, made=every, tried=tried)


class _Preparation:
    """The making of variants, every result of it remembered in the journal."""

    def __init__(
        self,
        package: ModelPackage,
        wishes: Wishes,
        calibration: Sample,
        say: Callable[[str], None],
        steps: Steps,
    ) -> None:
        self.package, self.wishes, self.calibration, self.say, self.steps = package, wishes, calibration, say, steps
        self.origin = _fp32_of(package)
        check_wishes(package, wishes)
        width, height = package.input.size
        shape = (1, height, width, 3) if package.input.layout == "nhwc" else (1, 3, height, width)
        graph = load_graph(package.file_of(self.origin), shape)
        self.graph = pruned(graph) if wishes.sparse else graph
        key = [self.origin.sha256, calibration.digest, msgspec.json.encode(wishes).decode(), package.family]
        self.journal = Journal(package.folder / WORK, hashlib.sha256("\n".join(key).encode()).hexdigest())
        if self.journal.resumed:
            say(f"going on with interrupted work: {self.journal.resumed} result(s) are known")
        self._reference: list[Detections] | None = None
        self._own = OwnQuantizer(self.graph, self._inputs, say)
        self._quantizer: Quantizer = (
            self._own if wishes.quantizer == "own" else ModelOptimizer(self.graph, self._inputs)
        )

    def variants(self) -> tuple[list[Made], list[Candidate]]:
        """What was asked for, each in a file of its own, and the int8 candidates that were tried."""
        made, tried = [], []
        if "fp16" in self.wishes.precisions:
            made.append(self._half())
        if "int8" in self.wishes.precisions:
            tried = self._candidates()
            chosen = [search.best_int8(tried), search.best_mixed(tried)]
            made += [self._int8(candidate) for candidate in chosen if candidate is not None]
        made = [one for one in made if self._runs(one)]
        return ([self._brain(), *made] if BF16 in self.wishes.precisions else made), tried

    def figures(self, made: Made, judged_by: Judge) -> Figures:
        """The judge's figures of a variant, remembered."""
        by = f" {BF16} {version_of('openvino')}" if made.precision == BF16 else ""
        plain = self.journal.remember(
            f"figures {judged_by.key} {sha256_of(Path(made.file))}{by}",
            lambda: msgspec.to_builtins(judged_by.figures(Path(made.file), made.optimisation, made.precision)),
        )
        return msgspec.convert(plain, Figures)

    def _brain(self) -> Made:
        """bfloat16: the fp32 graph itself, computed otherwise."""
        how = f"the fp32 graph, computed in bfloat16 by {version_of('openvino')}"
        return Made(precision=BF16, file=str(self.package.file_of(self.origin)), how=how)

    def _half(self) -> Made:
        kept = overflowing(self.graph, self._inputs)
        for one in kept:
            self.say(f"fp16: {one.node} stays float32: {one.reason}")
        file = self.journal.file("fp16.onnx", lambda: _bytes(halved(self.graph, [one.node for one in kept])))
        notes = [f"{one.node} stays float32: {one.reason}" for one in kept]
        return Made(precision="fp16", file=str(file), how=f"float16, {len(kept)} node(s) float32", notes=notes)

    def _candidates(self) -> list[Candidate]:
        if not self.graph.weighted:
            self.say("int8: left out: nothing in this graph multiplies by constant weights")
            return []
        methods = self._quantizer.methods if self.wishes.calibrator == "auto" else (self.wishes.calibrator,)
        measure = partial(self._measure, self._quantizer, pictures=None)
        if self.wishes.keep_float == "none":
            method = search.FIRST_METHOD if search.FIRST_METHOD in methods else methods[0]
            measured = measure(Trial(method, tuple(node.name for node in self.graph.weighted)))
            return [Candidate(method, (), measured.share, measured.disagreement)]
        self.say(f"int8: sensitivity of {len(self.graph.weighted)} nodes, one by one")
        # How much a node minds is the network's nature: it is measured in the same way whoever makes the graph then.
        alone = partial(self._measure, self._own, pictures=SENSITIVITY_PICTURES)
        with self.steps("nodes", len(self.graph.weighted)) as step:
            ranked = search.sensitivities(self.graph, _counted(alone, step))
        self.say("int8: which of them stay float, and which calibrator")
        with self.steps("candidates", None) as step:
            return search.candidates(self.graph, [name for name, _ in ranked], _counted(measure, step), methods)

    def _int8(self, candidate: Candidate) -> Made:
        trial = Trial(candidate.method, _chosen(self.graph, candidate))
        precision: Precision = "int8" if candidate.share >= LEAST_INT8_SHARE else "mixed"
        file = self.journal.file(f"{precision}.onnx", lambda: _bytes(self._quantizer.build(trial)))
        maker = "" if self.wishes.quantizer == "own" else "by Model Optimizer, "
        how = f"{maker}{candidate.method}, {len(candidate.floats)} of {len(self.graph.weighted)} nodes float"
        return Made(precision=precision, file=str(file), how=how, share=round(candidate.share, 4))

    def _measure(self, quantizer: Quantizer, trial: Trial, pictures: int | None) -> Measured:
        """A trial against fp32 on the first so many pictures; remembered."""
        maker = "own" if quantizer is self._own else self.wishes.quantizer
        name = f"{maker} {trial.method} {pictures} {hashlib.sha256(' '.join(trial.chosen).encode()).hexdigest()[:16]}"
        return Measured(*self.journal.remember(name, lambda: self._measured(quantizer, trial, pictures)))

    def _measured(self, quantizer: Quantizer, trial: Trial, pictures: int | None) -> Measured:
        frames = self.calibration.frames[:pictures]
        try:
            model = quantizer.build(trial)
            found = detections_of(self.package, model, frames, SEARCH_SCORE)
        except EngineError as error:
            self.say(f"int8: a candidate does not run: {error}")
            return Measured(search.NEVER, share_of(self.graph, trial.chosen))
        return Measured(disagreement(self._fp32_detections()[:pictures], found), share_in_int8(self.graph, model))

    def _fp32_detections(self) -> list[Detections]:
        if self._reference is None and self.wishes.sparse:
            # What pruning costs is lost whichever nodes stay float: the search is for what int8 adds to that.
            self._reference = detections_of(self.package, self.graph.proto, self.calibration.frames, SEARCH_SCORE)
        elif self._reference is None:
            file = self.package.file_of(self.origin)
            self._reference = detections(self.package, file, self.calibration.frames, score=SEARCH_SCORE)
        return self._reference

    def _inputs(self) -> Iterator[NDArray[np.generic]]:
        return inputs(self.package, self.calibration.frames, self.graph.input_dtype)

    def _runs(self, made: Made) -> bool:
        """Whether it runs at any level of optimisation; notes the level, and what failed above it."""
        try:
            runs = runs_at(self.package, Path(made.file))
        except EngineError as error:
            self.say(f"{made.precision}: left out: {error}")
            return False
        made.optimisation = runs.level
        made.notes += [f"does not run at optimisation level {fault}" for fault in runs.faults]
        if made.share is not None:
            made.share_here = round(share_here(self.graph, Path(made.file), runs.level), 4)
        return True


def check_wishes(package: ModelPackage, wishes: Wishes) -> None:
    """Whether what is wanted can be measured here. Raises ModelError."""
    if BF16 in wishes.precisions and (reason := why_not("openvino", BF16)):
        raise ModelError(f"{package.name}: {BF16} {reason}")


def _fp32_of(package: ModelPackage) -> Variant:
    variant = package.choose()
    if variant.precision != "fp32":
        raise ModelError(f"{package.name}: has no fp32 variant to make others from, only {variant.precision}")
    return variant


def _counted(measure: search.Measure, step: Callable[[], object]) -> search.Measure:
    def measured(trial: Trial) -> Measured:
        found = measure(trial)
        step()
        return found

    return measured


def _chosen(graph: Graph, candidate: Candidate) -> tuple[str, ...]:
    floats = set(candidate.floats)
    return tuple(node.name for node in graph.weighted if node.name not in floats)


def _variant(made: Made, calibration: Sample, wishes: Wishes, origin: Variant) -> Variant:
    """As it stands in model.toml."""
    accuracy = made.figures.recorded() if made.figures else {}
    if made.precision == "fp32":
        return msgspec.structs.replace(origin, accuracy=accuracy)
    if made.precision == BF16:
        judged = accuracy | {"max_loss": wishes.max_loss}
        forced = wishes.force or None
        return Variant(
            precision=BF16, file=origin.file, sha256=origin.sha256, verdict=made.reason, forced=forced, accuracy=judged
        )
    return Variant(
        precision=made.precision,
        file="variant.onnx",
        sha256="0" * 64,
        calibration=calibration.digest,
        share=made.share,
        optimisation=made.optimisation,
        verdict=made.reason,
        forced=wishes.force or None,
        sparse=wishes.sparse or None,
        accuracy=accuracy | {"max_loss": wishes.max_loss},
    )


def _bytes(model: Any) -> bytes:
    """Equal models give equal bytes."""
    content: bytes = model.SerializeToString(deterministic=True)
    return content
