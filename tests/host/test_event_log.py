"""The event log: what was accepted is there, after anything; what is dropped is counted."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from event_logs import Clocks, everything, opened, put
from hypothesis import given, settings
from hypothesis import strategies as st
from waiting import wait_until

from agent.host.clock import PLAUSIBLE
from agent.host.log import CURSOR_STEPS, EVENTS, EventLog, LogOverflowError
from agent.host.store import Entry


def test_what_was_accepted_is_there_after_reopening_in_order(tmp_path: Path) -> None:
    with opened(tmp_path / "e.db") as log:
        put(log, b"a", b"b")
        put(log, b"c")
    with opened(tmp_path / "e.db") as log:
        assert everything(log) == [b"a", b"b", b"c"]


def test_a_new_cursor_begins_behind_the_newest_and_a_known_one_goes_on(tmp_path: Path) -> None:
    with opened(tmp_path / "e.db") as log:
        put(log, b"before")
        start = log.cursor("mqtt")
        first, second = put(log, b"a", b"b")
        assert [row.payload for row in log.read(EVENTS, start)] == [b"a", b"b"]
        log.advance("mqtt", first)
    with opened(tmp_path / "e.db") as log:
        assert log.cursor("mqtt") == first
        wait_until(lambda: log.health().waiting == {"mqtt": 1})
        log.advance("mqtt", second)
        log.advance("mqtt", first)  # a cursor never goes back
        assert log.cursor("mqtt") == second


def test_the_oldest_are_dropped_and_counted_when_there_are_too_many_bytes(tmp_path: Path) -> None:
    with opened(tmp_path / "e.db", max_bytes=10_000) as log:
        log.cursor("slow")
        for number in range(20):
            put(log, f"{number:04}".encode() * 250)
        health = log.health()
        assert health.bytes <= 10_000
        assert health.dropped == health.dropped_unread == 20 - health.events > 0
        assert everything(log)[-1].startswith(b"0019")
    with opened(tmp_path / "e.db", max_bytes=10_000) as log:
        assert log.health().dropped == health.dropped


def test_what_is_too_old_is_dropped(tmp_path: Path) -> None:
    clocks = Clocks()
    with opened(tmp_path / "e.db", clocks, max_age=100.0) as log:
        put(log, b"old")
        clocks.pass_(101)
        put(log, b"new")
        assert everything(log) == [b"new"]


def test_a_wall_clock_that_jumps_from_1970_to_today_expires_nothing(tmp_path: Path) -> None:
    clocks = Clocks(wall=50.0)
    with opened(tmp_path / "e.db", clocks, max_age=100.0) as log:
        put(log, b"from 1970")
        clocks.wall = PLAUSIBLE + 1e8
        clocks.mono += 5
        put(log, b"from today")
        assert everything(log) == [b"from 1970", b"from today"]
        assert [row.synced for row in log.read(EVENTS, 0)] == [0, 1]


def test_a_reboot_with_whatever_wall_clock_expires_nothing_by_itself(tmp_path: Path) -> None:
    clocks = Clocks()
    with opened(tmp_path / "e.db", clocks, max_age=100.0) as log:
        put(log, b"a")
    for boot, jump in (("boot-2", 50.0), ("boot-3", -1e9), ("boot-4", 2e9)):
        clocks.boot, clocks.mono = boot, 3.0
        clocks.wall += jump
        with opened(tmp_path / "e.db", clocks, max_age=100.0) as log:
            put(log, b"x", stream="other")
            assert everything(log) == [b"a"]
            clocks.pass_(30)
            put(log, b"x", stream="other")
    with opened(tmp_path / "e.db", clocks, max_age=100.0) as log:
        clocks.pass_(30)
        put(log, b"x", stream="other")
        assert everything(log) == [], "what the boots lasted adds up"


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
        put(log, b"new")
        assert everything(log) == [b"new"]
    assert len(list(tmp_path.glob("e.damaged-*.db"))) == 1


def test_where_no_file_can_be_written_the_log_lives_in_memory_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with opened(tmp_path / "file" / "e.db") as log:
        assert log.health().state.startswith("memory only")
        put(log, b"a")
        assert everything(log) == [b"a"]


def test_a_disk_that_cannot_be_written_is_tried_again_until_it_can(tmp_path: Path) -> None:
    with opened(tmp_path / "e.db") as log:
        put(log, b"a")
        with sqlite3.connect(tmp_path / "e.db", isolation_level=None) as other:
            other.execute("BEGIN EXCLUSIVE")  # stands for a disk that says no
            put(log, b"b")
            assert log.health().state == "memory only: database is locked"
            assert everything(log) == [b"a", b"b"], "readers go on"
            other.execute("ROLLBACK")
        wait_until(lambda: log.health().state == "ok")
        assert everything(log) == [b"a", b"b"]
    with opened(tmp_path / "e.db") as log:
        assert everything(log) == [b"a", b"b"]


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
        put(log, b"after")
        assert everything(log) == [b"after"]
        assert log.health().dropped == 1


def test_a_new_cursor_does_not_stop_the_log_while_it_drops_what_is_too_much(tmp_path: Path) -> None:
    with opened(tmp_path / "e.db", max_bytes=2000) as log:
        log.cursor("slow")
        for number in range(200):  # each commit drops, and asks which cursors had not read it
            log.append([Entry(EVENTS, bytes(900))])
            log.cursor(f"new {number}")
        put(log, b"last")


def test_a_damaged_file_that_cannot_be_set_aside_leaves_the_log_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("read-only")

    (tmp_path / "e.db").write_bytes(b"hello" * 999)
    monkeypatch.setattr(Path, "rename", refuse)
    with opened(tmp_path / "e.db") as log:
        assert log.health().state == "memory only: read-only"


def _stored(path: Path, name: str) -> int:
    """Where a cursor stands on disk, whatever the log that has it open knows."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        return int((db.execute("SELECT position FROM cursors WHERE name = ?", (name,)).fetchone() or [0])[0])


def test_cursors_alone_are_written_by_the_lot_and_with_every_commit_of_messages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.host.log.CURSOR_DELAY", 3600.0)
    with opened(tmp_path / "e.db") as log:
        start = log.cursor("mqtt")
        numbers = put(log, *[b"x"] * 600)
        for number in numbers[: CURSOR_STEPS - 1]:
            log.advance("mqtt", number)
        assert _stored(tmp_path / "e.db", "mqtt") == start
        log.advance("mqtt", numbers[CURSOR_STEPS - 1])
        wait_until(lambda: _stored(tmp_path / "e.db", "mqtt") == numbers[CURSOR_STEPS - 1])
        log.advance("mqtt", numbers[-1])
        put(log, b"y")
        assert _stored(tmp_path / "e.db", "mqtt") == numbers[-1]


def test_a_cursor_alone_is_written_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.host.log.CURSOR_DELAY", 0.05)
    with opened(tmp_path / "e.db") as log:
        log.cursor("mqtt")
        (number,) = put(log, b"x")
        log.advance("mqtt", number)
        wait_until(lambda: _stored(tmp_path / "e.db", "mqtt") == number)


def test_the_cursor_of_a_plugin_that_is_gone_counts_for_nothing_and_is_forgotten_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clocks = Clocks()
    with opened(tmp_path / "e.db", clocks, max_age=100.0) as log:
        log.cursor("gone")
        log.cursor("there")
        put(log, b"a")
    monkeypatch.setattr("agent.host.journal.TIDY_EVERY", 0.0)
    for seconds in (60.0, 60.0):
        with opened(tmp_path / "e.db", clocks, max_age=100.0) as log:
            log.cursor("there")
            clocks.pass_(seconds)
            put(log, b"b")
            wait_until(lambda: "there" in log.health().waiting)
            assert "gone" not in log.health().waiting
    with contextlib.closing(sqlite3.connect(tmp_path / "e.db")) as db:
        assert db.execute("SELECT name FROM cursors").fetchall() == [("there",)]


def test_what_nobody_reads_any_more_is_not_dropped_unread(tmp_path: Path) -> None:
    with opened(tmp_path / "e.db") as log:
        log.cursor("gone")
        put(log, b"a")
    with opened(tmp_path / "e.db", max_bytes=1000) as log:
        reader = log.cursor("there")
        (number,) = put(log, bytes(900))
        assert (log.health().dropped, log.health().dropped_unread) == (1, 0)
        assert reader < number
        put(log, bytes(900))
        assert (log.health().dropped, log.health().dropped_unread) == (2, 1)


def test_a_log_that_stays_full_counts_every_loss_and_tells_of_them_now_and_then(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(tmp_path / "e.db", max_bytes=2000) as log:
        log.cursor("slow")
        for _ in range(50):
            put(log, bytes(900))
        assert log.health().dropped_unread == 48
    assert caplog.text.count("dropped unread") == 1


def test_very_much_that_is_too_old_is_dropped_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.host.journal.TRIM_ROUNDS", 3)
    clocks = Clocks()
    with opened(tmp_path / "e.db", clocks, max_age=100.0) as log:
        for _ in range(10):
            put(log, *[b"old"] * 200)
        clocks.pass_(101.0)
        put(log, b"new")
        assert 1 < log.health().events < 2001, "a part at once"
        wait_until(lambda: log.health().dropped == 2000, what="the rest without further messages")
        assert log.health().events == 1


def test_the_check_of_a_large_file_on_a_slow_disk_is_cut_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(tmp_path / "e.db") as log:
        for _ in range(10):
            put(log, *[bytes(50)] * 2000)
    monkeypatch.setattr("agent.host.store.CHECK_SECONDS", 0.0)
    with opened(tmp_path / "e.db") as log:
        assert log.health().state == "ok"
        assert log.health().events == 20_000
    assert "cut short" in caplog.text


def test_messages_by_priority_are_found_by_an_index_however_many_there_are(tmp_path: Path) -> None:
    with opened(tmp_path / "e.db") as log:
        put(log, b"x", stream="post")
        store = log._journal._store
        assert store
        statements: list[str] = []
        store._reader.set_trace_callback(statements.append)
        log.read_by_priority("post", 1)
        (asked,) = [each for each in statements if "priority DESC" in each]  # the log's thread counts meanwhile
        plan = [row[3] for row in store._reader.execute(f"EXPLAIN QUERY PLAN {asked}")]
        assert plan == ["SEARCH messages USING COVERING INDEX messages_by_priority (stream=?)"]


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
        assert set(accepted) <= {int(payload) for payload in everything(log)}


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
                put(log, *new)
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
