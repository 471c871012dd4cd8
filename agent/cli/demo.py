"""``edgewarden demo``: the whole job with what ships, on this machine alone, and a count of what arrived."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.errors import AgentError, MissingError

if TYPE_CHECKING:
    from agent.app import App

BROKER_DEADLINE = 20.0
CONFIG = """
[agent]
name = "demo"
state_dir = {state_dir}

[model]
path = "desk"

[[camera]]
name = "desk"
source = "synthetic://desk?fps=15&seed={seed}"

[plugins.mqtt]
host = "127.0.0.1"
port = {port}
protocol = "3.1.1"

[plugins.snapshot]
folder = {pictures}

[plugins.alert]
[[plugins.alert.rule]]
name = "cup on the desk"
labels = ["cup"]
cooldown = 3
"""


@click.command(name="demo")
@click.option("--seconds", type=click.FloatRange(min=5), default=20.0, show_default=True, help="How long it runs.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("demo-output"), show_default=True)
@click.option("--seed", type=int, default=1, show_default=True, help="Another seed, another scene.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout at the end.")
def command(seconds: float, out: Path, seed: int, as_json: bool) -> None:
    """A synthetic camera, the bundled model, MQTT through a broker of its own on loopback, alerts and snapshots.

    Exits 1 when what the subscriber received differs from what was published, or when no event came.
    """
    logging.basicConfig(level="WARNING", format="%(asctime)s %(levelname)-7s %(message)s")
    from agent.service import stop_on_signals

    started, began_at, stop = time.monotonic(), time.time(), threading.Event()
    with stop_on_signals(stop), own_broker() as port, Subscriber(port) as subscriber:
        app = build(out, seed, port, stop)
        with app:
            watch(app, subscriber, stop, seconds)
        published = app.host.metrics().get("mqtt", {}).get("published", 0)
        subscriber.wait_for(int(published), timeout=5.0)
        summary = summarise(app, subscriber, int(published), pictures_since(began_at, out), time.monotonic() - started)
    if as_json:
        click.echo(json.dumps(summary))
    else:
        show(summary)
    if problem := verdict(summary):
        raise AgentError(problem)


def build(out: Path, seed: int, port: int, stop: threading.Event) -> App:
    """The daemon on a configuration of the demo's own."""
    from agent.app import App
    from agent.config import parse

    out = out.resolve()
    text = CONFIG.format(
        state_dir=json.dumps(str(out / "state")), pictures=json.dumps(str(out / "pictures")), port=port, seed=seed
    )
    return App(parse(text, "the demo's configuration"), stop_event=stop)


def pictures_since(began_at: float, out: Path) -> dict[str, Any]:
    """Where this run's pictures lie, and how many they are."""
    folder = out / "pictures"
    count = sum(path.stat().st_mtime >= began_at - 1 for path in folder.rglob("*.jpg"))
    return {"folder": str(folder), "count": count}


@contextlib.contextmanager
def own_broker() -> Iterator[int]:
    """amqtt on a free port of loopback, in a process of its own; the port once it answers."""
    try:
        import amqtt.broker  # noqa: F401 - asked for here so that its absence is one clear line
    except ImportError:
        raise MissingError("the demo's broker is not installed: pip install 'edgewarden[demo]'") from None
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [sys.executable, "-m", "agent.cli.demo_broker", str(port)]
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        await_port(port, process)
        yield port
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)


def await_port(port: int, process: subprocess.Popen[bytes]) -> None:
    """Return when somebody listens there. Raises AgentError when the process ends first, or too long passes."""
    deadline = time.monotonic() + BROKER_DEADLINE
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0):
            return
        time.sleep(0.05)
    raise AgentError(f"the demo's broker did not come up on 127.0.0.1:{port}")


class Subscriber:
    """A client of the broker that counts what arrives, as any subscriber would see it."""

    def __init__(self, port: int) -> None:
        import paho.mqtt.client as paho
        from paho.mqtt.enums import CallbackAPIVersion

        self.counts: Counter[str] = Counter()
        self.total = 0
        self._changed = threading.Condition()
        self._subscribed = threading.Event()
        self._port = port
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv311)
        self._client.on_connect = lambda client, *_: client.subscribe("edgewarden/#", 1)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = lambda _client, _data, message: self._count(message.topic)

    def __enter__(self) -> Subscriber:
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        if not self._subscribed.wait(BROKER_DEADLINE):
            raise AgentError("the demo's subscriber was not accepted by its broker")
        return self

    def __exit__(self, *_exc: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _count(self, topic: str) -> None:
        with self._changed:
            self.counts[topic.rsplit("/", 1)[-1]] += 1
            self.total += 1
            self._changed.notify_all()

    def wait_for(self, total: int, timeout: float) -> bool:
        """Whether so many messages have come within ``timeout`` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self.total >= total, timeout)


def watch(app: App, subscriber: Subscriber, stop: threading.Event, seconds: float) -> None:
    """Let it run, with a line that shows what happens: on a terminal redrawn, in a log one each 5 seconds."""
    terminal = sys.stderr.isatty()
    end = time.monotonic() + seconds
    spoken = time.monotonic()
    while (left := end - time.monotonic()) > 0:
        app.wait(min(0.5, left))
        line = live_line(app, subscriber, max(0.0, end - time.monotonic()))
        if terminal:
            click.echo(f"\r\x1b[2K{line}", nl=False, err=True)
        elif time.monotonic() - spoken >= 5.0:
            spoken = time.monotonic()
            click.echo(line, err=True)
        if stop.is_set() or app.problem() is not None:
            break
    if terminal:
        click.echo("", err=True)


def live_line(app: App, subscriber: Subscriber, left: float) -> str:
    """What the user sees while it runs."""
    from agent.app import percentiles

    counts = app.pipeline.counts
    lane = app.lanes[0]
    age = percentiles(list(counts.frame_age_ms))["p50"]
    return (
        f"{left:4.0f} s left   {lane.fps(time.monotonic()):4.1f} fps   frame age {age:5.1f} ms   "
        f"{counts.detections} detections   {counts.events['start']} events   {subscriber.total} messages received"
    )


def summarise(
    app: App, subscriber: Subscriber, published: int, pictures: dict[str, Any], seconds: float
) -> dict[str, Any]:
    """Everything the demo claims, as one document."""
    summary = app.summary()
    camera = summary["cameras"]["desk"]
    return {
        "fps": round(camera["inferred"] / summary["seconds"], 2),
        **summary,
        "messages": {"published": published, "received": subscriber.total, "by_topic": dict(subscriber.counts)},
        "pictures": pictures,
        "wall_seconds": round(seconds, 1),
        "problem": None if (problem := app.problem()) is None else str(problem),
    }


def show(summary: dict[str, Any]) -> None:
    """The summary for a person."""
    ages, messages, events = summary["frame_age_ms"], summary["messages"], summary["events"]
    by_topic = ", ".join(f"{count} {name}" for name, count in sorted(messages["by_topic"].items()))
    click.echo(f"frames        {summary['cameras']['desk']['inferred']} inferred, {summary['fps']:.1f} a second")
    click.echo(f"frame age     p50 {ages['p50']:.1f} ms, p95 {ages['p95']:.1f} ms")
    click.echo(f"detections    {summary['detections']}")
    click.echo(f"events        {events['start']} started, {events['update']} updated, {events['end']} ended")
    click.echo(f"alerts        {messages['by_topic'].get('alerts', 0)} raised or resolved")
    click.echo(f"messages      {messages['published']} published, {messages['received']} received ({by_topic})")
    click.echo(f"pictures      {summary['pictures']['count']} in {summary['pictures']['folder']}")
    click.echo(f"took          {summary['wall_seconds']:.1f} s")


def verdict(summary: dict[str, Any]) -> str | None:
    """What is wrong with the demo's outcome, None when all is well."""
    messages = summary["messages"]
    if summary["problem"]:
        return str(summary["problem"])
    if not summary["events"]["start"]:
        return "the demo saw no event"
    if messages["received"] != messages["published"]:
        return f"{messages['published']} messages were published but {messages['received']} received"
    return None
