"""``edgewarden model evaluate``: how accurate and how fast each variant of a package is, and the gate's word on it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.cli import table
from agent.cli.backends import Backend, backend_options, opener, runnable

if TYPE_CHECKING:
    from agent.data import Detections
    from agent.detection.manifest import Variant
    from agent.detection.model import ModelPackage
    from agent.precision.trial import OpenEngine

COLUMNS = (
    "precision", "usable", "map50_95", "map50", "f1", "score_difference", "loss", "ms", "speedup", "pictures", "reason"
)  # fmt: skip
LEAST_SHOWN = 0.05
"""Boxes below it crowd the picture of scores."""


@click.command(name="evaluate")
@click.argument("package")
@click.option(
    "--data", required=True, metavar="COCO_JSON|IMAGES", help="COCO annotations (with --images), or pictures without."
)
@click.option("--images", type=click.Path(path_type=Path), help="The folder of the pictures that COCO_JSON annotates.")
@click.option("--precision", "only", multiple=True, help="Only this variant, against fp32. May be repeated.")
@click.option("--pictures", type=click.IntRange(1), default=200, show_default=True, help="The most without COCO_JSON.")
@backend_options
@click.option("--plot", type=click.Path(path_type=Path), help="A PNG of precision over recall, and of scores.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def command(
    package: str,
    data: str,
    images: Path | None,
    only: tuple[str, ...],
    pictures: int,
    backend: Backend,
    device: str,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Measure every variant of a model package: mAP by class against COCO annotations, else agreement with fp32; its
    speed against fp32 in the same run; and what the gate says to both. The package stays as it is."""
    from agent.detection.model import find_package

    found = find_package(package)
    for name in only:
        found.choose(name)
    chosen = runnable([one for one in found.variant if not only or one.precision in (*only, "fp32")], backend)
    open_engine = opener(found, backend, device)
    if Path(data).suffix == ".json":
        rows = _by_truth(found, chosen, Path(data), images, plot, open_engine)
    else:
        if plot is not None:
            raise click.UsageError("--plot needs COCO annotations")
        rows = _by_agreement(found, chosen, data, pictures, open_engine)
    _judge(found, chosen, rows, open_engine)
    shown = [row for row in rows if not only or row["precision"] in only]
    if as_json:
        click.echo(json.dumps({"package": str(found.folder), "variants": shown}))
        return
    table.show(shown, COLUMNS, as_json=False)
    _show_classes(shown)


def _by_truth(
    package: ModelPackage,
    chosen: Sequence[Variant],
    annotations: Path,
    images: Path | None,
    plot: Path | None,
    open_engine: OpenEngine,
) -> list[dict[str, Any]]:
    from agent.cli.model_prepare import Teller, rounded, truth_judge

    judge = truth_judge(package, annotations, images, Teller().steps, open_engine)
    rows: list[dict[str, Any]] = []
    curves: dict[str, Any] = {}
    found: dict[str, Mapping[str, Detections]] = {}
    for variant in chosen:
        found[variant.precision] = judge.found(
            package.file_of(variant), variant.optimisation or "all", variant.precision
        )
        accuracy = judge.score(found[variant.precision])
        curves[variant.precision] = accuracy.curve
        rows.append(
            {
                "precision": variant.precision,
                "map50_95": rounded(accuracy.map50_95),
                "map50": rounded(accuracy.map50),
                "by_class": {name: rounded(value) for name, value in accuracy.by_class.items()},
                "pictures": len(found[variant.precision]),
            }
        )
    base = next((row["map50_95"] for row in rows if row["precision"] == "fp32"), None)
    for row in rows:
        row["loss"] = None if base is None else rounded(base - row["map50_95"])
    if plot is not None:
        _plot(plot, package, curves, found)
    return rows


def _judge(
    package: ModelPackage, chosen: Sequence[Variant], rows: Sequence[dict[str, Any]], open_engine: OpenEngine
) -> None:
    """Add speed, and the gate's word: on what was measured now, not on what is recorded."""
    from agent.precision.gate import judge
    from agent.precision.speed import measure
    from agent.precision.usable import MEASURE, graph_of, limit_of

    # What comes first is what the others are compared with.
    pairs = sorted(zip(chosen, rows, strict=True), key=lambda pair: pair[0].precision != "fp32")
    speeds = measure(package, [graph_of(package, one) for one, _ in pairs], open_engine)
    has_fp32 = pairs[0][0].precision == "fp32"
    for (variant, row), speed in zip(pairs, speeds, strict=True):
        speedup = speed.speedup if has_fp32 else None
        row["ms"], row["speedup"] = round(speed.seconds * 1e3, 2), None if speedup is None else round(speedup, 3)
        alone = variant.precision == "fp32" or len(package.variant) == 1
        verdict = judge(row["loss"], speedup, limit_of(variant), forced=bool(variant.forced))
        row["usable"], row["reason"] = MEASURE if alone else verdict


def _plot(
    path: Path, package: ModelPackage, curves: Mapping[str, Any], found: Mapping[str, Mapping[str, Detections]]
) -> None:
    from agent.precision.plots import accuracy_picture

    base = found.get("fp32", {})
    scores = {
        name: [pair for file, one in base.items() for pair in _pairs(one, other[file])]
        for name, other in found.items()
        if name != "fp32"
    }
    accuracy_picture(path, package.name, curves, scores)
    click.echo(f"picture: {path}", err=True)


def _pairs(first: Detections, second: Detections) -> list[tuple[float, float]]:
    from agent.precision.agreement import matched

    match = matched(first, second)
    pairs = zip(first.scores[match.first].tolist(), second.scores[match.second].tolist(), strict=True)
    return [pair for pair in pairs if max(pair) >= LEAST_SHOWN]


def _by_agreement(
    package: ModelPackage, chosen: Sequence[Variant], data: str, pictures: int, open_engine: OpenEngine
) -> list[dict[str, Any]]:
    from agent.cli.model_prepare import Teller, rounded
    from agent.precision.calibration import sample
    from agent.precision.judging import AgreementJudge

    steps = Teller().steps
    frames = sample([data], pictures, steps).frames
    judge = AgreementJudge(package, frames, Path(data).name, steps, open_engine)
    rows = []
    for variant in chosen:
        figures = judge.figures(package.file_of(variant), variant.optimisation or "all", variant.precision)
        values = {"f1": figures.f1, "score_difference": figures.score_difference, "loss": figures.loss}
        told = {name: rounded(value) for name, value in values.items()}
        rows.append({"precision": variant.precision, **told, "pictures": len(frames)})
    return rows


def _show_classes(rows: list[dict[str, Any]]) -> None:
    """mAP50-95 by class, a column a variant."""
    names = [row["precision"] for row in rows if "by_class" in row]
    classes = sorted({label for row in rows for label in row.get("by_class", {})})
    if not classes:
        return
    click.echo()
    lines = [
        {"class": label} | {row["precision"]: row["by_class"].get(label) for row in rows if "by_class" in row}
        for label in classes
    ]
    table.show(lines, ("class", *names), as_json=False)
