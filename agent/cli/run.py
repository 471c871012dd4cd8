"""``edgewarden run``: the daemon, in the foreground."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from agent.app import App
    from agent.config import Config

FIRST_CONFIG = """
\b
A first agent.toml (all keys: docs/configuration.md):

\b
  [[camera]]
  name = "door"
  source = "rtsp://192.168.1.20/stream"   # or /dev/video0, a file, a folder, synthetic://desk

\b
  [plugins.mqtt]
  host = "localhost"

Without [model] the bundled model runs. Exit codes: 0 stopped, or every recording ended; 1 failed; 69 a file or model
that is not there; 78 bad configuration.
"""


@click.command(name="run", epilog=FIRST_CONFIG)
@click.option("--config", "-c", "path", type=click.Path(path_type=Path), required=True, help="The agent.toml to run.")
@click.option("--frames", type=click.IntRange(min=1), help="Stop by itself after so many inferences.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="Stop by itself after so many seconds.")
@click.option("--no-build", is_flag=True, help="Use TensorRT plans that are built already, build none.")
@click.option("--json", "as_json", is_flag=True, help="Print a summary as one JSON document at the end.")
def command(path: Path, frames: int | None, seconds: float | None, no_build: bool, as_json: bool) -> None:
    """Run the daemon: cameras in, events out, until SIGTERM, Ctrl-C or the end of every recording."""
    import faulthandler

    from agent.logs import configure
    from agent.startup import Startup, hold_little, process_began, read_ahead, take_turns

    startup = Startup(process_began())
    startup.ended("interpreter", time.monotonic())
    hold_little()
    take_turns()
    threading.Thread(target=read_ahead, name="read-ahead", daemon=True).start()
    faulthandler.enable()  # a stack of every thread when the watchdog of systemd aborts us
    config = _load(path, no_build)
    configure(config.agent.log_level, config.agent.log_format)

    startup.ended("config", time.monotonic())

    from agent.app import App
    from agent.service import ReloadSignal, stop_on_signals

    stop = threading.Event()
    with stop_on_signals(stop), ReloadSignal() as hangup:
        startup.ended("imports", time.monotonic())
        app = App(
            config,
            stop_event=stop,
            max_frames=frames,
            load=lambda: _load(path, no_build),
            reload_asked=hangup.take,
            startup=startup,
        )
        with app:
            app.wait(seconds)
        report(app, as_json)


def _load(path: Path, no_build: bool) -> Config:
    import msgspec

    from agent.config import load

    config = load(path)
    if not no_build:
        return config
    return msgspec.structs.replace(config, model=msgspec.structs.replace(config.model, build=False))


def report(app: App, as_json: bool) -> None:
    """Print the summary; raise what ended the run before its time."""
    summary = app.summary()
    if as_json:
        click.echo(json.dumps(summary))
    else:
        for line in summary_lines(summary):
            click.echo(line)
    problem = app.problem()
    if problem is not None:
        raise problem


def summary_lines(summary: dict[str, Any]) -> list[str]:
    """The summary for a person."""
    lines = [f"{summary['seconds']:.1f} s, {summary['detections']} detections"]
    for name, camera in summary["cameras"].items():
        lines.append(f"camera {name}: " + ", ".join(f"{count} {what}" for what, count in camera.items()))
    lines.append("events: " + ", ".join(f"{count} {kind}" for kind, count in summary["events"].items()))
    for name, plugin in summary["plugins"].items():
        lines.append(f"plugin {name}: " + ", ".join(f"{count} {what}" for what, count in plugin.items()))
    ages = summary["frame_age_ms"]
    lines.append(f"frame age: p50 {ages['p50']:.1f} ms, p95 {ages['p95']:.1f} ms, p99 {ages['p99']:.1f} ms")
    return lines
