"""The event log's file: SQLite, and nothing about threads. Messages in streams, cursors, counts of what was dropped.

Two connections, each behind a lock: one writes, one reads, and who reads does not wait for a commit. What to do about
a file that cannot be opened is recovery.py's. The pipeline never calls it.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import struct
import threading
import time
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from agent.host.ranges import Ranges
from agent.host.schema import VERSION, bring_up_to_date

log = logging.getLogger(__name__)

ROW_OVERHEAD = 64
HIGHEST = 1 << 60
CHECK_SECONDS = 10.0
BUSY_MS = 2000
JOURNAL_BYTES = 4 << 20
_COLUMNS = "seq, stream, priority, payload, known, wall, synced"


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

    @property
    def size(self) -> int:
        """Bytes that it counts for."""
        return len(self.payload) + ROW_OVERHEAD


class Entry(NamedTuple):
    """One message to be written."""

    stream: str
    payload: bytes
    priority: int = 0


class Head(NamedTuple):
    """A message without what it says."""

    seq: int
    stream: str
    size: int
    known: float


class Store:
    """``path``: the file, made where missing. ``check``: look for damage first, for 10 s at most.

    Raises sqlite3.OperationalError when it cannot be opened or written, NewerSchemaError when a newer agent wrote it,
    any other sqlite3.DatabaseError when it is damaged. ``migrated_from``: the version that it had, 0 of a new file.
    """

    version = VERSION

    def __init__(self, path: Path, *, check: bool = True) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._read_lock = threading.Lock()
        self.damaged_rows: set[int] = set()
        with contextlib.ExitStack() as stack:
            self._db = stack.enter_context(contextlib.closing(_connect(path)))
            self._prepare(check)
            self._reader = stack.enter_context(contextlib.closing(_connect(path)))
            self._reader.execute("PRAGMA query_only = ON")
            self._identity = _identity(path)
            stack.pop_all()

    def _prepare(self, check: bool) -> None:
        db = self._db
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute(f"PRAGMA journal_size_limit = {JOURNAL_BYTES}")
        if check:
            _check(db, self._path)
        found = bring_up_to_date(db)
        self.migrated_from = found
        sizes = f"SELECT count(*), coalesce(sum(length(payload) + {ROW_OVERHEAD}), 0) FROM messages"  # noqa: S608
        self.count, self.bytes = db.execute(sizes).fetchone()
        if self.newest() > HIGHEST:
            raise sqlite3.DatabaseError("its numbers are damaged")

    def in_place(self) -> bool:
        """Whether the file that is open is still the one at its path."""
        return _identity(self._path) == self._identity

    # writing, inside a transaction

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
                with contextlib.suppress(sqlite3.Error):
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")
                raise

    def append(self, rows: Sequence[Row]) -> None:
        """Write messages under numbers higher than any before."""
        self._db.executemany(
            f"INSERT INTO messages ({_COLUMNS}, crc) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
            [(*row, checksum(row)) for row in rows],
        )
        self.count += len(rows)
        self.bytes += sum(row.size for row in rows)

    def remove(self, numbers: Collection[int]) -> None:
        """Forget acknowledged messages."""
        for number in sorted(numbers):
            self._delete("seq = ?", (number,))

    def drop_through(self, number: int) -> None:
        """Forget everything up to a number."""
        self._delete("seq <= ?", (number,))

    def oldest(self, limit: int) -> list[Head]:
        """The first messages of all."""
        size = f"coalesce(length(payload), 0) + {ROW_OVERHEAD}"
        query = f"SELECT seq, stream, {size}, CAST(known AS REAL) FROM messages ORDER BY seq LIMIT ?"  # noqa: S608
        return [Head(*row) for row in self._db.execute(query, (limit,))]

    def set_cursors(self, cursors: Mapping[str, tuple[str, Ranges]], used: float) -> None:
        """Where each named cursor stands in its stream; ``used``: known time."""
        self._db.executemany(
            "INSERT OR REPLACE INTO cursors (name, stream, position, above, used) VALUES (?, ?, ?, ?, ?)",
            [(name, stream, done.low, done.encode(), used) for name, (stream, done) in cursors.items()],
        )

    def drop_cursors(self, kept: Collection[str], unused_since: float) -> list[str]:
        """Forget the cursors, but for those kept, that nobody has asked for since a known time; their names."""
        old = [
            name
            for name, used in self._db.execute("SELECT name, used FROM cursors")
            if name not in kept and used is not None and used < unused_since
        ]
        self._db.executemany("DELETE FROM cursors WHERE name = ?", [(name,) for name in old])
        return old

    def mark_cursors(self, known: float) -> None:
        """Let the time without use begin now for cursors of files that did not note it."""
        self._db.execute("UPDATE cursors SET used = ? WHERE used IS NULL", (known,))

    def set_facts(self, facts: Mapping[str, object]) -> None:
        """Small values kept beside the messages."""
        self._db.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", list(facts.items()))

    def shift(self, by: int) -> None:
        """Lower every number, of messages and cursors; they may become negative, the order is all that counts."""
        self._db.execute("UPDATE messages SET seq = seq - ?", (by,))
        for name, (_, done) in self.cursors().items():
            above = Ranges(done.low - by, [(after - by, upto - by) for after, upto in done]).encode()
            self._db.execute("UPDATE cursors SET position = ?, above = ? WHERE name = ?", (done.low - by, above, name))

    # reading

    def fact(self, name: str) -> object:
        """A small value, None when there is none."""
        with self._lock:
            row = self._db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return row[0] if row else None

    def number(self, name: str, default: float) -> float:
        """A small value that is a number; ``default`` when there is none, or it is damaged."""
        value = self.fact(name)
        return value if isinstance(value, (int, float)) else default

    def newest(self) -> int:
        """The highest number ever given, as far as the file knows."""
        with self._lock:
            rows = self._db.execute(
                "SELECT max(seq) FROM messages UNION ALL SELECT seq FROM sqlite_sequence WHERE name = 'messages'"
            ).fetchall()
        return max((int(number) for (number,) in rows if number is not None), default=0)

    def cursors(self) -> dict[str, tuple[str, Ranges]]:
        """Every cursor: its stream and where it stands."""
        with self._lock:
            rows = self._db.execute("SELECT name, stream, position, above FROM cursors").fetchall()
        return {name: (stream, _ranges(name, position, above)) for name, stream, position, above in rows}

    def read(self, stream: str, after: int, limit: int) -> list[Row]:
        """Messages of a stream behind a number, in order."""
        return self._rows("stream = ? AND seq > ? ORDER BY seq LIMIT ?", (stream, after, limit))

    def read_by_priority(self, stream: str, limit: int, skip: Collection[int]) -> list[Row]:
        """Messages of a stream (not of the events) that are not to be skipped, highest priority first, then oldest."""
        chosen: list[int] = []
        query = "SELECT seq FROM messages WHERE stream = ? AND stream <> 'events' ORDER BY priority DESC, seq"
        with self._read_lock:
            for (number,) in self._reader.execute(query, (stream,)):
                if len(chosen) == limit:
                    break
                if number not in skip:
                    chosen.append(number)
        return [row for number in chosen for row in self._rows("seq = ?", (number,))]

    def newest_before(self, stream: str, known: float) -> list[Row]:
        """The newest message of a stream from before a known time; none if there is none."""
        return self._rows("stream = ? AND known < ? ORDER BY seq DESC LIMIT 1", (stream, known))

    def waiting(self, stream: str, done: Ranges) -> int:
        """How many messages of a stream are not done."""
        with self._read_lock:
            count = self._count("stream = ? AND seq > ?", (stream, done.low))
            return count - sum(self._count("stream = ? AND seq > ? AND seq <= ?", (stream, *span)) for span in done)

    def of_outboxes(self) -> int:
        """How many messages are no events."""
        with self._read_lock:
            return self._count("stream <> ?", ("events",))

    def close(self) -> None:
        """Close the file."""
        with self._lock, self._read_lock:
            self._reader.close()
            self._db.close()

    def _count(self, condition: str, values: tuple[object, ...]) -> int:
        query = f"SELECT count(*) FROM messages WHERE {condition}"  # noqa: S608
        return int(self._reader.execute(query, values).fetchone()[0])

    def _rows(self, condition: str, values: tuple[object, ...]) -> list[Row]:
        query = f"SELECT {_COLUMNS}, crc FROM messages WHERE {condition}"  # noqa: S608
        with self._read_lock:
            found = self._reader.execute(query, values).fetchall()
        return [Row(*row) for *row, crc in found if self._is_sound(row, crc)]

    def _is_sound(self, row: list[Any], crc: object) -> bool:
        number = row[0]
        try:
            if isinstance(row[3], bytes) and crc in (None, checksum(Row(*row))):
                return True
        except (TypeError, ValueError, AttributeError, struct.error):  # a value of another type than was written
            pass
        if number not in self.damaged_rows:
            log.error("%s: message %d is damaged and left out", self._path, number)
            self.damaged_rows.add(number)
        return False

    def _delete(self, condition: str, values: tuple[object, ...]) -> None:
        query = f"DELETE FROM messages WHERE {condition} RETURNING coalesce(length(payload), 0)"  # noqa: S608
        for (size,) in self._db.execute(query, values).fetchall():
            self.count -= 1
            self.bytes -= size + ROW_OVERHEAD


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(str(path), check_same_thread=False, isolation_level=None)
    db.text_factory = lambda text: text.decode("utf-8", "replace")  # of a damaged file anything may come
    db.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
    return db


def checksum(row: Row) -> int:
    """CRC-32 of everything in a message but its number. Raises struct.error, or others, for what is no message."""
    about = struct.pack("<qdd?", row.priority, row.known, row.wall, row.synced) + row.stream.encode()
    return zlib.crc32(row.payload, zlib.crc32(about))


def _check(db: sqlite3.Connection, path: Path) -> None:
    """SQLite's quick check, as far as it gets in 10 s: a slow card must not hold up the start."""
    deadline = time.monotonic() + CHECK_SECONDS
    db.set_progress_handler(lambda: time.monotonic() > deadline, 100_000)
    try:
        verdict = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.OperationalError as error:
        if "interrupted" not in str(error):
            raise
        log.warning("%s: the integrity check was cut short after %g s", path, CHECK_SECONDS)
        return
    finally:
        db.set_progress_handler(None, 0)
    if verdict != "ok":
        raise sqlite3.DatabaseError(f"integrity check: {verdict}")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _ranges(name: str, position: object, above: object) -> Ranges:
    if not isinstance(position, int):
        log.error("event log: cursor %s is damaged; all that is kept is told again", name)
        return Ranges()
    try:
        return Ranges.decode(position, str(above))
    except ValueError:
        log.error("event log: cursor %s: its ranges are damaged; what they cover is told again", name)
        return Ranges(position)
