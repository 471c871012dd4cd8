"""The governor under load, for real: the detector at full rate, then other processes burn every core for a minute.

    python benchmarks/governor_load.py [--cameras 2] [--max-age 0.3] [--picture governor-load.png]

Prints JSON: p95 and maximum of the frame age before, while and after the cores burn, rates, and every rung change with
its reason. Ages count from the capture to the end of the dispatch. It measures this machine with all that runs on it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from agent.app import App
from agent.config import Config, parse
from agent.data import Health
from agent.governor.chart import Curve, Panel, draw

BURN = "while True: pass"


def configuration(folder: Path, cameras: int, max_age: float) -> Config:
    """So many synthetic cameras of 30 frames a second, and the desk model on one thread."""
    tables = [
        f'[[camera]]\nname = "cam{number}"\nsource = "synthetic://desk?fps=30&size=640x480&seed={number}"\n'
        f"max_age = {max_age}\n"
        for number in range(cameras)
    ]
    return parse(f'[agent]\nname = "load"\nstate_dir = "{folder}"\n[model]\nthreads = 1\n' + "".join(tables))


class Recorder:
    """Every second's Health, and every frame's age."""

    def __init__(self, app: App) -> None:
        self._app = app
        self.started = time.monotonic()
        self.seconds: list[tuple[float, Health, list[float], float]] = []
        self._offer: Callable[[Health], None] = app.host.offer_health
        self._told = app.pipeline.counts.inferred

    def __call__(self, health: Health) -> None:
        """In the place of the host's ``offer_health``."""
        counts = self._app.pipeline.counts
        new = counts.inferred - self._told
        self._told = counts.inferred
        ages = list(counts.frame_age_ms)[-new:] if new else []
        others = max(0.0, (health.cpu_load or 0.0) - (health.own_load or 0.0))
        self.seconds.append((time.monotonic() - self.started, health, ages, others))
        self._offer(health)


def p95(values: list[float]) -> float | None:
    """By nearest rank."""
    ordered = sorted(values)
    return round(ordered[max(0, -(-95 * len(ordered) // 100) - 1)], 1) if ordered else None


def run(cameras: int, max_age: float, calm: float, burn: float, after: float) -> tuple[Recorder, tuple[float, float]]:
    """The daemon in this process, the burners in their own."""
    with tempfile.TemporaryDirectory() as folder:
        app = App(configuration(Path(folder), cameras, max_age))
        with app:
            recorder = Recorder(app)
            app.host.offer_health = recorder  # type: ignore[method-assign]
            app.wait(calm)
            cores = len(os.sched_getaffinity(0))
            burners = [subprocess.Popen([sys.executable, "-c", BURN]) for _ in range(cores)]
            start = time.monotonic() - recorder.started
            try:
                app.wait(burn)
            finally:
                for burner in burners:
                    burner.kill()
                    burner.wait()
            end = time.monotonic() - recorder.started
            app.wait(after)
    return recorder, (start, end)


def report(recorder: Recorder, burning: tuple[float, float], max_age: float) -> dict[str, Any]:
    """What is told of the run."""
    start, end = burning

    def of(low: float, high: float) -> dict[str, Any]:
        rows = [row for row in recorder.seconds if low <= row[0] < high]
        ages = [age for row in rows for age in row[2]]
        return {
            "frame_age_ms_p95": p95(ages),
            "frame_age_ms_max": round(max(ages, default=0.0), 1),
            "inferences_a_second": round(len(ages) / max(1, len(rows)), 1),
            "others_cpu": round(sum(row[3] for row in rows) / max(1, len(rows)), 2),
        }

    rungs = [(at, health.rung, health.reason) for at, health, _, _ in recorder.seconds]
    changes = [
        {"at": round(now[0], 1), "from": before[1], "to": now[1], "reason": now[2]}
        for before, now in pairwise(rungs)
        if before[1] != now[1]
    ]
    return {
        "max_age_ms": max_age * 1e3,
        "load_average": os.getloadavg(),
        "burning": [round(start, 1), round(end, 1)],
        "before": of(0, start),
        "while": of(start, end),
        "after": of(end, float("inf")),
        "frame_age_ms_p95": p95([age for row in recorder.seconds for age in row[2]]),
        "changes": changes,
    }


def picture(path: Path, recorder: Recorder, burning: tuple[float, float], max_age: float) -> None:
    """Age, rate, rung and what the others take, over time."""
    at = [row[0] for row in recorder.seconds]
    rates = [float(len(row[2])) for row in recorder.seconds]
    ages = [p95(row[2]) or float("nan") for row in recorder.seconds]
    limit = Curve("max_age", (0, at[-1]), (max_age * 1e3, max_age * 1e3), grey=True)
    shaded = [burning]
    panels = [
        Panel("frame age, p95 of each second, ms", [Curve("age", at, ages), limit], shaded=shaded),
        Panel("inferences a second", [Curve("rate", at, rates)], shaded=shaded),
        Panel(
            "rung (0 is the top)",
            [Curve("rung", at, [row[1].rung for row in recorder.seconds], steps=True)],
            falling=True,
            shaded=shaded,
        ),
        Panel(
            "processor that others take, share",
            [Curve("others", at, [row[3] for row in recorder.seconds])],
            shaded=shaded,
        ),
    ]
    draw(path, "Full rate; grey: other processes burn every core", panels)


def main() -> None:
    """Run, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cameras", type=int, default=2)
    parser.add_argument("--max-age", type=float, default=0.3)
    parser.add_argument("--calm", type=float, default=30.0)
    parser.add_argument("--burn", type=float, default=60.0)
    parser.add_argument("--after", type=float, default=60.0)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    recorder, burning = run(options.cameras, options.max_age, options.calm, options.burn, options.after)
    print(json.dumps(report(recorder, burning, options.max_age), indent=1))
    if options.picture:
        picture(options.picture, recorder, burning, options.max_age)


if __name__ == "__main__":
    main()
