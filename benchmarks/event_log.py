"""What the event log costs: throughput, what the pipeline waits for, and a long backlog beside live events.

    python benchmarks/event_log.py [--queued 200000] [--folder DIR] [--json]

The backlog drains through a durable plugin that acknowledges like a broker, on a thread of its own and after
``--latency`` seconds. ``--folder`` should lie on the disk in question: fsync is what costs.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import logging
import os
import queue
import resource
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import psutil

from agent import Event, hookimpl, to_json
from agent.host.log import EVENTS, EventLog
from agent.host.manager import Host
from agent.host.store import Entry
from agent.testing import make_event

CAMERAS = ("door", "yard", "gate", "hall")
FRAME = 10
FPS = 30.0


@dataclasses.dataclass
class Told:
    """One call of ``on_event``: when (UNIX seconds) and what."""

    at: float
    event: Event


class Subscriber:
    """A durable plugin that acknowledges after ``latency`` seconds, as a broker would. Keeps figures, not events."""

    durable = True

    def __init__(self, latency: float) -> None:
        self._latency = latency
        self._acks: queue.SimpleQueue[tuple[float, Future[None]]] = queue.SimpleQueue()
        self.waiting = threading.Event()
        self.waiting.set()
        self.late = 0
        self.live: list[float] = []
        self.order: dict[tuple[str, bool], float] = {}
        self.disorder = 0
        self.seen = bytearray(1 << 20)
        self.twice = 0
        threading.Thread(target=self._acknowledge, daemon=True).start()

    @hookimpl
    def on_event(self, event: Event) -> Future[None]:
        """Take it; the Future completes later."""
        now = time.time()
        self._note(event, now)
        future: Future[None] = Future()
        self._acks.put((now + self._latency, future))
        return future

    def _note(self, event: Event, now: float) -> None:
        if event.late:
            self.late += 1
        else:
            self.live.append(now - event.captured_at)
        number = int(event.attributes["number"])
        self.twice += self.seen[number]
        self.seen[number] = 1
        lane = (event.camera, event.late)
        self.disorder += number < self.order.get(lane, -1)
        self.order[lane] = number

    def _acknowledge(self) -> None:
        while True:
            due, future = self._acks.get()
            if (rest := due - time.time()) > 0:
                time.sleep(rest)
            future.set_result(None)


class Installed:
    """An entry point without a distribution."""

    name = "subscriber"

    def __init__(self, plugin: Any) -> None:
        self._plugin = plugin

    def load(self) -> Any:
        """The instance itself."""
        return self._plugin


def made(number: int) -> Event:
    """The next event, with a running number; starts and ends of short occurrences."""
    return make_event(
        id=f"0192f000-0000-7000-8000-{number // 2:012d}",
        seq=number % 2,
        kind=("start", "end")[number % 2],
        camera=CAMERAS[number // 2 % len(CAMERAS)],
        captured_at=time.time(),
        attributes={"number": number},
    )


def hosting(folder: Path, log: EventLog, plugin: Any) -> Host:
    """A started host with one plugin."""
    host = Host(
        node="bench",
        state_dir=folder,
        log=log,
        tables={"subscriber": {}},
        latest_frame=lambda _camera: None,
        entry_points=[Installed(plugin)],
    )
    host.load()
    host.start()
    return host


def throughput(folder: Path, seconds: float) -> dict[str, float]:
    """Events a second, each commit waited for: of one event, and of the ten of a frame."""
    found = {}
    payload = to_json(made(0))
    for size in (1, FRAME):
        log = EventLog(folder / f"throughput-{size}.db")
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            log.append([Entry(EVENTS, payload)] * size).result(30)
            count += size
        found[f"events_per_second_commit_of_{size}"] = count / (time.perf_counter() - began)
        log.close()
    found["payload_bytes"] = len(payload)
    return found


def fsync_ms(folder: Path) -> float:
    """What one fsync of a page costs on this disk, median."""
    costs = []
    with (folder / "fsync").open("wb", buffering=0) as file:
        for _ in range(200):
            file.write(bytes(4096))
            began = time.perf_counter()
            os.fsync(file.fileno())
            costs.append(time.perf_counter() - began)
    return 1000 * statistics.median(costs)


class Pipeline:
    """A frame of events thirty times a second, as the dispatcher would, and how long each hand-over took.

    The control is what the same thread needs to encode the same events, right before: it waits for nobody. ``waited``
    counts hand-overs in which the thread went to sleep by itself, for a lock or the interpreter; what others took the
    processor away for (``preempted``) is the machine's affair.
    """

    def __init__(self, host: Host, first: int, events: int) -> None:
        self._host = host
        self._events = events
        self._next = first
        self.enqueue: list[float] = []
        self.control: list[float] = []
        self.waited = self.preempted = 0
        self.frames = 0
        self.seconds = 0.0

    def run(self, enough: Callable[[], bool]) -> int:
        """Until it is enough; the next number."""
        began = time.perf_counter()
        while not enough():
            batch = [(made(self._next + place), None) for place in range(self._events)]
            self._next += self._events
            began_control = time.perf_counter()
            for event, _ in batch:
                to_json(event)
            usage, before = resource.getrusage(resource.RUSAGE_THREAD), time.perf_counter()
            self._host.offer_events(batch)
            self.enqueue.append(time.perf_counter() - before)
            self.control.append(before - began_control)
            after = resource.getrusage(resource.RUSAGE_THREAD)
            self.waited += after.ru_nvcsw > usage.ru_nvcsw
            self.preempted += after.ru_nivcsw > usage.ru_nivcsw
            self.frames += 1
            time.sleep(max(0.0, began + self.frames / FPS - time.perf_counter()))
        self.seconds = time.perf_counter() - began
        return self._next

    def figures(self, prefix: str) -> dict[str, float]:
        """What it cost."""
        p50, p99 = percentiles(self.enqueue, 50, 99)
        (control,) = percentiles(self.control, 99)
        return {
            f"{prefix}_fps": self.frames / self.seconds,
            f"{prefix}_enqueue_p50_ms": 1000 * p50,
            f"{prefix}_enqueue_p99_ms": 1000 * p99,
            f"{prefix}_enqueue_max_ms": 1000 * max(self.enqueue),
            f"{prefix}_enqueue_waited": self.waited,
            f"{prefix}_enqueue_preempted": self.preempted,
            f"{prefix}_control_p99_ms": 1000 * control,
        }


def percentiles(values: Sequence[float], *at: int) -> Iterator[float]:
    """By nearest rank."""
    ranked = sorted(values)
    for each in at:
        yield ranked[min(len(ranked) - 1, len(ranked) * each // 100)]


def queue_up(folder: Path, count: int) -> None:
    """What an outage leaves: the plugin has a cursor, and so many events lie behind it."""
    log = EventLog(folder / "events.db", max_bytes=1 << 30)
    log.cursor("subscriber")
    written = None
    for first in range(0, count, 100):
        written = log.append([Entry(EVENTS, to_json(made(first + place))) for place in range(min(100, count - first))])
        if first % 1000 == 0:
            written.result(60)
    if written is not None:
        written.result(60)
    log.close()


def drain(folder: Path, count: int, latency: float, events: int, idle: float) -> dict[str, float]:
    """The pipeline beside nothing, then beside the backlog until that is told; what that costs each of them."""
    process = psutil.Process()
    resting = Subscriber(latency)
    calm = EventLog(folder / "calm.db")
    host = hosting(folder, calm, resting)
    pipeline = Pipeline(host, 0, events)
    until = time.perf_counter() + idle
    pipeline.run(lambda: time.perf_counter() > until)
    host.drain(10.0)
    found = pipeline.figures("idle")
    host.stop(5.0)
    calm.close()
    gc.collect()
    found["idle_rss_mb"] = process.memory_info().rss / 2**20
    began = time.perf_counter()
    log = EventLog(folder / "events.db", max_bytes=1 << 30)
    found["open_seconds"] = time.perf_counter() - began
    busy = Subscriber(latency)
    host = hosting(folder, log, busy)
    pipeline, peak, asked = Pipeline(host, count, events), [0.0], [0.0]

    def through() -> bool:
        peak[0] = max(peak[0], process.memory_info().rss / 2**20)
        before = time.perf_counter()
        log.health()
        asked[0] = max(asked[0], time.perf_counter() - before)
        return sum(busy.seen[:count]) == count if pipeline.frames % 15 == 0 else False

    began = time.perf_counter()
    total = pipeline.run(through)
    took = time.perf_counter() - began
    host.drain(30.0)
    p50, p99 = percentiles(busy.live, 50, 99)
    found |= pipeline.figures("drain")
    found |= {
        "queued": count,
        "drain_seconds": took,
        "drained_per_second": count / took,
        "live_events": total - count,
        "live_told_as_live": len(busy.live),
        "live_delay_p50_ms": 1000 * p50,
        "live_delay_p99_ms": 1000 * p99,
        "live_delay_max_ms": 1000 * max(busy.live),
        "lost": total - sum(busy.seen),
        "twice": busy.twice,
        "disorder": busy.disorder,
        "drain_rss_peak_mb": peak[0],
        "rss_above_idle_mb": peak[0] - found["idle_rss_mb"],
        "health_max_ms": 1000 * asked[0],
    }
    host.stop(5.0)
    log.close()
    return found


def table(found: dict[str, float]) -> str:
    """One figure a line."""
    return "\n".join(f"{name:36} {value:14,.3f}".rstrip("0").rstrip(".") for name, value in found.items())


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--queued", type=int, default=200_000, help="events that wait when the drain begins")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each throughput, and of the idle pipeline")
    parser.add_argument("--latency", type=float, default=0.002, help="seconds until an event is acknowledged")
    parser.add_argument("--events", type=int, default=4, help="live events a frame, at 30 frames a second")
    parser.add_argument("--folder", type=Path, help="where to write; left out: a temporary folder")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        found = {"fsync_ms": fsync_ms(folder), **throughput(folder, arguments.seconds)}
        queue_up(folder, arguments.queued)
        found |= drain(folder, arguments.queued, arguments.latency, arguments.events, arguments.seconds)
    print(json.dumps(found, indent=2) if arguments.json else table(found))


if __name__ == "__main__":
    main()
