"""The agent of the storm: the real host, event log and MQTT plugin, with events made up at a steady rate.

    python benchmarks/storm_agent.py HOST PORT STATE_DIR RATE

Runs until its input ends: then it makes no more events, delivers what is left (60 s at most) and stops.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from agent.data import CameraHealth, Event, Health
from agent.host.log import EventLog
from agent.host.manager import Host
from plugins.mqtt import Mqtt

NODE = "storm"
CAMERAS = tuple(f"cam{number}" for number in range(4))
MESSAGES = ("start", "update", "update", "end")
DRAIN = 60.0
LOG_BYTES = 1 << 30


class Entry:
    """The MQTT plugin, as its entry point would name it."""

    name = "mqtt"

    def load(self) -> Any:
        """The class."""
        return Mqtt


def made_up() -> Iterator[Event]:
    """For ever: each camera's turn, a start, two updates, an end, then another occurrence."""
    ids = dict.fromkeys(CAMERAS, "")
    number = 0
    while True:
        for camera in CAMERAS:
            seq = number % len(MESSAGES)
            if seq == 0:
                ids[camera] = str(uuid.uuid4())
            yield _event(camera, ids[camera], seq)
        number += 1


def _event(camera: str, event_id: str, seq: int) -> Event:
    now = time.time()
    return Event(
        node=NODE,
        id=event_id,
        seq=seq,
        kind=MESSAGES[seq],  # type: ignore[arg-type]
        camera=camera,
        track=1,
        label="person",
        score=0.8,
        top_score=0.9,
        box=(100.0, 100.0, 200.0, 300.0),
        best_box=(100.0, 100.0, 200.0, 300.0),
        size=(1280, 720),
        started_at=now,
        updated_at=now,
        captured_at=now,
        frame_age_ms=30.0,
    )


def health(host: Host, log: EventLog) -> Health:
    """As the monitor tells it."""
    return Health(
        node=NODE,
        at=time.time(),
        rss_bytes=psutil.Process().memory_info().rss,
        cameras={camera: CameraHealth(state="up") for camera in CAMERAS},
        queues=host.queues(),
        plugins=host.statuses(),
        log=log.health(),
    )


def produce(host: Host, log: EventLog, rate: float, ended: threading.Event) -> None:
    """Offer ``rate`` events a second, and a health each second, until ``ended``."""
    began, tick = time.monotonic(), 0.0
    for number, event in enumerate(made_up()):
        wait = began + number / rate - time.monotonic()
        if ended.is_set() or (wait > 0 and ended.wait(wait)):
            return
        host.offer_events([(event, None)])
        if time.monotonic() >= tick:
            tick = time.monotonic() + 1.0
            host.check(time.monotonic())
            host.offer_health(health(host, log))


def wait_for_the_end_of_input(ended: threading.Event) -> None:
    """Set ``ended`` once nobody writes to us any more."""
    sys.stdin.read()
    ended.set()


def main() -> None:
    """See the module."""
    address, port, folder, rate = sys.argv[1:5]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    ended = threading.Event()
    threading.Thread(target=wait_for_the_end_of_input, args=(ended,), daemon=True).start()
    log = EventLog(Path(folder) / "events.db", max_bytes=LOG_BYTES)
    table = {"host": address, "port": int(port)}
    host = Host(
        node=NODE,
        state_dir=Path(folder),
        log=log,
        tables={"mqtt": table},
        latest_frame=lambda _camera: None,
        entry_points=[Entry()],
    )
    host.load()
    host.start()
    produce(host, log, float(rate), ended)
    print("drained" if host.drain(DRAIN) else "not drained", flush=True)
    host.stop(5.0)
    log.close()


if __name__ == "__main__":
    main()
