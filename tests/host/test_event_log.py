"""The event log: what was accepted is there, after anything; what is dropped is counted."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from waiting import wait_until

from agent.host.clock import PLAUSIBLE, KnownTime
from agent.host.log import EVENTS, EventLog, LogOverflowError
from agent.host.store import Entry


class Clocks:
    """A monotonic and a wall clock that the test moves, and the name of a boot."""

    def __init__(self, mono: float = 1000.0, wall: float = PLAUSIBLE + 1e6, boot: str = "boot-1") -> None:
        self.mono, self.wall, self.boot = mono, wall, boot

    def make(self, saved: tuple[float, str, float] | None) -> KnownTime:
        return KnownTime(saved, mono=lambda: self.mono, wall=lambda: self.wall, boot=lambda: self.boot)

    def pass_(self, seconds: float) -> None:
        self.mono += seconds
        self.wall += seconds


@contextmanager
def opened(path: Path, clocks: Clocks | None = None, **kwargs: float) -> Iterator[EventLog]:
    log = EventLog(path, **({"make_clock": clocks.make} if clocks else {}), **kwargs)  # type: ignore[arg-type]
    try:
        yield log
    finally:
        log.close()


def _put(log: EventLog, *payloads: bytes, stream: str = EVENTS) -> list[int]:
    return log.append([Entry(stream, payload) for payload in payloads]).result(10)


def _all(log: EventLog, stream: str = EVENTS) -> list[bytes]:
    return [row.payload for row in log.read(stream, 0, 100_000)]


def test_what_was_accepted_is_there_after_reopening_in_order(tmp_path: Path) -> None:
    with opened(tmp_path / "e.db") as log:
        _put(log, b"a", b"b")
        _put(log, b"c")
    with opened(tmp_path / "e.db") as log:
        assert _all(log) == [b"a", b"b", b"c"]


def test_a_new_cursor_begins_behind_the_newest_and_a_known_one_goes_on(tmp_path: Path) -> None:
    with opened(tmp_path / "e.db") as log:
        _put(log, b"before")
        start = log.cursor("mqtt")
        first, second = _put(log, b"a", b"b")
        assert [row.payload for row in log.read(EVENTS, start)] == [b"a", b"b"]
        log.advance("mqtt", first)
    with opened(tmp_path / "e.db") as log:
        assert log.cursor("mqtt") == first
        assert log.health().waiting == {"mqtt": 1}
        log.advance("mqtt", second)
        log.advance("mqtt", first)  # a cursor never goes back
        assert log.cursor("mqtt") == second


def test_the_oldest_are_dropped_and_counted_when_there_are_too_many_bytes(tmp_path: Path) -> None:
    with opened(tmp_path / "e.db", max_bytes=10_000) as log:
        log.cursor("slow")
        for number in range(20):
            _put(log, f"{number:04}".encode() * 250)
        health = log.health()
        assert health.bytes <= 10_000
        assert health.dropped == health.dropped_unread == 20 - health.events > 0
        assert _all(log)[-1].startswith(b"0019")
    with opened(tmp_path / "e.db", max_bytes=10_000) as log:
        assert log.health().dropped == health.dropped


def test_what_is_too_old_is_dropped(tmp_path: Path) -> None:
    clocks = Clocks()
    with opened(tmp_path / "e.db", clocks, max_age=100.0) as log:
        _put(log, b"old")
        clocks.pass_(101)
        _put(log, b"new")
        assert _all(log) == [b"new"]


def test_a_wall_clock_that_jumps_from_1970_to_today_expires_nothing(tmp_path: Path) -> None:
    clocks = Clocks(wall=50.0)
    with opened(tmp_path / "e.db", clocks, max_age=100.0) as log:
        _put(log, b"from 1970")
        clocks.wall = PLAUSIBLE + 1e8
        clocks.mono += 5
        _put(log, b"from today")
        assert _all(log) == [b"from 1970", b"from today"]
        assert [row.synced for row in log.read(EVENTS, 0)] == [0, 1]


def test_a_reboot_with_whatever_wall_clock_expires_nothing_by_itself(tmp_path: Path) -> None:
    clocks = Clocks()
    with opened(tmp_path / "e.db", clocks, max_age=100.0) as log:
        _put(log, b"a")
    for boot, jump in (("boot-2", 50.0), ("boot-3", -1e9), ("boot-4", 2e9)):
        clocks.boot, clocks.mono = boot, 3.0
        clocks.wall += jump
        with opened(tmp_path / "e.db", clocks, max_age=100.0) as log:
            _put(log, b"x", stream="other")
            assert _all(log) == [b"a"]
            clocks.pass_(30)
            _put(log, b"x", stream="other")
    with opened(tmp_path / "e.db", clocks, max_age=100.0) as log:
        clocks.pass_(30)
        _put(log, b"x", stream="other")
        assert _all(log) == [], "what the boots lasted adds up"


@pytest.mark.parametrize("damage", ["flipped", "cut", "text"])
def test_a_damaged_file_is_set_aside_under_a_dated_name_and_a_fresh_one_begins(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "e.db"
    with opened(path) as log:
        for number in range(200):
            log.append([Entry(EVENTS, str(number).encode() * 100)])
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[4096 : 4096 + 3000] = os.urandom(3000)
    path.write_bytes(
        {"flipped": bytes(content), "cut": bytes(content[: len(content) // 2]), "text": b"hello" * 999}[damage]
    )
    with opened(path) as log:
        assert "set aside" in log.health().state
        _put(log, b"new")
        assert _all(log) == [b"new"]
    assert len(list(tmp_path.glob("e.damaged-*.db"))) == 1


def test_where_no_file_can_be_written_the_log_lives_in_memory_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with opened(tmp_path / "file" / "e.db") as log:
        assert log.health().state.startswith("memory only")
        _put(log, b"a")
        assert _all(log) == [b"a"]


def test_a_disk_that_cannot_be_written_is_tried_again_until_it_can(tmp_path: Path) -> None:
    with opened(tmp_path / "e.db") as log:
        _put(log, b"a")
        with sqlite3.connect(tmp_path / "e.db", isolation_level=None) as other:
            other.execute("BEGIN EXCLUSIVE")  # stands for a disk that says no
            waiting = log.append([Entry(EVENTS, b"b")])
            wait_until(lambda: log.health().state.startswith("cannot write"))
            assert not waiting.done()
            other.execute("ROLLBACK")
        waiting.result(10)
        assert log.health().state == "ok"
        assert _all(log) == [b"a", b"b"]


def test_more_than_memory_holds_is_refused_and_counted(tmp_path: Path) -> None:
    with opened(tmp_path / "e.db") as log:
        with pytest.raises(LogOverflowError):
            log.append([Entry(EVENTS, bytes(33 << 20))]).result(1)
        assert log.health().dropped == 1


@pytest.mark.parametrize("poison", [Entry(EVENTS, ["list"]), Entry(EVENTS, b"a", 2**70)])  # type: ignore[arg-type]
def test_what_no_disk_can_hold_is_refused_and_what_comes_after_it_is_written(tmp_path: Path, poison: Entry) -> None:
    with opened(tmp_path / "e.db") as log:
        with pytest.raises(LogOverflowError):
            log.append([poison]).result(5)
        _put(log, b"after")
        assert _all(log) == [b"after"]
        assert log.health().dropped == 1


def test_a_new_cursor_does_not_stop_the_log_while_it_drops_what_is_too_much(tmp_path: Path) -> None:
    with opened(tmp_path / "e.db", max_bytes=2000) as log:
        log.cursor("slow")
        for number in range(200):  # each commit drops, and asks which cursors had not read it
            log.append([Entry(EVENTS, bytes(900))])
            log.cursor(f"new {number}")
        _put(log, b"last")


def test_a_damaged_file_that_cannot_be_set_aside_leaves_the_log_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("read-only")

    (tmp_path / "e.db").write_bytes(b"hello" * 999)
    monkeypatch.setattr(Path, "rename", refuse)
    with opened(tmp_path / "e.db") as log:
        assert log.health().state == "memory only: read-only"


KILLED = """
import sys
from pathlib import Path
from agent.host.log import EventLog
from agent.host.store import Entry
log = EventLog(Path(sys.argv[1]))
n = 0
while True:
    n += 1
    log.append([Entry("events", str(n).encode())]).result()
    print(n, flush=True)
"""


def test_kill_9_loses_nothing_that_was_accepted(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "e.db")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    accepted = [int(process.stdout.readline()) for _ in range(100)]
    process.send_signal(signal.SIGKILL)
    accepted += [int(line) for line in process.stdout.read().split()]
    process.wait(10)
    with opened(tmp_path / "e.db") as log:
        assert log.health().state == "ok"
        assert set(accepted) <= {int(payload) for payload in _all(log)}


STEP = st.one_of(
    st.tuples(st.just("append"), st.integers(1, 4)),
    st.tuples(st.just("take"), st.sampled_from(["a", "b"])),
    st.tuples(st.just("reopen"), st.none()),
)


@settings(max_examples=25, deadline=None)
@given(st.lists(STEP, max_size=25))
def test_whatever_happens_every_cursor_sees_every_message_once_in_order(steps: list[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "e.db"
        log = EventLog(path)
        written: list[bytes] = []
        seen: dict[str, list[bytes]] = {"a": [], "b": []}
        for name in seen:
            log.cursor(name)

        def take(name: str) -> bool:
            rows = log.read(EVENTS, log.cursor(name), 3)
            for row in rows:
                seen[name].append(row.payload)
                log.advance(name, row.seq)
            return bool(rows)

        for what, value in steps:
            if what == "append":
                new = [str(len(written) + index).encode() for index in range(value)]
                _put(log, *new)
                written += new
            elif what == "take":
                take(str(value))
            else:
                log.close()
                log = EventLog(path)
        for name in seen:
            while take(name):
                pass
        log.close()
        assert seen["a"] == seen["b"] == written
