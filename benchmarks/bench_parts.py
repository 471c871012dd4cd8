"""The parts of the hot path: preprocessing, what follows the engine, the tracker, each beside its bound or rival."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench_clips import scaled
from bench_places import peer_python
from bench_process import Contestant, ContestantError
from bench_rooms import NANODET, YOLOX, Bench
from bench_rows import Row

CLIP, BUSY = "car-detection.mp4", "classroom.mjpg.avi"
PREPROCESS, POSTPROCESS_MS, TRACKER_MS, TRACKER_AHEAD = 1.5, 0.3, 0.5, 4.0


def parts(bench: Bench) -> None:
    """Preprocessing and what follows the engine."""
    clip = bench.clip(CLIP)
    packages = [str(bench.package(model)) for model in (YOLOX, NANODET)]
    words = ["--packages", *packages, "--clips", str(clip), str(scaled(clip, 1080))]
    words += ["--busy", str(bench.clip(BUSY))]
    with Contestant("parts", "parts.py", *words, folder=bench.folder) as contestant:
        rounds = [contestant.round() for _ in range(bench.rounds)]
    bench.groups["parts"] = {"rounds": rounds}
    for row in rows_of(rounds):
        bench.add(row)


def rows_of(rounds: Sequence[dict[str, Any]]) -> list[Row]:
    """Medians over the rounds."""
    rows = []
    for number, one in enumerate(rounds[0]["preprocess"]):
        each = [round_["preprocess"][number] for round_ in rounds]
        key = f"preprocess / bare resize, {one['model']}, {one['width']} wide"
        ratio = statistics.median(some["ms"] / some["bare_ms"] for some in each)
        took = statistics.median(some["ms"] for some in each)
        rows.append(Row(key, f"{key} ({took:.2f} ms)", ratio, "x", PREPROCESS))
    for number, one in enumerate(rounds[0]["postprocess"]):
        took = statistics.median(round_["postprocess"][number]["ms"] for round_ in rounds)
        target = POSTPROCESS_MS if one["model"] == YOLOX.name else None
        key = f"postprocess, {one['model']}, {one['clip']}"
        rows.append(Row(key, f"{key} ({one['boxes']:.1f} boxes a picture)", took, "ms", target, kept=False))
    return rows


def tracker(bench: Bench) -> None:
    """A hundred objects, ours and ByteTrack in the same process where `trackers` is installed."""
    rounds = _tracked(bench, peer_python("trackers"))
    own = statistics.median(round_["ours"] for round_ in rounds)
    bench.groups["tracker, 100 objects"] = {"rounds": rounds}
    bench.add(Row("tracker, 100 objects", "tracker, 100 objects", own, "ms", TRACKER_MS, kept=False))
    if "ByteTrack" in rounds[0]:
        theirs = statistics.median(round_["ByteTrack"] / round_["ours"] for round_ in rounds)
        key = "ByteTrack of trackers / our tracker, 100 objects"
        bench.add(Row(key, key, theirs, "x", TRACKER_AHEAD, "higher"))


def _tracked(bench: Bench, python: Path | None) -> list[dict[str, Any]]:
    if python is None:
        bench.skip("trackers", "not installed: python benchmarks/peers/make.py trackers")
    try:
        with Contestant("trackers", "hundred_objects.py", python=python, folder=bench.folder) as contestant:
            return [contestant.round() for _ in range(bench.rounds)]
    except ContestantError as error:
        if python is None:
            raise
        bench.skip("trackers", f"{error}; ours alone")
        return _tracked_alone(bench)


def _tracked_alone(bench: Bench) -> list[dict[str, Any]]:
    with Contestant("tracker", "hundred_objects.py", folder=bench.folder) as contestant:
        return [contestant.round() for _ in range(bench.rounds)]
