"""``edgewarden bench``: what the engine alone costs, what a whole frame costs, and their ratio, in one run."""

from __future__ import annotations

import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.cli.backends import Backend, backend_options, opener, runnable
from agent.cli.histogram import bar, counts, draw, edges, percentiles
from agent.cli.progress import Progress
from agent.errors import SourceError

if TYPE_CHECKING:
    from agent.data import Frame
    from agent.detection.detector import Detector
    from agent.detection.manifest import Variant
    from agent.detection.model import ModelPackage


@click.command(name="bench")
@click.option("--model", "-m", default="desk", show_default=True, help="A model package: folder or name.")
@click.option("--source", "-s", default="synthetic://desk?fps=1000", show_default=True, help="What to look at.")
@click.option("--rounds", type=click.IntRange(min=3), default=7, show_default=True, help="Interleaved rounds.")
@click.option("--frames", type=click.IntRange(min=5), default=40, show_default=True, help="Frames a round.")
@backend_options
@click.option("--layers", type=click.IntRange(min=1), help="Also the dearest so many nodes of each precision's graph.")
@click.option("--picture", type=click.Path(path_type=Path, dir_okay=False), help="Draw the histograms into this PNG.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def command(
    model: str,
    source: str,
    rounds: int,
    frames: int,
    backend: Backend,
    device: str,
    layers: int | None,
    picture: Path | None,
    as_json: bool,
) -> None:
    """Engine floor and whole pipeline, side by side, for every precision of the model.

    In each round the engine alone, then the detector (preprocess, engine, decode, NMS), then the whole frame (detector,
    tracks, events) run over the same pictures; medians over the rounds, ratios to the engine of the same round, and how
    long each frame took: percentiles and a histogram. On a GPU also the network's milliseconds by the device's own
    clock, and the memory that is taken there.
    """
    from agent.detection.model import find_package

    package = find_package(model)
    pictures = _pictures(source, frames)
    if not pictures:
        raise SourceError(f"{source}: not one picture came")
    variants = runnable(package.variant, backend)
    reports = [_measured(package, variant, backend, device, pictures, rounds, layers) for variant in variants]
    if picture is not None:
        series = {f"{report['precision']}, {report['backend']}": report["frames_ms"] for report in reports}
        draw(picture, f"{model} on {source}", series)
    if as_json:
        click.echo(json.dumps({"model": model, "source": source, **reports[0], "precisions": reports}))
        return
    click.echo(f"{model} on {source}, {rounds} rounds of {len(pictures)} frames")
    for report in reports:
        _show(report)


def _measured(
    package: ModelPackage,
    variant: Variant,
    backend: Backend,
    device: str,
    pictures: list[Frame],
    rounds: int,
    layers: int | None,
) -> dict[str, Any]:
    """One precision: the contestants, memory, and the dearest nodes."""
    from agent.engines.layers import layers as layers_of
    from agent.precision.trial import open_detector

    file = package.file_of(variant)
    level, precision = variant.optimisation or "all", variant.precision
    detector = open_detector(package, file, level, open_engine=opener(package, backend, device), precision=precision)
    try:
        report = {"precision": variant.precision, "backend": detector.backend, **_raced(detector, pictures, rounds)}
        report |= _memory(detector)
        offered = getattr(detector.engine, "layers", None)
        dearest = offered() if layers and offered else None
    finally:
        detector.close()
    if layers:
        found = (dearest or layers_of(file, device))[:layers]
        report["layers"] = [{"name": one.name, "operator": one.operator, "ms": round(one.ms, 4)} for one in found]
    return report


def _raced(detector: Detector, pictures: list[Frame], rounds: int) -> dict[str, Any]:
    contestants: dict[str, Callable[[Frame], object]] = _contestants(detector)
    measured: dict[str, list[list[float]]] = {name: [] for name in contestants}
    with Progress("rounds", rounds) as progress:
        for _ in range(rounds):
            for name, run in contestants.items():
                measured[name].append(_frames_ms(run, pictures))
            progress.step()
    return _report(measured)


def _memory(detector: Detector) -> dict[str, Any]:
    """Of this process and of the device, bytes; and the network by the device's clock."""
    import psutil

    told: dict[str, Any] = {"rss_bytes": psutil.Process().memory_info().rss}
    on_device = getattr(detector.engine, "device_ms", None)
    if on_device is not None:
        memory = detector.engine.memory()  # type: ignore[attr-defined]
        told |= {"device_ms": round(on_device(), 4), "device_bytes": memory["used"], "buffer_bytes": memory["buffers"]}
    return told


def _show(report: dict[str, Any]) -> None:
    on_device = f", {report['device_ms']:.3f} ms by CUDA events" if "device_ms" in report else ""
    used = f", device {report['device_bytes'] / 1e6:,.0f} MB" if "device_bytes" in report else ""
    click.echo(f"{report['precision']}: {report['backend']}{on_device}")
    for name, figures in report["contestants"].items():
        tails = "  ".join(f"{share} {figures[share]:7.2f}" for share in ("p50", "p95", "p99"))
        click.echo(f"  {name:16} {figures['ms']:8.2f} ms a frame   {figures['ratio']:5.2f} x engine   {tails}")
    limits = report["histogram"]["edges_ms"]
    click.echo(f"  histogram, {limits[0]:.2f} to {limits[-1]:.2f} ms a frame and slower:")
    for name, found in report["histogram"]["counts"].items():
        click.echo(f"  {name:16} |{bar(found)}|")
    click.echo(f"  memory: resident {report['rss_bytes'] / 1e6:,.0f} MB{used}")
    for one in report.get("layers", ()):
        click.echo(f"  {one['ms']:8.3f} ms  {one['operator']:20} {one['name']}")


def _pictures(spec: str, count: int) -> list[Frame]:
    from agent.data import Frame
    from agent.host.extensions import extensions
    from agent.sources.factory import SourceOptions, open_source

    source = open_source(spec, options=SourceOptions(), factories=extensions().sources)
    source.open()
    try:
        read: Iterator[Any] = iter(source.read, None)
        return [
            Frame("bench", seq, picture.pixels, time.time(), time.monotonic())
            for seq, picture in enumerate(itertools.islice(read, count))
        ]
    finally:
        source.close()


def _contestants(detector: Detector) -> dict[str, Callable[[Frame], object]]:
    from agent.tracking.events import Events
    from agent.tracking.tracker import Tracker

    tracker, events = Tracker(), Events("bench", "bench")

    def whole(frame: Frame) -> object:
        now = time.monotonic()
        return events.update(tracker.update(detector.detect(frame), now), frame, now)

    return {"engine": _floor(detector), "detector": detector.detect, "whole frame": whole}


def _floor(detector: Detector) -> Callable[[Frame], object]:
    """The network alone: on a GPU as a graph on what lies there, else with its input and outputs."""
    on_device = getattr(detector.engine, "run_network", None)
    return detector.engine_alone if on_device is None else lambda _frame: on_device()


def _frames_ms(run: Callable[[Frame], object], frames: list[Frame]) -> list[float]:
    """Milliseconds of each frame."""
    took = []
    for frame in frames:
        started = time.perf_counter()
        run(frame)
        took.append((time.perf_counter() - started) * 1e3)
    return took


def _report(measured: Mapping[str, Sequence[Sequence[float]]]) -> dict[str, Any]:
    """Of each contestant's rounds of frames: medians of the rounds, and how all frames are spread."""
    means = {name: [statistics.fmean(frames) for frames in rounds] for name, rounds in measured.items()}
    frames = {name: [round(ms, 4) for each in rounds for ms in each] for name, rounds in measured.items()}
    limits = edges(list(frames.values()))
    return {
        "contestants": {
            name: {
                "ms": round(statistics.median(values), 3),
                "ratio": round(statistics.median(a / b for a, b in zip(values, means["engine"], strict=True)), 3),
                **percentiles(frames[name]),
            }
            for name, values in means.items()
        },
        "histogram": {
            "edges_ms": [round(limit, 4) for limit in limits],
            "counts": {name: counts(values, limits) for name, values in frames.items()},
        },
        "frames_ms": frames,
    }
