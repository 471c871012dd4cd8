"""Whether a new version of a model may take the place of the old one on this machine: it runs, fast enough, and agrees.

Judged are the variants that each would be used with. What it does at the cameras is the trial's, in the daemon.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from agent.data import Frame
from agent.errors import AgentError, ModelError
from agent.precision.agreement import matched
from agent.precision.judging import TOLD_SCORE
from agent.precision.speed import race
from agent.precision.trial import LEVELS, detections, open_detector, runs_at

if TYPE_CHECKING:
    from agent.data import Detections
    from agent.detection.detector import Detector
    from agent.detection.manifest import Variant
    from agent.detection.model import ModelPackage
    from agent.precision.on_gpu import OnGpu

Gpu = Callable[["ModelPackage", bool], "OnGpu"]
"""Times a package on this machine's GPU; plans that are missing are built where that is wanted."""
SLOWER = 1.5
"""How many times the old one's time the new one may take."""
NOISE = 0.5e-3
"""Seconds of difference that mean nothing, however small the networks."""
PROBES = 3


class Admission(NamedTuple):
    """What was measured: seconds an inference of the new and, where there is one, the old model; what each found in the
    pictures, and how far they agree (F1 of boxes with the same label); ``notes`` for the user."""

    seconds: float
    old_seconds: float | None
    found: int | None
    old_found: int | None
    agreement: float | None
    notes: tuple[str, ...]


def admit(
    package: ModelPackage,
    old: ModelPackage | None,
    pictures: Sequence[Frame] = (),
    *,
    slower: float = SLOWER,
    gpu: Gpu | None = None,
) -> Admission:
    """Judge a new package. ``pictures``: of the place where it will work, where there are any; ``slower``: how many
    times the old one's time it may take. Raises ModelError or EngineError, which say why it is refused.
    """
    notes = [*_missing_labels(package, old), *_broken_variants(package)]
    _infer_something(package)
    seconds, old_seconds = _speeds(package, old)
    if gpu is not None:
        seconds, old_seconds, faults = _on_gpu(package, old, gpu, seconds, old_seconds)
        notes += faults
    if old_seconds is not None and seconds > max(slower * old_seconds, old_seconds + NOISE):
        raise ModelError(
            f"{package.name}: refused: {seconds * 1e3:.2f} ms an inference here, {seconds / old_seconds:.1f} times the "
            f"{old_seconds * 1e3:.2f} ms of the one in use; --slower {slower:g} is allowed"
        )
    found, old_found, agreed = _compare(package, old, pictures)
    if old_found and not found:
        raise ModelError(
            f"{package.name}: refused: finds nothing in {len(pictures)} picture(s), in which the one in use finds "
            f"{old_found} thing(s)"
        )
    if not pictures:
        notes.append("what it finds was not looked at: name pictures of the place with --pictures")
    return Admission(seconds, old_seconds, found, old_found, agreed, tuple(notes))


def _missing_labels(package: ModelPackage, old: ModelPackage | None) -> list[str]:
    """Rules and zones name labels; one that is gone makes them silent."""
    gone = [label for label in old.labels if label not in package.labels] if old is not None else []
    few = ", ".join(gone[:8]) + (f" and {len(gone) - 8} more" if len(gone) > 8 else "")
    return [f"it has no label {few}, which the one in use has: look at zones, limits and alert rules"] if gone else []


def _broken_variants(package: ModelPackage) -> list[str]:
    """Those that run at no level, but for the one that must. Raises EngineError for that one."""
    base, notes = package.choose(), []
    for variant in package.variant:
        try:
            runs_at(package, package.file_of(variant))
        except AgentError as error:
            if variant is base:
                raise
            notes.append(f"{variant.precision} cannot be used here: {error}")
    return notes


def _infer_something(package: ModelPackage) -> None:
    """A few made-up pictures, from start to end; a network that gives nonsense raises EngineError here."""
    width, height = package.input.size
    random = np.random.default_rng(0)
    frames = [
        Frame("trial", number, random.integers(0, 256, (height, width, 3), np.uint8), 0.0, 0.0)
        for number in range(PROBES)
    ]
    _found(package, frames)


def _speeds(package: ModelPackage, old: ModelPackage | None) -> tuple[float, float | None]:
    """Seconds an inference: medians of interleaved rounds."""
    detectors: list[Detector] = []
    try:
        detectors.extend(_opened(one) for one in (package, old) if one is not None)
        raced = race(detectors)
    finally:
        for detector in detectors:
            detector.close()
    return raced[0].seconds, raced[1].seconds if old is not None else None


def _on_gpu(
    package: ModelPackage, old: ModelPackage | None, gpu: Gpu, seconds: float, old_seconds: float | None
) -> tuple[float, float | None, list[str]]:
    """The speeds that count where TensorRT runs, and what is in its way; given are those by ONNX Runtime."""
    new, before = gpu(package, True), gpu(old, False) if old is not None else None
    notes = [f"no TensorRT engine of {precision}: {fault}" for precision, fault in new.faults.items()]
    if before is None or before.best is None:
        return new.best or seconds, old_seconds if new.best is None else None, notes
    return new.best or seconds, before.best, notes


def _compare(
    package: ModelPackage, old: ModelPackage | None, pictures: Sequence[Frame]
) -> tuple[int | None, int | None, float | None]:
    """What both find in the pictures, and how far they agree."""
    if not pictures:
        return None, None, None
    new = _found(package, pictures)
    count = sum(len(one.scores) for one in new)
    if old is None:
        return count, None, None
    before = _found(old, pictures)
    old_count = sum(len(one.scores) for one in before)
    pairs = sum(len(matched(_by_label(one), _by_label(two)).first) for one, two in zip(before, new, strict=True))
    return count, old_count, 2 * pairs / (count + old_count) if count + old_count else 1.0


def _by_label(found: Detections) -> Detections:
    """Its classes numbered by their names, which two models may number otherwise."""
    import msgspec

    numbers = np.array([hash(label) for label in found.labels], np.int64)
    return msgspec.structs.replace(found, class_ids=numbers)


def _found(package: ModelPackage, frames: Sequence[Frame]) -> list[Detections]:
    variant = package.choose()
    return detections(package, package.file_of(variant), frames, score=TOLD_SCORE, level=variant.optimisation or "all")


def _opened(package: ModelPackage) -> Detector:
    variant: Variant = package.choose()
    return open_detector(package, package.file_of(variant), variant.optimisation or LEVELS[0])
