"""The benchmark: contestants in interleaved rounds, each a process of its own, medians and ratios to the engine's floor
of the same round; a table with what was promised, JSON and a picture.

    python benchmarks/bench.py [--rounds 5] [--only GROUP …] [--json FILE] [--picture FILE] [--page FILE] [--update]

Exit status 1 when a ratio is more than 10 % worse than the one in benchmarks/ratios.json, each named; --update writes
that file. A promise that does not hold is said in the table, and no failure. What is not there (peers, a broker, the
material) is left out with a word. What was measured while the machine's host took much, or while the machine was slower
than at its best, is measured again at the end, for a minute in all, and the calmest counts. Peers are installed by
benchmarks/peers/make.py.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import bench_cameras
import bench_fast
import bench_installed
import bench_paced
import bench_parts
from bench_host import CALM, Host, pace
from bench_page import figures, rewrite
from bench_places import RATIOS, kept_folder, material_folder
from bench_process import ContestantError
from bench_rooms import Bench, Group, opened
from bench_rows import Row, committed_text, read_committed, regressions

MOST_LOAD = 0.1
SLOW = 0.15
"""By so much longer than at its best may a piece of work take the machine."""
AGAIN = 60.0
"""Seconds that all of it may take that is measured again."""
TRIES = 3
GROUPS: dict[str, Group] = {
    "yolox": bench_fast.yolox,
    "nanodet": bench_fast.nanodet,
    "paced": bench_paced.paced,
    "start": bench_paced.start,
    "parts": bench_parts.parts,
    "tracker": bench_parts.tracker,
    "installed": bench_installed.installed,
    "cameras": bench_cameras.cameras,
    "yolov8n-size": bench_fast.yolov8n_size,
}


class Attempt(NamedTuple):
    """What one group gave. ``stolen``: the share of the processors' time that the machine's host took meanwhile, of
    turns that were taken again as well; ``before`` and ``after``: milliseconds of a fixed piece of work then."""

    stolen: float
    before: float
    after: float
    seconds: float
    rows: list[Row]
    groups: dict[str, Any]
    skipped: dict[str, str]

    def disturbance(self, best: float) -> float:
        """The worse of what the host took and of how slow the machine was beside its ``best``, each as a multiple of
        its limit: above 1 the group is measured again."""
        return max(self.stolen / CALM, (self.pace / best - 1.0) / SLOW)

    @property
    def pace(self) -> float:
        """The mean of ``before`` and ``after``."""
        return (self.before + self.after) / 2.0


Attempts = dict[str, list[Attempt]]


def measure(names: Sequence[str], rounds: int, minutes: float) -> tuple[Bench, float]:
    """All groups, one after the other; and how many times its least the piece of work took beside what counts."""
    attempts: Attempts = {}
    with opened(rounds) as bench:
        bench.minutes = minutes
        for name in names:
            if bench.is_late():
                bench.skip(name, f"the {minutes:g} minutes are over; --only {name} measures it alone")
                continue
            attempts[name] = [attempt(bench, name)]
        again(bench, attempts, AGAIN)
        best = best_pace(attempts)
        counted = [calmest(made, best) for made in attempts.values()]
        for one in counted:
            bench.rows += one.rows
            bench.groups |= one.groups
            bench.skipped |= one.skipped
        return bench, max((max(one.before, one.after) for one in counted if one.rows), default=best) / best


def again(bench: Bench, attempts: Attempts, spare: float) -> None:
    """Measure again what was disturbed, in its turn, as far as it fits into ``spare`` seconds."""
    for _ in range(TRIES - 1):
        for name, made in attempts.items():
            best = best_pace(attempts)
            one = calmest(made, best)
            failed = len(made[-1].rows) < len(one.rows) or not one.rows
            if failed or one.disturbance(best) <= 1.0 or one.seconds > spare or bench.is_late():
                continue
            bench.say(
                f"{name}: the machine's host took {one.stolen:.1%} of the processors' time, and it ran at "
                f"{best / one.pace:.0%} of its best pace; once more"
            )
            made.append(attempt(bench, name))
            spare -= made[-1].seconds


def calmest(made: Iterable[Attempt], best: float) -> Attempt:
    """Which of a group's attempts counts: of those that gave most, the one that was disturbed least."""
    return min(made, key=lambda one: (-len(one.rows), one.disturbance(best)))


def best_pace(attempts: Attempts) -> float:
    """The least that the piece of work took, around any attempt."""
    return min((min(one.before, one.after) for made in attempts.values() for one in made), default=1.0)


def attempt(bench: Bench, name: str) -> Attempt:
    """One group by itself; one that fails is told of, and the others go on."""
    own, before, host, began = replace(bench, rows=[], groups={}, skipped={}), pace(), Host(), time.monotonic()
    try:
        GROUPS[name](own)
    except ContestantError as error:
        own.skip(name, str(error))
    except Exception as error:  # noqa: BLE001 - one group's fault is no reason to lose the others' figures
        traceback.print_exc()
        own.skip(name, f"{type(error).__name__}: {error}")
    stolen, seconds = host.whole(), time.monotonic() - began
    return Attempt(stolen, before, pace(), seconds, own.rows, own.groups, own.skipped)


def machine() -> dict[str, Any]:
    """What was measured on."""
    import cv2
    import numpy
    import onnxruntime

    model = platform.processor() or platform.machine()
    if (info := Path("/proc/cpuinfo")).exists():
        names = [
            line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
        "opencv": cv2.__version__,
        "numpy": numpy.__version__,
    }


def others_load(seconds: float = 1.5) -> float:
    """The share of the processor that others take before anything of ours runs."""
    import psutil

    return float(psutil.cpu_percent(interval=seconds)) / 100


def document(bench: Bench, about: Mapping[str, Any], worse: Sequence[str]) -> dict[str, Any]:
    """All of it for the JSON."""
    return {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": dict(about),
        "rounds": bench.rounds,
        "seconds": round(time.monotonic() - bench.began, 1),
        "rows": [row.document() for row in bench.rows],
        "groups": bench.groups,
        "skipped": bench.skipped,
        "regressions": list(worse),
    }


def table(rows: Sequence[Row], skipped: Mapping[str, str], worse: Sequence[str]) -> str:
    """For a person."""
    lines = [row.line() for row in rows]
    missed = [row for row in rows if row.met is False]
    promised = [row for row in rows if row.target is not None]
    lines.append(f"{len(promised) - len(missed)} of {len(promised)} promises met")
    lines += [f"not measured: {what}: {why}" for what, why in skipped.items()]
    lines += [f"REGRESSION: {line}" for line in worse]
    return "\n".join(lines)


def drawn(path: Path, bench: Bench) -> None:
    """The picture, where matplotlib is installed."""
    try:
        from bench_picture import draw

        draw(path, bench.groups, bench.rows)
    except ImportError:
        print(f"{path}: not drawn: pip install 'edgewarden[model]' for matplotlib", file=sys.stderr)


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default %(default)s)")
    parser.add_argument(
        "--minutes", type=float, default=Bench.minutes, help="after which nothing more is begun (default %(default)s)"
    )
    parser.add_argument("--only", nargs="+", choices=list(GROUPS), default=list(GROUPS), help="groups (default: all)")
    parser.add_argument("--json", type=Path, default=kept_folder() / "bench.json", help="default %(default)s")
    parser.add_argument("--picture", type=Path, default=kept_folder() / "bench.png", help="default %(default)s")
    parser.add_argument("--page", type=Path, help="put the table into this page (docs/performance.md)")
    parser.add_argument("--update", action="store_true", help="write benchmarks/ratios.json")
    return parser.parse_args(words)


def main() -> int:
    """See the module."""
    options = arguments()
    if not material_folder().is_dir():
        print(f"{material_folder()}: no material to measure with; set EDGEWARDEN_MATERIAL", file=sys.stderr)
        return 69
    try:
        committed = read_committed(RATIOS)
    except ValueError as error:
        if not options.update:
            print(error, file=sys.stderr)
            return 1
        committed = {}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nobody is left behind
    about = {**machine(), "others_load": others_load()}
    if about["others_load"] > MOST_LOAD:
        print(
            f"others take {about['others_load']:.0%} of the processor: spinning threads suffer most from that, so no "
            "figure of this run is to be trusted",
            file=sys.stderr,
        )
    host = Host()
    try:
        bench, slower = measure(options.only, options.rounds, options.minutes)
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        return 130
    about |= {"host_took": round(host.whole(), 4), "slower": round(slower, 3)}
    worse = regressions(bench.rows, committed)
    print(table(bench.rows, bench.skipped, worse))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(document(bench, about, worse), indent=1) + "\n", encoding="utf-8")
    drawn(options.picture, bench)
    if options.page:
        rewrite(options.page, "figures", figures(bench.rows, about, bench.rounds, bench.skipped))
    if options.update:
        told = f"{about['processor']}, {about['cores']} cores"
        RATIOS.write_text(committed_text(bench.rows, committed, told), encoding="utf-8")
        print(f"{RATIOS}: written")
        return 0
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
