"""Our tracker beside the ByteTrack of `trackers` (PyPI): IDF1, MOTA and identity switches by motmetrics on made-up
sequences with ground truth, and the cost of a frame.

    python -m venv bench && bench/bin/pip install trackers motmetrics lapx msgspec numpy
    bench/bin/python benchmarks/tracking.py [--seconds 30] [--seeds 3] [--json FILE]

Both get the same detections. ByteTrack is run as it comes, told the nominal rate, and once more with the time of every
frame. A track counts in the frames in which it was seen. Costs are processor time on one thread, of the tracker alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from tracking_sequences import KINDS, SIZE, Frame, Kind, changing, sequence, steady  # noqa: E402

from agent.data import Detections  # noqa: E402
from agent.tracking.tracker import Tracker  # noqa: E402

Track = tuple[NDArray[np.float64], list[int]]
Update = Callable[[Frame], Track]

METRICS = ("idf1", "mota", "num_switches", "num_false_positives", "num_misses", "num_objects")
RATES: dict[str, float | None] = {"30 fps": 30.0, "5 fps": 5.0, "2 to 30 fps": None}


class Row(NamedTuple):
    """One tracker on one kind of sequences at one rate, all seeds together."""

    rate: str
    kind: str
    tracker: str
    idf1: float
    mota: float
    switches: int


@dataclass(frozen=True)
class Contender:
    """A tracker, ``update``, between what a frame gives it and what is read of its answer, which are no cost of it."""

    given: Callable[[Frame], Any]
    update: Callable[[Any], Any]
    told: Callable[[Any], Track]

    def __call__(self, frame: Frame) -> Track:
        """All three."""
        return self.told(self.update(self.given(frame)))


def ours(_fps: float) -> Contender:
    """This project's, as the daemon makes it."""
    tracker = Tracker()

    def update(found: Detections) -> tuple[list[Any], float]:
        return tracker.update(found, found.captured_at), found.captured_at

    def told(tracks: tuple[list[Any], float]) -> Track:
        seen = [track for track in tracks[0] if track.last_seen >= tracks[1]]
        return np.array([track.box for track in seen]).reshape(-1, 4), [track.id for track in seen]

    return Contender(_detections, update, told)


def byte_track(fps: float, *, timed: bool = False) -> Contender:
    """That of `trackers`, with its own defaults."""
    import supervision as sv
    from trackers import ByteTrackTracker

    tracker = ByteTrackTracker(frame_rate=fps)

    def given(frame: Frame) -> tuple[Any, float]:
        classes = np.zeros(len(frame.found), int)
        return sv.Detections(xyxy=frame.found, confidence=frame.scores, class_id=classes), frame.at

    def update(found: tuple[Any, float]) -> Any:
        return tracker.update(found[0], timestamp=found[1]) if timed else tracker.update(found[0])

    def told(tracks: Any) -> Track:
        sure = tracks.tracker_id >= 0
        return tracks.xyxy[sure], tracks.tracker_id[sure].tolist()

    return Contender(given, update, told)


TRACKERS: dict[str, Callable[[float], Contender]] = {
    "ours": ours,
    "ByteTrack": byte_track,
    "ByteTrack, timed": lambda fps: byte_track(fps, timed=True),
}


def _detections(frame: Frame) -> Detections:
    count = len(frame.found)
    return Detections(
        camera="bench",
        seq=0,
        captured_at=frame.at,
        boxes=frame.found.astype(np.float32),
        scores=frame.scores.astype(np.float32),
        class_ids=np.zeros(count, np.int32),
        labels=("person",) * count,
        size=SIZE,
        precision="",
        latency_ms=0.0,
    )


def accumulate(frames: Sequence[Frame], update: Update) -> Any:
    """A motmetrics accumulator of one sequence."""
    import motmetrics

    found = motmetrics.MOTAccumulator(auto_id=True)
    for frame in frames:
        boxes, ids = update(frame)
        found.update(frame.ids.tolist(), ids, 1.0 - _overlap(frame.boxes, boxes))
    return found


def _overlap(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """IoU ``[N, M]``; NaN after the subtraction below one half, which motmetrics takes for impossible."""
    from agent.tracking.overlap import iou

    shared = iou(first.T, second.T)
    return np.where(shared < 0.5, np.nan, shared)


def quality(
    seconds: float, seeds: int, names: Sequence[str], kinds: Sequence[Kind], rates: Sequence[str]
) -> Iterator[Row]:
    """A row for each rate, kind and tracker; a kind called ``all`` is all of them together."""
    import motmetrics

    host = motmetrics.metrics.create()
    for rate in rates:
        fps = RATES[rate]
        together: dict[str, list[Any]] = {name: [] for name in names}
        for kind in kinds:
            steps = [steady(seconds, fps) if fps else changing(seconds, seed) for seed in range(seeds)]
            films = [sequence(kind, seconds, seed, steps[seed]) for seed in range(seeds)]
            for name in names:
                ran = [accumulate(film, TRACKERS[name](fps or 30.0)) for film in films]
                together[name] += ran
                yield _row(host, rate, kind.name, name, ran)
        for name in names:
            yield _row(host, rate, "all", name, together[name])


def _row(host: Any, rate: str, kind: str, name: str, ran: Sequence[Any]) -> Row:
    table = host.compute_many(ran, metrics=list(METRICS), generate_overall=True)
    total = table.loc["OVERALL"]
    return Row(rate, kind, name, float(total["idf1"]), float(total["mota"]), int(total["num_switches"]))


def costs(names: Sequence[str], counts: Sequence[int] = (5, 20, 100), rounds: int = 5) -> dict[str, dict[int, float]]:
    """Milliseconds of processor time a frame, by tracker and objects: of each round the median, of these the least."""
    found: dict[str, dict[int, float]] = {name: {} for name in names}
    for count in counts:
        film = _film(count)
        for name in names:
            found[name][count] = min(_cost(film, TRACKERS[name](30.0)) for _ in range(rounds))
    return found


def _film(count: int) -> list[Frame]:
    """So many who drift through the picture, each found in every frame but one of twenty."""
    random = np.random.default_rng(count)
    centres, speeds = random.uniform((60, 100), (1860, 980), (count, 2)), random.normal(0, 60, (count, 2))
    heights, frames = random.uniform(60, 160, count), list[Frame]()
    for number in range(200):
        centres = centres + speeds / 30.0
        speeds = np.where((centres < (60, 100)) | (centres > (1860, 980)), -speeds, speeds)
        half = np.stack([0.2 * heights, 0.5 * heights], axis=1)
        boxes = np.concatenate([centres - half, centres + half], axis=1) + random.normal(0, 1.5, (count, 4))
        seen = random.random(count) > 0.05
        scores = np.sort(random.uniform(0.5, 0.95, count))[::-1]
        frames.append(Frame(number / 30.0, boxes, np.arange(count), boxes[seen], scores[seen]))
    return frames


def _cost(film: Sequence[Frame], contender: Contender) -> float:
    spent: list[float] = []
    for frame in film:
        given = contender.given(frame)
        began = time.thread_time()
        contender.update(given)
        spent.append(time.thread_time() - began)
    return float(np.median(spent) * 1e3)


CLIPS = {"one-by-one-person-detection": ("person", 6), "car-detection": ("", 4), "classroom": ("person", 4)}
"""What is looked for in each of the recorded clips, and how many of them people counted by eye."""


class Clip(NamedTuple):
    """How many tracks a tracker made of a clip at a rate, where people saw ``truth``."""

    clip: str
    rate: str
    tracker: str
    truth: int
    tracks: int


def clips(names: Sequence[str], folder: Path) -> Iterator[Clip]:
    """The recorded clips (benchmarks/record_detections.py) at their own rate, at 5 frames a second, and at 2."""
    for clip, (label, truth) in CLIPS.items():
        with np.load(folder / f"{clip}.npz") as kept:
            rows, times, labels = kept["rows"], kept["times"], kept["labels"].tolist()
        if label:
            rows = rows[rows[:, 6] == labels.index(label)]
        own = float((len(times) - 1) / (times[-1] - times[0]))
        for rate in (own, 5.0, 2.0):
            chosen = np.unique(np.searchsorted(times, np.arange(0.0, times[-1], 1.0 / rate) - 1e-6))
            film = [_recorded(rows[rows[:, 0] == number], float(times[number])) for number in chosen.tolist()]
            for name in names:
                update = TRACKERS[name](rate)
                ids = {track for frame in film for track in update(frame)[1]}
                yield Clip(clip, f"{rate:.3g} fps", name, truth, len(ids))


def _recorded(rows: NDArray[np.float32], at: float) -> Frame:
    nobody = np.empty((0, 4))
    found, scores = rows[:, 1:5].astype(np.float64), rows[:, 5].astype(np.float64)
    return Frame(at, nobody, np.empty(0, np.int64), found, scores)


def show(rows: Sequence[Row], spent: Mapping[str, Mapping[int, float]]) -> None:
    """The tables."""
    print(f"{'rate':12} {'kind':10} {'tracker':18} {'IDF1':>6} {'MOTA':>6} {'switches':>9}")
    for row in rows:
        print(f"{row.rate:12} {row.kind:10} {row.tracker:18} {row.idf1:6.3f} {row.mota:6.3f} {row.switches:9d}")
    print(f"\n{'ms a frame':18} " + " ".join(f"{count:>8}" for count in next(iter(spent.values()))))
    for name, by_count in spent.items():
        print(f"{name:18} " + " ".join(f"{value:8.3f}" for value in by_count.values()))


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=[kind.name for kind in KINDS], help="kinds of sequences")
    parser.add_argument("--trackers", nargs="*", default=list(TRACKERS))
    parser.add_argument("--rates", nargs="*", default=list(RATES))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    kinds = [kind for kind in KINDS if kind.name in arguments.only]
    rows = list(quality(arguments.seconds, arguments.seeds, arguments.trackers, kinds, arguments.rates))
    spent = costs(arguments.trackers)
    show(rows, spent)
    seen = list(clips(arguments.trackers, HERE.parent / "tests" / "tracking" / "recorded"))
    print(f"\n{'clip':30} {'rate':10} {'tracker':18} {'by eye':>7} {'tracks':>7}")
    for one in seen:
        print(f"{one.clip:30} {one.rate:10} {one.tracker:18} {one.truth:7d} {one.tracks:7d}")
    if arguments.json:
        quality_rows, clip_rows = [row._asdict() for row in rows], [one._asdict() for one in seen]
        document = {"quality": quality_rows, "ms_a_frame": spent, "clips": clip_rows}
        arguments.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
