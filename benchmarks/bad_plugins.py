"""What four bad plugins cost: one raises, one sleeps, one hoards pictures, one cannot be imported.

    python benchmarks/bad_plugins.py --source CLIP --model PACKAGE --rounds 3      frames a second, with and without
    python benchmarks/bad_plugins.py --seconds 300                                 memory over five minutes, live

Frame rates are taken frame by frame, in turn, in processes of their own, and compared as ratios of the same round.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from agent import Event, Frame, hookimpl

SLEEP = 10.0


class Raises:
    """Fails at every event."""

    @hookimpl
    def on_event(self, event: Event) -> None:
        raise ValueError("no luck")


class Sleeps:
    """Takes 10 s for every event; its deadline is 5 s."""

    @hookimpl
    def on_event(self, event: Event) -> None:
        time.sleep(SLEEP)


class Hoards:
    """Holds on to every picture it gets."""

    def __init__(self) -> None:
        self.kept: list[Frame] = []

    @hookimpl
    def on_event(self, event: Event, frame: Frame | None) -> None:
        if frame is not None:
            self.kept.append(frame)

    @hookimpl
    def on_detections(self, detections: Any, frame: Frame | None) -> None:
        if frame is not None:
            self.kept.append(frame)


class Good:
    """Counts what it is told; a good plugin must miss nothing."""

    def __init__(self) -> None:
        self.told = 0

    @hookimpl
    def on_event(self, event: Event) -> None:
        self.told += 1


class DurableGood(Good):
    """The same, by a cursor in the event log."""

    durable = True


def _cannot_import() -> Any:
    raise ImportError("No module named 'siren'")


PLUGINS = {"good": Good, "durable": DurableGood}
BAD = {"raises": Raises, "sleeps": Sleeps, "hoards": Hoards}


class Entry:
    """An entry point that is not installed."""

    def __init__(self, name: str, load: Any) -> None:
        self.name = name
        self.load = load


def run(source: str, model: str, with_bad: bool, seconds: float | None) -> dict[str, Any]:
    """One run of the daemon in this process; its summary, states, and memory by the second."""
    from agent.app import App
    from agent.config import parse

    names = [*PLUGINS, *(BAD if with_bad else ()), *(["missing"] if with_bad else [])]
    entries = [Entry(name, lambda made=made: made) for name, made in {**PLUGINS, **BAD}.items()]
    entries.append(Entry("missing", _cannot_import))
    live = "realtime = false" if seconds is None else ""
    with tempfile.TemporaryDirectory() as folder:
        text = (
            f'[agent]\nstate_dir = "{folder}"\n[model]\npath = "{model}"\nthreads = 1\n'
            f'[[camera]]\nname = "cam"\nsource = "{source}"\n{live}\n'
            + "".join(f"[plugins.{name}]\n" for name in names)
        )
        memory: list[int] = []
        with App(parse(text), entry_points=entries) as app:
            watch = threading.Thread(target=_watch, args=(app, memory), daemon=True)
            watch.start()
            began = time.monotonic()
            app.wait(seconds)
            took = time.monotonic() - began
            states = {name: (status.state, status.reason) for name, status in app.host.statuses().items()}
        summary = app.summary()
    camera = summary["cameras"]["cam"]
    return {
        "fps": round(camera["inferred"] / took, 2),
        "frames": camera["inferred"],
        "events": sum(summary["events"].values()),
        "handled": {name: summary["plugins"][name]["handled"] for name in names},
        "states": states,
        "rss_mb": memory,
    }


def _watch(app: Any, memory: list[int]) -> None:
    import psutil

    process = psutil.Process()
    while not app.pipeline._stop.wait(1.0):
        memory.append(process.memory_info().rss >> 20)


def main() -> None:
    """Print what the module's docstring promises, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="synthetic://desk?fps=30", help="clip or camera (default %(default)s)")
    parser.add_argument("--model", default="desk", help="model package (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="pairs of runs (default %(default)s)")
    parser.add_argument("--seconds", type=float, help="one live run of so long instead, for memory")
    parser.add_argument("--one", choices=("good", "bad"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(run(options.source, options.model, options.one == "bad", options.seconds)))
        return
    words = [sys.executable, str(Path(__file__)), "--source", options.source, "--model", options.model]
    if options.seconds:
        print(_one([*words, "--seconds", str(options.seconds)], "bad"))
        return
    ratios = []
    for number in range(options.rounds):
        good, bad = (json.loads(_one(words, which)) for which in ("good", "bad"))
        ratios.append(bad["fps"] / good["fps"])
        print(
            f"round {number}: {good['fps']:.1f} fps alone, {bad['fps']:.1f} fps with four bad plugins: {ratios[-1]:.3f}"
        )
        assert bad["handled"]["good"] == bad["handled"]["durable"] == bad["events"]
    print(f"median ratio {statistics.median(ratios):.3f}; states: {json.dumps(bad['states'], indent=1)}")


def _one(words: list[str], which: str) -> str:
    return subprocess.run([*words, "--one", which], check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
