"""The event log's file: SQLite, and nothing about threads. Messages in streams, cursors, counts of what was dropped.

One connection behind one lock; whoever calls waits for a commit in progress. The pipeline never calls it.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

log = logging.getLogger(__name__)

VERSION = 1
SCHEMA = """
CREATE TABLE messages (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    stream TEXT NOT NULL,
    priority INTEGER NOT NULL,
    payload BLOB NOT NULL,
    known REAL NOT NULL,   -- seconds of known time at which it was written, see KnownTime
    wall REAL NOT NULL,    -- UNIX seconds by the wall clock, right or wrong
    synced INTEGER NOT NULL
);
CREATE INDEX messages_of_a_stream ON messages (stream, seq);
CREATE TABLE cursors (name TEXT PRIMARY KEY, stream TEXT NOT NULL, position INTEGER NOT NULL);
CREATE TABLE facts (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
"""
ROW_OVERHEAD = 64


class Stamp(NamedTuple):
    """When: ``known`` time (seconds that only ever grow), the wall clock, and whether that can be believed."""

    known: float
    wall: float
    synced: bool


class Row(NamedTuple):
    """One message as it stands in the log."""

    seq: int
    stream: str
    priority: int
    payload: bytes
    known: float
    wall: float
    synced: bool


class Entry(NamedTuple):
    """One message to be written."""

    stream: str
    payload: bytes
    priority: int = 0


class Store:
    """``path`` None keeps everything in memory. Raises sqlite3.Error when the file cannot be opened or written."""

    def __init__(self, path: Path | None) -> None:
        self._lock = threading.RLock()
        self._db = sqlite3.connect(str(path) if path else ":memory:", check_same_thread=False, isolation_level=None)
        try:
            self._prepare()
        except BaseException:
            self._db.close()
            raise

    def _prepare(self) -> None:
        db = self._db
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA busy_timeout = 2000")
        if (verdict := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise sqlite3.DatabaseError(f"integrity check: {verdict}")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            db.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {VERSION}; COMMIT")
        elif version != VERSION:
            raise sqlite3.DatabaseError(f"written by another version of the agent (schema {version}, not {VERSION})")
        sizes = f"SELECT count(*), coalesce(sum(length(payload) + {ROW_OVERHEAD}), 0) FROM messages"  # noqa: S608
        self.count, self.bytes = db.execute(sizes).fetchone()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All of the block or nothing of it, on disk when it ends."""
        with self._lock:
            before = self.count, self.bytes
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                self.count, self.bytes = before
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def append(self, entries: Sequence[Entry], stamp: Stamp) -> list[int]:
        """Write messages; their numbers, which only ever grow."""
        numbers = []
        for stream, payload, priority in entries:
            row = (stream, priority, payload, stamp.known, stamp.wall, stamp.synced)
            done = self._db.execute(
                "INSERT INTO messages (stream, priority, payload, known, wall, synced) VALUES (?, ?, ?, ?, ?, ?)", row
            )
            numbers.append(int(done.lastrowid or 0))
            self.count += 1
            self.bytes += len(payload) + ROW_OVERHEAD
        return numbers

    def remove(self, numbers: Sequence[int]) -> None:
        """Forget acknowledged messages."""
        for number in numbers:
            self._delete("seq = ?", (number,))

    def set_cursors(self, positions: Mapping[str, tuple[str, int]]) -> None:
        """Where each named cursor stands: its stream and the last number that it has passed."""
        self._db.executemany(
            "INSERT INTO cursors VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET position = excluded.position",
            [(name, stream, position) for name, (stream, position) in positions.items()],
        )

    def set_facts(self, facts: Mapping[str, object]) -> None:
        """Small values kept beside the messages."""
        self._db.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", list(facts.items()))

    def fact(self, name: str, default: float | str) -> float | str:
        """One of them."""
        with self._lock:
            row = self._db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return row[0] if row else default

    def read(self, stream: str, after: int, limit: int) -> list[Row]:
        """Messages of a stream behind a number, in order."""
        return self._rows("stream = ? AND seq > ? ORDER BY seq LIMIT ?", (stream, after, limit))

    def read_by_priority(self, stream: str, limit: int) -> list[Row]:
        """Messages of a stream, highest priority first, then oldest."""
        return self._rows("stream = ? ORDER BY priority DESC, seq LIMIT ?", (stream, limit))

    def last(self, stream: str) -> int:
        """The number of the newest message of a stream, 0 when it is empty."""
        with self._lock:
            return int(
                self._db.execute("SELECT coalesce(max(seq), 0) FROM messages WHERE stream = ?", (stream,)).fetchone()[0]
            )

    def cursors(self) -> dict[str, tuple[str, int]]:
        """Every cursor: its stream and position."""
        with self._lock:
            return {name: (stream, position) for name, stream, position in self._db.execute("SELECT * FROM cursors")}

    def waiting(self, stream: str, after: int) -> int:
        """How many messages of a stream lie behind a number."""
        with self._lock:
            query = "SELECT count(*) FROM messages WHERE stream = ? AND seq > ?"
            return int(self._db.execute(query, (stream, after)).fetchone()[0])

    def oldest(self) -> Row | None:
        """The first message of all."""
        rows = self._rows("1 ORDER BY seq LIMIT ?", (1,))
        return rows[0] if rows else None

    def drop_oldest(self) -> None:
        """Remove the first message of all."""
        self._delete("seq = (SELECT min(seq) FROM messages)", ())

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def _rows(self, condition: str, values: tuple[object, ...]) -> list[Row]:
        query = f"SELECT seq, stream, priority, payload, known, wall, synced FROM messages WHERE {condition}"  # noqa: S608
        with self._lock:
            return [Row(*row) for row in self._db.execute(query, values)]

    def _delete(self, condition: str, values: tuple[object, ...]) -> None:
        query = f"DELETE FROM messages WHERE {condition} RETURNING length(payload)"  # noqa: S608
        for (size,) in self._db.execute(query, values).fetchall():
            self.count -= 1
            self.bytes -= size + ROW_OVERHEAD


def open_store(path: Path) -> tuple[Store, str]:
    """The store at ``path`` and its state: ``ok``, or what had to be done, in words.

    A damaged file is set aside under a dated name and a fresh one begun; where no file can be written the log lives in
    memory. Never raises for what is wrong with the file.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return Store(path), "ok"
    except sqlite3.OperationalError as error:
        return _in_memory(path, error)
    except sqlite3.DatabaseError as error:
        damage = error
    except OSError as error:
        return _in_memory(path, error)
    try:
        aside = set_aside(path)
        log.error("%s: %s: set aside as %s, a fresh event log begins", path, damage, aside)
        return Store(path), f"a damaged file was set aside as {aside}"
    except (sqlite3.Error, OSError) as error:
        return _in_memory(path, error)


def _in_memory(path: Path, error: Exception) -> tuple[Store, str]:
    log.error("%s: %s: the event log is in memory only, a restart loses it", path, error)
    return Store(None), f"memory only: {error}"


def set_aside(path: Path) -> str:
    """Rename the file and its journals to a name with the date; that name."""
    stamp = datetime.datetime.now(tz=datetime.timezone.utc).strftime("%Y%m%d-%H%M%S-%f")
    name = f"{path.stem}.damaged-{stamp}{path.suffix}"
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(path.with_name(name + suffix))
    return name
