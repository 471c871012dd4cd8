"""A thousand changes of precision while a clip runs through the daemon: frames in and out, the longest gap, memory.

    python benchmarks/precision_switches.py --clip CLIP [--model PACKAGE] [--switches 1000] [--json]

The clip plays at its own pace. The ladder is fp32 and int8; the command ``limit`` asks for the other rung after every
frame, until there were so many changes (the clip needs a few frames more); what is left of the clip runs with one
precision, to compare. A copy of the package is given an int8 variant that the gate need not like (``model prepare
--naive --force``).
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

if TYPE_CHECKING:
    from agent.app import App
    from agent.data import Detections, Frame

PRECISIONS = ("fp32", "int8")
WARM = 20
"""Frames before the first change: what is allocated once is there by then."""


class Told(NamedTuple):
    """What the daemon told of one frame, and when (monotonic seconds)."""

    at: float
    seq: int
    precision: str
    captured: float
    seconds: float


class Gaps(NamedTuple):
    """Between two frames told, milliseconds; and of how many gaps. ``over``: how many were longer than the clip's usual
    interval and a usual inference; ``over_own``: than the time between these two pictures of the clip, as they came,
    and the second one's inference, as long as it took; ``excess``: by how much the worst of those. A loaded machine
    delays pictures and inferences by itself."""

    gaps: int
    median: float
    longest: float
    over: int
    over_own: int
    excess: float


@contextmanager
def watched(rows: list[Told], then: Callable[[], None]) -> Iterator[None]:
    """Every frame's detections as the host gets them, on the dispatcher's thread; ``then`` is called after each."""
    from agent.host.manager import Host

    whole = Host.offer_detections

    def offer(self: Host, detections: Detections, frame: Frame) -> None:
        whole(self, detections, frame)
        seconds = detections.latency_ms / 1e3
        rows.append(Told(time.monotonic(), frame.seq, detections.precision, frame.captured_mono, seconds))
        then()

    Host.offer_detections = offer  # type: ignore[method-assign]
    try:
        yield
    finally:
        Host.offer_detections = whole  # type: ignore[method-assign]


class Switcher:
    """Asks for the other rung after each frame, on a thread of its own as a plugin would; fp32 again at the end."""

    def __init__(self, app: App, switches: int) -> None:
        self._limit = app.control.commands()["limit"]
        self._left = switches
        self._frame = threading.Event()
        self._thread = threading.Thread(target=self._run, name="switcher", daemon=True)
        self._thread.start()

    def frame(self) -> None:
        self._frame.set()

    def _run(self) -> None:
        arguments, handler = self._limit
        rung = 0
        while self._left > 0 and self._frame.wait(60):
            self._frame.clear()
            rung = 1 - rung
            handler(arguments(rung=rung))
            self._left -= 1


def with_int8(package: Path, folder: Path, clip: Path) -> Path:
    """A copy of the package with an int8 variant that may be used."""
    from agent.detection.model import load_package
    from agent.engines.store import SpeedStore
    from agent.precision.calibration import halves, sample
    from agent.precision.judging import AgreementJudge
    from agent.precision.prepare import Wishes, prepare

    copy = load_package(Path(shutil.copytree(package, folder / package.name)))
    mine, others = halves(sample([str(clip)], 16))
    wishes = Wishes(precisions=("int8",), keep_float="none", force=True)
    prepare(copy, wishes, mine, AgreementJudge(copy, others.frames, clip.name), SpeedStore(), lambda _line: None)
    return copy.folder


def configuration(clip: Path, package: Path, state: Path, threads: int | None) -> Any:
    from agent.config import parse

    count = "" if threads is None else f"threads = {threads}\n"
    return parse(
        f'[agent]\nname = "switches"\nstate_dir = "{state}"\n[model]\npath = "{package}"\n{count}'
        f'[[camera]]\nname = "clip"\nsource = "{clip}"\nmax_age = 10\n'
        '[governor]\nladder = [{ precision = "fp32" }, { precision = "int8" }]\n'
    )


def gaps(rows: Sequence[Told], bound: float) -> dict[str, float] | None:
    """See Gaps; None where there are none."""
    pairs = list(itertools.pairwise(rows))
    if not pairs:
        return None
    apart = [two.at - one.at for one, two in pairs]
    excess = [gap - (two.captured - one.captured + two.seconds) for gap, (one, two) in zip(apart, pairs, strict=True)]
    return Gaps(
        len(apart),
        round(statistics.median(apart) * 1e3, 1),
        round(max(apart) * 1e3, 1),
        sum(gap > bound for gap in apart),
        sum(over > 0 for over in excess),
        round(max(0.0, *excess) * 1e3, 1),
    )._asdict()


def run(clip: Path, package: Path, switches: int, threads: int | None, folder: Path) -> dict[str, Any]:
    from agent.app import App

    rows: list[Told] = []
    memory: list[int] = []
    begun: list[Switcher] = []

    def frame_told() -> None:
        if len(rows) % 10 == 0:
            memory.append(resident())
        if len(rows) > WARM:
            for switcher in begun:
                switcher.frame()

    with watched(rows, frame_told), App(configuration(clip, package, folder / "state", threads)) as app:
        begun.append(Switcher(app, switches))
        app.wait()
        counts = app.summary()["cameras"]["clip"]
    return report(rows, memory, counts)


def report(rows: Sequence[Told], memory: Sequence[int], counts: dict[str, int]) -> dict[str, Any]:
    changed = [index for index in range(1, len(rows)) if rows[index].precision != rows[index - 1].precision]
    last = changed[-1] if changed else 0
    interval = statistics.median(two.captured - one.captured for one, two in itertools.pairwise(rows))
    slowest = {name: [row.seconds for row in rows if row.precision == name] for name in PRECISIONS}
    inference = max(statistics.median(times) for times in slowest.values() if times)
    bound = interval + inference
    return {
        "switches": len(changed),
        "frames": {**counts, "told": len(rows), "in order": [row.seq for row in rows] == list(range(len(rows)))},
        "interval_ms": round(interval * 1e3, 1),
        "inference_ms": {name: round(statistics.median(times) * 1e3, 1) for name, times in slowest.items() if times},
        "longest_inference_ms": {name: round(max(times) * 1e3, 1) for name, times in slowest.items() if times},
        "bound_ms": round(bound * 1e3, 1),
        "gaps_while_switching_ms": gaps(rows[: last + 1], bound),
        "gaps_without_ms": gaps(rows[last:], bound),
        "longest_interval_of_the_clip_ms": round(
            max(two.captured - one.captured for one, two in itertools.pairwise(rows)) * 1e3, 1
        ),
        "rss_mb": memory_at(memory),
    }


def memory_at(memory: Sequence[int]) -> dict[str, float]:
    """Resident megabytes when both precisions have worked for a while (a tenth of the run), later, and at most."""
    last = len(memory) - 1
    places = {"start": last // 10, "quarter": last // 4, "middle": last // 2, "end": last}
    return {name: round(memory[place] / 2**20, 1) for name, place in places.items()} | {
        "highest": round(max(memory) / 2**20, 1)
    }


def resident() -> int:
    import psutil

    return int(psutil.Process().memory_info().rss)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", type=Path, required=True)
    parser.add_argument("--model", default="desk", help="a package; the bundled one by default")
    parser.add_argument("--switches", type=int, default=1000)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    from agent.detection.model import find_package

    with tempfile.TemporaryDirectory(prefix="edgewarden-switches-") as name:
        folder = Path(name)
        os.environ["EDGEWARDEN_CACHE"] = str(folder / "cache")
        package = with_int8(find_package(options.model).folder, folder, options.clip)
        found = run(options.clip.resolve(), package, options.switches, options.threads, folder)
    if options.json:
        print(json.dumps(found))
        return
    for key, value in found.items():
        print(f"{key:34} {value}")


if __name__ == "__main__":
    main()
