"""The parts of the hot path: preprocessing, what follows the engine, the tracker, each beside its bound or rival."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench_clips import scaled
from bench_places import peer_python
from bench_process import Contestant, ContestantError
from bench_race import Beside, floored
from bench_rooms import NANODET, YOLOX, Bench
from bench_rows import Row

CLIP, BUSY = "car-detection.mp4", "classroom.mjpg.avi"
PREPROCESS, POSTPROCESS_MS, TRACKER_MS, TRACKER_AHEAD = 1.5, 0.3, 0.5, 4.0
TABLE_MS = 9.8
"""What session.run of yolox_nano took on one thread of the machine that the promises in milliseconds were made on. This
one may be half as fast, and twice as slow as a minute ago; what it takes in the same rounds says how slow."""
FLOOR_FRAMES = 25

Rounds = Sequence[Beside]


def parts(bench: Bench) -> None:
    """Preprocessing and what follows the engine."""
    clip = bench.clip(CLIP)
    packages = [str(bench.package(model)) for model in (YOLOX, NANODET)]
    words = ["--packages", *packages, "--clips", str(clip), str(scaled(clip, 1080))]
    words += ["--busy", str(bench.clip(BUSY))]
    with Contestant("parts", "parts.py", *words, folder=bench.folder) as contestant:
        rounds = _rounds(bench, contestant)
    bench.groups["parts"] = _document(rounds)
    for row in rows_of(rounds):
        bench.add(row)


def rows_of(rounds: Rounds) -> list[Row]:
    """Medians over the rounds."""
    rows = []
    for number, one in enumerate(rounds[0].told["preprocess"]):
        each = [told["preprocess"][number] for told, _ in rounds]
        key = f"preprocess / bare resize, {one['model']}, {one['width']} wide"
        ratio = statistics.median(some["ms"] / some["bare_ms"] for some in each)
        took = statistics.median(some["ms"] for some in each)
        rows.append(Row(key, f"{key} ({took:.2f} ms)", ratio, "x", PREPROCESS))
    for number, one in enumerate(rounds[0].told["postprocess"]):
        target = POSTPROCESS_MS if one["model"] == YOLOX.name else None
        key = f"postprocess, {one['model']}, {one['clip']}"
        took_beside = [(told["postprocess"][number]["ms"], floor["ms"]) for told, floor in rounds]
        rows.append(scaled_row(key, f"{key}, {one['boxes']:.1f} boxes a picture", took_beside, target))
    return rows


def scaled_row(key: str, what: str, rounds: Sequence[tuple[float, float]], target: float | None) -> Row:
    """A row of milliseconds, told as what they were where session.run takes TABLE_MS; medians over the rounds, of each
    its milliseconds and those of session.run beside it, which stand in the row's text."""
    took, floor = (statistics.median(values) for values in zip(*rounds, strict=True))
    value = statistics.median(ms / beside for ms, beside in rounds) * TABLE_MS
    told = f"{what} ({took:.3f} ms, session.run {floor:.1f}), where that takes {TABLE_MS}"
    return Row(key, told, value, "ms", target)


def tracker(bench: Bench) -> None:
    """A hundred objects, ours and ByteTrack in the same process where `trackers` is installed."""
    rounds = _tracked(bench, peer_python("trackers"))
    bench.groups["tracker, 100 objects"] = _document(rounds)
    key = "tracker, 100 objects"
    bench.add(scaled_row(key, key, [(told["ours"], floor["cpu_ms"]) for told, floor in rounds], TRACKER_MS))
    if "ByteTrack" in rounds[0].told:
        theirs = statistics.median(told["ByteTrack"] / told["ours"] for told, _ in rounds)
        key = "ByteTrack of trackers / our tracker, 100 objects"
        bench.add(Row(key, key, theirs, "x", TRACKER_AHEAD, "higher"))


def _tracked(bench: Bench, python: Path | None) -> Rounds:
    if python is None:
        bench.skip("trackers", "not installed: python benchmarks/peers/make.py trackers")
    try:
        with Contestant("trackers", "hundred_objects.py", python=python, folder=bench.folder) as contestant:
            return _rounds(bench, contestant)
    except ContestantError as error:
        if python is None:
            raise
        bench.skip("trackers", f"{error}; ours alone")
    with Contestant("tracker", "hundred_objects.py", folder=bench.folder) as contestant:
        return _rounds(bench, contestant)


def _rounds(bench: Bench, contestant: Contestant) -> Rounds:
    floor = bench.floor(YOLOX, bench.clip(CLIP), 1, FLOOR_FRAMES)
    try:
        return list(floored(floor.round, contestant.round, bench.rounds))
    finally:
        floor.__exit__()


def _document(rounds: Rounds) -> dict[str, Any]:
    return {"rounds": [{**told, "session_run": floor} for told, floor in rounds]}
