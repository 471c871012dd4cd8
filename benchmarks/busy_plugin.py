"""How old frames are beside a plugin that computes in Python without a pause: with the interpreter's own turns of 5 ms,
and with the daemon's (agent/startup.py, TURN).

    python benchmarks/busy_plugin.py --model PACKAGE [--source CLIP] [--rounds 3] [--seconds 10]

A camera at its own pace. Each run is a process of its own, in turn; told are the medians over the rounds of the
daemon's own percentiles, and of the ratios of one round.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bad_plugins import Entry

from agent import hookimpl

INTERPRETERS = 0.005
"""sys.getswitchinterval() of Python as it comes, in seconds."""


class Busy:
    """Computes from its start on, on a thread of its own, and never pauses."""

    @hookimpl
    def startup(self, agent: Any, config: Any) -> None:
        threading.Thread(target=self._compute, daemon=True).start()

    def _compute(self) -> None:
        while True:
            sum(range(1000))


def run(source: str, model: str, seconds: float) -> dict[str, float]:
    """One run of the daemon in this process: its percentiles of the frames' ages, in milliseconds."""
    from agent.app import App
    from agent.config import parse

    with tempfile.TemporaryDirectory() as folder:
        text = (
            f'[agent]\nstate_dir = "{folder}"\n[model]\npath = {json.dumps(model)}\n'
            f'[[camera]]\nname = "cam"\nsource = {json.dumps(source)}\n[plugins.busy]\n'
        )
        with App(parse(text), entry_points=[Entry("busy", lambda: Busy)]) as app:
            app.wait(seconds)
        ages: dict[str, float] = app.summary()["frame_age_ms"]
    return ages


def main() -> None:
    """Print what the module's docstring promises."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="synthetic://desk?fps=10", help="clip or camera (default %(default)s)")
    parser.add_argument("--model", default="desk", help="model package (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="pairs of runs (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each run (default %(default)s)")
    parser.add_argument("--turn", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.turn is not None:
        sys.setswitchinterval(options.turn)
        print(json.dumps(run(options.source, options.model, options.seconds)))
        return
    from agent.startup import TURN

    words = [sys.executable, str(Path(__file__)), "--source", options.source, "--model", options.model]
    words += ["--seconds", str(options.seconds)]
    rounds = []
    for number in range(options.rounds):
        turns = (INTERPRETERS, TURN) if number % 2 else (TURN, INTERPRETERS)
        rounds.append({turn: _one([*words, "--turn", str(turn)]) for turn in turns})
        print(f"round {number + 1}: " + "; ".join(f"{turn * 1e3:g} ms: {ages}" for turn, ages in rounds[-1].items()))
    for name in ("p50", "p95"):
        ratio = statistics.median(ages[TURN][name] / ages[INTERPRETERS][name] for ages in rounds)
        medians = [statistics.median(ages[turn][name] for ages in rounds) for turn in (INTERPRETERS, TURN)]
        print(f"frame age {name}: {medians[0]:.1f} -> {medians[1]:.1f} ms, {ratio:.2f} x")


def _one(words: list[str]) -> dict[str, float]:
    ages: dict[str, float] = json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout)
    return ages


if __name__ == "__main__":
    main()
