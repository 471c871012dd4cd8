"""``edgewarden bench``: what the engine alone costs, what a whole frame costs, and their ratio, in one run."""

from __future__ import annotations

import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from agent.cli.progress import Progress

if TYPE_CHECKING:
    from agent.data import Frame
    from agent.detection.engine_set import EngineSet


@click.command(name="bench")
@click.option("--model", "-m", default="desk", show_default=True, help="A model package: folder or name.")
@click.option("--source", "-s", default="synthetic://desk?fps=1000", show_default=True, help="What to look at.")
@click.option("--rounds", type=click.IntRange(min=3), default=7, show_default=True, help="Interleaved rounds.")
@click.option("--frames", type=click.IntRange(min=5), default=40, show_default=True, help="Frames a round.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def command(model: str, source: str, rounds: int, frames: int, as_json: bool) -> None:
    """Engine floor and whole pipeline, side by side.

    In each round the engine alone, then the detector (preprocess, engine, decode, NMS), then the whole frame (detector,
    tracks, events) run over the same pictures; medians over the rounds, ratios to the engine of the same round.
    """
    from agent.app import build_detector
    from agent.config import ModelConfig
    from agent.host.extensions import extensions

    detector = build_detector(ModelConfig(path=model), extensions().decoders)
    pictures = _pictures(source, frames)
    contestants: dict[str, Callable[[Frame], object]] = _contestants(detector)
    measured: dict[str, list[float]] = {name: [] for name in contestants}
    with Progress("rounds", rounds) as progress:
        for _ in range(rounds):
            for name, run in contestants.items():
                measured[name].append(_per_frame_ms(run, pictures))
            progress.step()
    report = _report(measured)
    if as_json:
        click.echo(json.dumps({"model": model, "source": source, "backend": detector.backend, **report}))
        return
    click.echo(f"{model} on {source}, {detector.backend}, {rounds} rounds of {len(pictures)} frames")
    for name, figures in report["contestants"].items():
        click.echo(f"  {name:16} {figures['ms']:8.2f} ms a frame   {figures['ratio']:5.2f} x engine")


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


def _contestants(detector: EngineSet) -> dict[str, Callable[[Frame], object]]:
    from agent.tracking.events import Events
    from agent.tracking.tracker import Tracker

    tracker, events = Tracker(), Events("bench", "bench")

    def whole(frame: Frame) -> object:
        now = time.monotonic()
        return events.update(tracker.update(detector.detect(frame), now), frame, now)

    return {"engine": detector.engine_alone, "detector": detector.detect, "whole frame": whole}


def _per_frame_ms(run: Callable[[Frame], object], frames: list[Frame]) -> float:
    started = time.perf_counter()
    for frame in frames:
        run(frame)
    return (time.perf_counter() - started) / len(frames) * 1e3


def _report(measured: dict[str, list[float]]) -> dict[str, Any]:
    floor = measured["engine"]
    return {
        "contestants": {
            name: {
                "ms": round(statistics.median(values), 3),
                "ratio": round(statistics.median(a / b for a, b in zip(values, floor, strict=True)), 3),
            }
            for name, values in measured.items()
        }
    }
