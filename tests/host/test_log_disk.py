"""The event log on disks that are full, read-only, taken away or damaged while it is in use: real ones."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from event_logs import Clocks, everything, opened, put
from waiting import wait_until

from agent.host.log import EVENTS, EventLog
from agent.host.schema import VERSION
from agent.host.store import Entry

V1 = Path(__file__).with_name("event_log_v1.sql")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = _run("mount", "-t", "tmpfs", "-o", "size=2m", "none", str(folder))
    if made.returncode:
        pytest.skip(f"no file system can be mounted here: {made.stderr.strip()}")
    yield folder
    _run("umount", "-l", str(folder))


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _fill(folder: Path, leave: int = 0) -> Path:
    """Take all the room there is, but for so many bytes."""
    with contextlib.suppress(OSError), (folder / "ballast").open("wb", buffering=0) as file:
        while shutil.disk_usage(folder).free > leave:
            file.write(bytes(4096))
    return folder / "ballast"


def _state(log: EventLog) -> str:
    return log.health().state


def test_a_full_disk_degrades_to_memory_loudly_and_heals_with_everything_in_order(small_disk: Path) -> None:
    with opened(small_disk / "e.db") as log:
        log.cursor("mqtt")
        first = put(log, b"before")
        ballast = _fill(small_disk)
        numbers = [put(log, f"{number}".encode() * 500)[0] for number in range(300)]
        assert "memory only: database or disk is full" in _state(log)
        assert numbers == sorted(numbers)
        assert first < numbers
        assert len(everything(log)) == 301, "readers see what is on disk and what is in memory as one"
        log.advance("mqtt", numbers[99])
        ballast.unlink()
        wait_until(lambda: _state(log) == "ok")
        put(log, b"after")
        assert log.health().dropped == 0
        wait_until(lambda: log.health().waiting == {"mqtt": 201})
        kept = everything(log)
    with opened(small_disk / "e.db") as log:
        assert everything(log) == kept
        assert log.cursor("mqtt") == numbers[99]


def test_what_waits_in_memory_for_a_full_disk_is_bounded_and_the_oldest_dropped_and_counted(small_disk: Path) -> None:
    with opened(small_disk / "e.db") as log:
        log.cursor("mqtt")
        ballast = _fill(small_disk)
        for number in range(40):
            put(log, bytes([number]) * (1 << 20))
        health = log.health()
        assert health.bytes <= 33 << 20
        assert health.dropped == health.dropped_unread == 40 - health.events > 0
        assert log.read(EVENTS, 0, 100)[-1].payload[0] == 39
        ballast.unlink()  # 2 MB of 32: the disk stays too small, and the log in memory
        put(log, b"small")
        assert everything(log)[-1] == b"small"


def test_an_outbox_message_acknowledged_while_the_disk_is_full_does_not_come_back(small_disk: Path) -> None:
    with opened(small_disk / "e.db") as log:
        (old,) = put(log, b"old", stream="post")
        ballast = _fill(small_disk)
        new, kept = put(log, b"new" * 2000, b"kept" * 2000, stream="post")
        log.remove(old)
        log.remove(new)
        assert [row.seq for row in log.read_by_priority("post", 9)] == [kept]
        ballast.unlink()
        wait_until(lambda: _state(log) == "ok")
        assert [row.seq for row in log.read_by_priority("post", 9)] == [kept]
    with opened(small_disk / "e.db") as log:
        assert [row.seq for row in log.read_by_priority("post", 9)] == [kept]


def test_a_disk_that_is_read_only_at_the_start_is_joined_with_its_past_when_it_can_be_written(small_disk: Path) -> None:
    clocks = Clocks()
    with opened(small_disk / "e.db", clocks) as log:
        log.cursor("mqtt")
        log.cursor("later")
        past = put(log, b"a", b"b", b"c")
        log.advance("mqtt", past[0])
    for round_ in range(3):  # the second and third time the numbers of the file lie where those of memory begin
        clocks.boot, clocks.mono = f"boot {round_}", 5.0
        assert not _run("mount", "-o", "remount,ro", str(small_disk)).returncode
        with opened(small_disk / "e.db", clocks, max_age=1000.0) as log:
            assert _state(log).startswith("memory only: ")
            at = log.cursor("mqtt")
            new = put(log, b"x", b"y")
            assert [row.payload for row in log.read(EVENTS, at, 9)] == [b"x", b"y"]
            log.advance("mqtt", new[0])
            clocks.pass_(10)
            assert not _run("mount", "-o", "remount,rw", str(small_disk)).returncode
            wait_until(lambda: _state(log) == "ok")
            assert everything(log)[-3:] == [b"c", b"x", b"y"] if not round_ else [b"y", b"x", b"y"]
            done = log.done("mqtt")
            told = [row.payload for row in log.read(EVENTS, -(1 << 60), 99) if row.seq not in done]
            assert told == [b"b", b"c", *[b"y"] * (round_ + 1)]
            assert log.cursor("later") == log.read(EVENTS, -(1 << 60), 1)[0].seq - 1
            late = [log.is_late(row) for row in log.read(EVENTS, -(1 << 60), 99)]
            assert late[:-2] == [True] * (len(late) - 2), "what the file held is of an earlier start"
    with opened(small_disk / "e.db", clocks, max_age=1000.0) as log:
        assert len(log.read(EVENTS, -(1 << 60), 99)) == 9


LIMITED = """
import resource, signal, sys
from pathlib import Path
from agent.host.log import EventLog
from agent.host.store import Entry
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
log = EventLog(Path(sys.argv[1]))
for number in range(600):
    log.append([Entry("events", str(number).encode().zfill(1000))]).result(10)
print(log.health().state, flush=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
sys.stdin.readline()
log.close()
"""


def test_a_quota_that_is_used_up_loses_nothing_once_there_is_room_and_needs_no_root(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LIMITED, str(tmp_path / "e.db")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        assert process.stdout.readline().startswith("memory only: ")
        process.communicate("\n", timeout=60)
    with opened(tmp_path / "e.db") as log:
        assert [int(payload) for payload in everything(log)] == list(range(600))


@pytest.mark.parametrize("how", ["overwritten", "truncated"])
def test_a_file_damaged_while_in_use_is_set_aside_and_the_log_goes_on(tmp_path: Path, how: str) -> None:
    path = tmp_path / "e.db"
    with opened(path) as log:
        log.cursor("mqtt")
        for _ in range(20):
            put(log, *[os.urandom(4000)] * 50)  # more than the page cache holds
        with sqlite3.connect(path) as other:
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = path.stat().st_size
        with path.open("r+b") as file:
            if how == "truncated":
                file.truncate(size // 2)
            else:
                file.seek(4096)
                file.write(os.urandom(size - 4096))

        def found() -> bool:
            put(log, b"new")
            log.read(EVENTS, 0, 2000)
            return "set aside" in _state(log)

        wait_until(found)
        assert list(tmp_path.glob("e.damaged-*.db"))
        health = log.health()
        assert health.dropped >= 1000
        (number,) = put(log, b"newer")
        assert log.read(EVENTS, number - 1, 9)[0].payload == b"newer"
        assert log.cursor("mqtt") < number
    with opened(path) as log:
        assert _state(log) == "ok"
        assert everything(log)[-1] == b"newer"
        assert log.health().dropped == health.dropped


def test_a_file_that_is_deleted_while_in_use_is_begun_afresh(tmp_path: Path) -> None:
    path = tmp_path / "e.db"
    with opened(path) as log:
        put(log, b"a")
        for file in tmp_path.iterdir():
            file.unlink()
        put(log, b"b")
        wait_until(lambda: not _state(log).startswith("memory only"))
        assert log.health().dropped == 1
    with opened(path) as log:
        assert everything(log) == [b"b"]


def test_damaged_files_do_not_pile_up(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / "e.db").write_bytes(b"no database at all" * (number + 500))
        with opened(tmp_path / "e.db") as log:
            assert "set aside" in _state(log)
    kept = sorted(tmp_path.glob("e.damaged-*.db"))
    assert [file.stat().st_size for file in kept] == [18 * (number + 500) for number in (2, 3, 4)]


def test_a_message_whose_bytes_were_damaged_is_left_out_and_counted_and_the_rest_is_told(tmp_path: Path) -> None:
    path = tmp_path / "e.db"
    with opened(path) as log:
        put(log, b"first", b"the second message", b"third")
    content = path.read_bytes()
    assert content.count(b"the second message") == 1
    path.write_bytes(content.replace(b"the second message", b"the sec0nd message"))
    with opened(path) as log:
        assert everything(log) == [b"first", b"third"]
        wait_until(lambda: log.health().events == 2)
        assert log.health().dropped == 1


def test_a_file_of_the_schema_before_is_migrated_with_all_that_stands_in_it(tmp_path: Path) -> None:
    path = tmp_path / "e.db"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executescript(V1.read_text(encoding="utf-8"))
    for _ in range(2):
        with opened(path) as log:
            assert _state(log) == "ok"
            assert everything(log) == [b"first", b"second", "dür".encode()]
            assert (log.cursor("mqtt"), log.cursor("gone")) == (1, 3)
            assert [row.payload for row in log.read_by_priority("alert/webhook", 9)] == [b"high", b"low"]
            assert (log.health().dropped, log.health().dropped_unread) == (7, 2)
    with contextlib.closing(sqlite3.connect(path)) as db:
        migrated = {(kind, name): " ".join(sql.split()) for kind, name, sql in db.execute(_SHAPE) if kind == "index"}
        columns = {table: db.execute(f"SELECT name FROM pragma_table_info('{table}')").fetchall() for table in _TABLES}
        assert db.execute("PRAGMA user_version").fetchone() == (VERSION,)
    with opened(tmp_path / "fresh.db"), contextlib.closing(sqlite3.connect(tmp_path / "fresh.db")) as db:
        assert migrated == {
            (kind, name): " ".join(sql.split()) for kind, name, sql in db.execute(_SHAPE) if kind == "index"
        }
        for table in _TABLES:
            assert columns[table] == db.execute(f"SELECT name FROM pragma_table_info('{table}')").fetchall()


_SHAPE = "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL"
_TABLES = ("messages", "cursors", "facts")


def test_a_migration_that_fails_leaves_the_old_file_as_it_was(small_disk: Path) -> None:
    path = small_disk / "e.db"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executescript(V1.read_text(encoding="utf-8"))
        db.executemany(
            "INSERT INTO messages VALUES (?, 'post', 0, ?, 1.0, 1.0, 1)", [(n, bytes(500)) for n in range(9, 2000)]
        )
        db.commit()
    ballast = _fill(small_disk, leave=48 << 10)
    with opened(path) as log:
        assert _state(log).startswith("memory only: ")
        put(log, b"new")
        ballast.unlink()
        wait_until(lambda: _state(log) == "ok")
        assert everything(log) == [b"first", b"second", "dür".encode(), b"new"]
    assert not list(small_disk.glob("e.*-*.db"))


def test_a_file_of_a_newer_agent_is_set_aside_unharmed_and_the_reason_told(tmp_path: Path) -> None:
    path = tmp_path / "e.db"
    with opened(path) as log:
        put(log, b"from the future")
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {VERSION + 1}")
    with opened(path) as log:
        assert _state(log).startswith("a newer file was set aside as e.newer-")
        assert everything(log) == []
    (aside,) = tmp_path.glob("e.newer-*.db")
    with contextlib.closing(sqlite3.connect(aside)) as db:
        assert db.execute("SELECT payload FROM messages").fetchall() == [(b"from the future",)]


def test_a_disk_that_hangs_is_named_and_neither_the_monitor_nor_the_pipeline_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.host.log.HANGS_AFTER", 0.05)
    clocks = Clocks()
    with opened(tmp_path / "e.db", clocks) as log:
        put(log, b"a")
        store = log._journal._store
        assert store
        with store.transaction():  # an fsync that does not return
            waiting = [log.append([Entry(EVENTS, b"b")]) for _ in range(3)]
            wait_until(lambda: _state(log).startswith("the disk has not answered for"))
            assert everything(log) == [b"a"], "readers do not wait either"
            assert not any(future.done() for future in waiting)
            clocks.pass_(30.0)
        for future in waiting:
            future.result(10)
        (row,) = log.read(EVENTS, waiting[0].result()[0] - 1, 1)
        assert log.is_late(row), "what waits for the disk waits"
        assert row.wall == clocks.wall - 30.0
        wait_until(lambda: _state(log) == "ok")
