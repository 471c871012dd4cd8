"""The bundled model and the classical baseline on the same fresh scenes, of families that neither has seen."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from desk_baseline import Baseline
from desk_scenes import fresh
from desk_scoring import Found, Score, score

from agent.data import Frame
from agent.sources.desk.domains import EVALUATION, TRAINING, Domain
from agent.sources.desk.scene import Scene

LEAST_SCORE, NMS_IOU = 0.001, 0.65
TUNING_SEED = 77


def model_found(package: Path, scenes: Sequence[Scene], threads: int = 1) -> list[list[Found]]:
    """What the package's fp32 variant finds, by the project's own engine and detector."""
    from agent.detection.detector import Detector
    from agent.detection.model import load_package
    from agent.engines.onnx import OnnxEngine

    loaded = load_package(package)
    variant = next(one for one in loaded.variant if one.precision == "fp32")
    detector = Detector(loaded, OnnxEngine(loaded.file_of(variant), threads=threads), score=LEAST_SCORE, iou=NMS_IOU)
    try:
        return [_of(detector.detect(Frame("desk", k, scene.pixels, 0.0, 0.0))) for k, scene in enumerate(scenes)]
    finally:
        detector.close()


def _of(detections: Any) -> list[Found]:
    rows = zip(detections.labels, detections.scores, detections.boxes, strict=True)
    return [Found(label, float(value), tuple(float(side) for side in box)) for label, value, box in rows]  # type: ignore[arg-type]


def _measured(seed: int, package: Path, count: int, domain: Domain, baseline: Baseline) -> dict[str, Score]:
    scenes = list(fresh(seed, count, domain))
    truths = [scene.truths for scene in scenes]
    return {
        "model": score(model_found(package, scenes), truths),
        "baseline": score([baseline.found(scene.pixels) for scene in scenes], truths),
    }


def evaluate(
    package: Path, count: int, seeds: Sequence[int], tuning: int, domain: Domain, workers: int | None = None
) -> list[dict[str, Score]]:
    """mAP of the model and of the baseline, seed by seed, on ``count`` scenes of the domain each.

    The baseline is tuned on ``tuning`` scenes of TRAINING first. Seeds are measured side by side in processes.
    """
    assert not TRAINING.families() & EVALUATION.families(), "a family is in both domains: the measurement is void"
    baseline = Baseline().fit(list(fresh(TUNING_SEED, tuning, TRAINING)))
    one = partial(_measured, package=package, count=count, domain=domain, baseline=baseline)
    processes = min(len(seeds), workers or os.cpu_count() or 1)
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        return pool.map(one, seeds, 1)


def mean(scores: Sequence[Score]) -> Score:
    """Each figure's mean over the seeds."""
    classes = {label: fmean(one.by_class[label] for one in scores) for label in scores[0].by_class}
    return Score(fmean(one.map50 for one in scores), fmean(one.map50_95 for one in scores), classes)
