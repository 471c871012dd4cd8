"""How events reach a plugin: late ones say so, live ones do not wait for a backlog, nothing is told twice."""

from __future__ import annotations

import subprocess
import threading
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

import pytest
from event_logs import Clocks, opened
from plugin_fakes import hosting
from waiting import wait_until

from agent import Event, hookimpl, to_json
from agent.host.feeds import LogFeed, QueueFeed
from agent.host.log import EVENTS, EventLog
from agent.host.pictures import Pictures
from agent.host.store import Entry
from agent.testing import make_event


def test_an_event_that_waited_in_a_queue_says_that_it_is_late_and_since_when() -> None:
    now = [100.0]
    feed = QueueFeed(10, clock=lambda: now[0], wall=lambda: 1.8e9 + now[0])
    feed.offer(make_event(id="waits"), None)
    now[0] += 30.0
    feed.offer(make_event(id="fresh"), None)
    waited, fresh = feed.take(), feed.take()
    assert waited
    assert fresh
    assert (waited.event.late, waited.event.queued_at) == (True, 1.8e9 + 100.0)
    assert not fresh.event.late


def _entries(events: Sequence[Event]) -> list[Entry]:
    return [Entry(EVENTS, to_json(event)) for event in events]


def _occurrence(number: int, camera: str) -> list[Event]:
    kinds = ("start", "update", "end")
    return [
        make_event(id=f"{camera}-{number}", seq=seq, kind=kind, camera=camera, attributes={"number": number})
        for seq, kind in enumerate(kinds)
    ]


def test_live_events_are_told_at_once_beside_a_long_backlog_and_all_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.host.feeds.PATIENCE", -1.0)

    class Subscriber:
        """Acknowledges the backlog only as far as it is let, as a broker at the other end of a thin line."""

        durable = True

        def __init__(self) -> None:
            self.told: list[Event] = []
            self.allowed = 0
            self.open: list[tuple[Event, Future[None]]] = []
            self.lock = threading.Lock()

        @hookimpl
        def on_event(self, event: Event) -> Future[None]:
            future: Future[None] = Future()
            with self.lock:
                self.told.append(event)
                self.open.append((event, future))
            self.release()
            return future

        def release(self) -> None:
            with self.lock:
                go = [future for event, future in self.open if not event.late]
                late = [(event, future) for event, future in self.open if event.late]
                go += [future for _, future in late[: self.allowed]]
                self.allowed -= min(self.allowed, len(late))
                self.open = [(event, future) for event, future in self.open if future not in go]
            for future in go:
                future.set_result(None)

    with opened(tmp_path / "events.db") as log:
        log.cursor("subscriber")
        for number in range(400):
            log.append(_entries(_occurrence(number, "door" if number % 2 else "yard"))).result(30)
    subscriber = Subscriber()
    with hosting(tmp_path, {"subscriber": subscriber}) as host:
        wait_until(lambda: len(subscriber.told) == 64)
        subscriber.allowed = 1
        subscriber.release()
        for number in range(1000, 1050):
            events = _occurrence(number, "door" if number % 2 else "yard")
            host.offer_events([(event, None) for event in events])
            wait_until(lambda events=events: subscriber.told[-1].id == events[0].id and subscriber.told[-1].seq == 2)  # type: ignore[misc]
        assert sum(event.late for event in subscriber.told) <= 65, "the backlog stands still meanwhile"
        subscriber.allowed = 10_000
        subscriber.release()
        wait_until(lambda: host.drain(0.0), timeout=30.0)
    assert len(subscriber.told) == len({(event.id, event.seq) for event in subscriber.told}) == 1350
    assert sum(event.late for event in subscriber.told) == 1200
    order: dict[tuple[str, bool], list[tuple[float, int]]] = defaultdict(list)
    for event in subscriber.told:
        order[event.camera, event.late].append((event.attributes["number"], event.seq))
    assert all(numbers == sorted(numbers) for numbers in order.values())
    assert len(order) == 4


def test_a_feed_takes_up_the_past_of_a_file_that_could_not_be_opened_at_first(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        clocks = Clocks()
        with opened(folder / "e.db", clocks) as log:
            log.cursor("mqtt")
            log.append(_entries([make_event(id=f"past {number}") for number in range(3)])).result(30)
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        clocks.boot, clocks.mono = "boot-2", 3.0
        with opened(folder / "e.db", clocks) as log:
            feed = LogFeed("mqtt", log, Pictures())
            log.append(_entries([make_event(id=f"now {number}") for number in range(3)])).result(30)
            assert _tell(feed, 2) == ["now 0", "now 1"]
            subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)
            wait_until(lambda: log.health().state == "ok")
            assert sorted(_tell(feed, 9)) == ["late past 0", "late past 1", "late past 2", "now 2"]
            wait_until(feed.drained)
            _wait_for_cursor(log)
        with opened(folder / "e.db", clocks) as log:
            assert not _tell(LogFeed("mqtt", log, Pictures()), 9)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _tell(feed: LogFeed, most: int) -> list[str]:
    told: list[str] = []
    while len(told) < most and (job := feed.take()) is not None:
        told.append(f"{'late ' if job.event.late else ''}{job.event.id}")
        assert job.completed()
    return told


def _wait_for_cursor(log: EventLog) -> None:
    wait_until(lambda: log.health().waiting == {"mqtt": 0})


def test_a_backlog_is_overtaken_only_when_it_drains_for_long(tmp_path: Path) -> None:
    clocks, now = Clocks(), [0.0]
    with opened(tmp_path / "e.db", clocks) as log:
        feed = LogFeed("mqtt", log, Pictures(), clock=lambda: now[0])
        for number in range(200):
            log.append(_entries([make_event(id=f"old {number}")])).result(30)
        clocks.pass_(10.0)
        assert _tell(feed, 1) == ["late old 0"]
        log.append(_entries([make_event(id="new 0")])).result(30)
        now[0] += 0.9
        assert _tell(feed, 1) == ["late old 1"], "a short one is told in order"
        now[0] += 0.2
        assert _tell(feed, 1) == ["late old 2"]
        log.append(_entries([make_event(id="new 1")])).result(30)
        assert _tell(feed, 3) == ["new 0", "new 1", "late old 3"], "with it what came while it began to drain"
        assert _tell(feed, 999) == [f"late old {number}" for number in range(4, 200)]
        log.append(_entries([make_event(id="new 2")])).result(30)
        assert _tell(feed, 2) == ["new 2"]


def test_a_failure_ends_the_drain_that_is_measured(tmp_path: Path) -> None:
    clocks, now = Clocks(), [0.0]
    with opened(tmp_path / "e.db", clocks) as log:
        feed = LogFeed("mqtt", log, Pictures(), clock=lambda: now[0])
        log.append(_entries([make_event(id=f"old {number}") for number in range(200)])).result(30)
        clocks.pass_(10.0)
        _tell(feed, 1)
        job = feed.take()
        assert job
        assert job.failed()
        now[0] += 10.0
        assert _tell(feed, 2) == ["late old 1", "late old 2"]
        log.append(_entries([make_event(id="new")])).result(30)
        assert _tell(feed, 1) == ["late old 3"], "an outage is no drain"
