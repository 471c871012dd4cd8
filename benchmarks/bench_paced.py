"""A camera of ten pictures a second: processor time a frame, age of the frames, memory; and the start of the daemon."""

from __future__ import annotations

import json
import statistics
import threading
import time
from collections.abc import Sequence
from typing import Any

from bench_daemon import Camera, Daemon, inferred
from bench_process import Contestant, ContestantError
from bench_race import LEAST, Calm, floored
from bench_rooms import YOLOX, Bench, fed
from bench_rows import Row

PACED_CLIP, FPS = "one-by-one-person-detection.mp4", 10.0
SETTLE, WINDOW = 2.0, 9.0
FLOOR_FRAMES = 40
CPU, MEMORY_MB, START_SECONDS = 1.25, 170.0, 0.9
START_CLIP, STARTS = "intel_asl_book.mkv", 7
FIRST_EVENT_WITHIN = 30.0


def paced(bench: Bench) -> None:
    """The daemon beside one thread of session.run, both ten times a second, in turn; and that thread without a pause,
    for comparison."""
    clip = bench.clip(PACED_CLIP)
    words = fed(bench, YOLOX, clip)
    camera = Camera("hall", str(clip))
    daemon = Daemon(bench.folder / "paced", bench.package(YOLOX), [camera], bench.broker_port)
    daemon.run("--frames", "5")
    slow = bench.ends.enter_context(
        Contestant(
            "floor paced",
            "floor.py",
            *words,
            "--threads",
            "1",
            "--frames",
            str(FLOOR_FRAMES),
            "--fps",
            str(FPS),
            folder=bench.folder,
        )
    )
    busy = bench.floor(YOLOX, clip, 1, 60)
    rounds: list[dict[str, Any]] = []
    calm = Calm(say=bench.say)

    def turn() -> dict[str, Any]:
        return {"busy": busy.round(), "daemon": calm(lambda: at_ten_a_second(daemon))}

    for number, (told, floor) in enumerate(floored(slow.round, turn, bench.rounds)):
        one = {**told, "floor": floor}
        rounds.append(one)
        if bench.is_late() and len(rounds) >= LEAST:
            break
        bench.say(f"paced, round {number + 1} of {bench.rounds}: {json.dumps(one)}")
    bench.groups["yolox_nano, ten pictures a second"] = {"rounds": rounds}
    for row in rows_of(rounds):
        bench.add(row)
    slow.__exit__()
    busy.__exit__()


def at_ten_a_second(daemon: Daemon) -> dict[str, float]:
    """A run: processor milliseconds a frame after the start and SETTLE seconds, by /proc; resident memory at its end;
    ages of all frames, those of the start with them, by the daemon's summary."""
    with daemon.start() as running:
        running.wait_for_first_frame()
        time.sleep(SETTLE)
        before, began = running.cpu_seconds(), time.monotonic()
        time.sleep(WINDOW)
        spent, window = running.cpu_seconds() - before, time.monotonic() - began
        memory = running.memory()
        summary = running.stop()
    counted = summary["cameras"]["hall"]
    frames = window * FPS * counted["inferred"] / max(1, counted["captured"])
    return {"cpu_ms": spent / frames * 1e3, **memory, "inferred": inferred(summary), **summary["frame_age_ms"]}


def rows_of(rounds: Sequence[dict[str, Any]]) -> list[Row]:
    """Medians over the rounds."""
    key = "yolox_nano at 10 fps: processor time / one thread of session.run"
    spent = statistics.median(one["daemon"]["cpu_ms"] for one in rounds)
    over_paced = statistics.median(one["daemon"]["cpu_ms"] / one["floor"]["cpu_ms"] for one in rounds)
    over_busy = statistics.median(one["daemon"]["cpu_ms"] / one["busy"]["cpu_ms"] for one in rounds)
    engine, own = (statistics.median(one["floor"][name] for one in rounds) for name in ("ms", "slowest"))
    p50, p99 = (statistics.median(one["daemon"][name] for one in rounds) for name in ("p50", "p99"))
    beyond, far_beyond = (
        statistics.median(one["daemon"][name] - engines * one["floor"]["ms"] for one in rounds)
        for name, engines in (("p50", 1), ("p99", 2))
    )
    memory = statistics.median(one["daemon"]["rss_mb"] for one in rounds)
    return [
        Row(f"{key} at 10 fps", f"{key} at 10 fps ({spent:.1f} ms)", over_paced, "x", CPU),
        Row(f"{key} without a pause", f"{key} without a pause", over_busy),
        Row(
            "frame age p50 - engine",
            f"frame age at dispatch, p50 {p50:.1f} ms, beyond the engine's {engine:.1f} ms",
            beyond,
            "ms",
            3.0,
            kept=False,
        ),
        Row(
            "frame age p99 - 2 engines",
            f"frame age at dispatch, p99 {p99:.1f} ms (session.run's slowest {own:.1f}), beyond twice the engine's",
            far_beyond,
            "ms",
            5.0,
            kept=False,
        ),
        Row("resident memory, yolox_nano", "resident memory, yolox_nano", memory, "MB", MEMORY_MB),
    ]


def start(bench: Bench) -> None:
    """From the start of the process to the first event of a file at a subscriber of the broker."""
    if bench.broker_port is None:
        bench.skip("start to first event", "there is no broker to publish to")
        return
    camera = Camera("desk", str(bench.clip(START_CLIP)))
    daemon = Daemon(bench.folder / "start", bench.package(YOLOX), [camera], bench.broker_port)
    with FirstEvent(bench.broker_port) as first:
        first_event(daemon, first)
        took = [first_event(daemon, first) for _ in range(max(STARTS, bench.rounds))]
    bench.groups["start to first event"] = {"seconds": took}
    bench.add(
        Row(
            "start to first event",
            "process start to first event of a file, at an MQTT subscriber",
            statistics.median(took),
            "s",
            START_SECONDS,
            kept=False,
        )
    )


def first_event(daemon: Daemon, first: FirstEvent) -> float:
    """Seconds of one start. Raises ContestantError when there is no event."""
    wall, began = time.time(), time.monotonic()
    first.expect(wall)
    with daemon.start() as running:
        came = first.wait(FIRST_EVENT_WITHIN)
        if came is None:
            running.check()
            raise ContestantError(f"daemon: no event within {FIRST_EVENT_WITHIN:.0f} s")
        running.stop()
    return came - began


class FirstEvent:
    """A subscriber that notes when the first event came that began after a moment; a context manager."""

    def __init__(self, port: int) -> None:
        import paho.mqtt.client as paho
        from paho.mqtt.enums import CallbackAPIVersion

        self._after = float("inf")
        self._came: float | None = None
        self._arrived, self._ready = threading.Event(), threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.on_connect = lambda client, *_: client.subscribe("edgewarden/bench/camera/+/events", qos=1)
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = lambda _client, _data, message: self._note(message.payload)
        self._port = port

    def __enter__(self) -> FirstEvent:
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        if not self._ready.wait(10):
            raise ContestantError("the broker does not answer a subscriber")
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def expect(self, after: float) -> None:
        """The next start's, not what is left of the last one's. ``after``: UNIX seconds."""
        self._arrived.clear()
        self._came, self._after = None, after

    def wait(self, within: float) -> float | None:
        """When it came, monotonic seconds."""
        self._arrived.wait(within)
        return self._came

    def _note(self, payload: bytes | bytearray) -> None:
        event = json.loads(payload)
        if self._came is None and event["kind"] == "start" and event["started_at"] >= self._after:
            self._came = time.monotonic()
            self._arrived.set()
