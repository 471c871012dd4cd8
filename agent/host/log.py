"""The event log: what is accepted here is on disk. One thread writes, one commit for all that waits.

Streams of messages; cursors by name that survive restarts (events), or acknowledgement message by message (outboxes).
What the file looks like is store.py's, how age is counted clock.py's.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path

from agent.data import LogHealth
from agent.host.clock import KnownTime, is_synced
from agent.host.store import Entry, Row, Stamp, Store, open_store

log = logging.getLogger(__name__)

EVENTS = "events"
MAX_PENDING = 20_000
MAX_PENDING_BYTES = 32 << 20
RETRY_EVERY = 1.0
CURSOR_DELAY = 0.05
LATE_AFTER = 2.0
FAULTS_OF_THE_DISK = (sqlite3.OperationalError, sqlite3.DatabaseError)
"""Exactly these: their subclasses are about what was to be written."""


class LogOverflowError(Exception):
    """The disk did not keep up (or is full) for so long that the memory before it is full too."""


class EventLog:
    """``path``: the file, made where missing. ``max_bytes`` and ``max_age`` (seconds) bound it, oldest first.

    ``make_clock``: builds the known time from what was saved; tests give their own.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int = 256 << 20,
        max_age: float = 7 * 86400.0,
        make_clock: Callable[[tuple[float, str, float] | None], KnownTime] = KnownTime,
    ) -> None:
        self._max_bytes = max_bytes
        self._max_age = max_age
        self._store, self._state = open_store(path)
        self._clock = make_clock(_saved_clock(self._store))
        self.opened_at = self._clock.now()
        self._dropped = int(self._store.fact("dropped", 0))
        self._unread = int(self._store.fact("dropped_unread", 0))
        self._overflow = 0
        self._changed = threading.Condition()
        self._pending: list[tuple[list[Entry], Future[list[int]]]] = []
        self._pending_bytes = 0
        self._cursors = dict(self._store.cursors())
        self._dirty: set[str] = set()
        self._removed: set[int] = set()
        self._removing: set[int] = set()
        self._writing = False
        self._closing = False
        self._listeners: list[Callable[[], None]] = []
        self._thread = threading.Thread(target=self._run, name="event-log", daemon=True)
        self._thread.start()

    # writing

    def append(self, entries: Sequence[Entry]) -> Future[list[int]]:
        """Queue messages for one commit; returns at once. The Future gives their numbers once they are on disk.

        It fails with LogOverflowError, counted, when too much waits already.
        """
        future: Future[list[int]] = Future()
        size = sum(len(entry.payload) for entry in entries)
        with self._changed:
            full = len(self._pending) >= MAX_PENDING or self._pending_bytes + size > MAX_PENDING_BYTES
            if not full and not self._closing:
                self._pending.append((list(entries), future))
                self._pending_bytes += size
                self._changed.notify_all()
                return future
            first, self._overflow = not self._overflow, self._overflow + len(entries)
        if first:
            log.error("event log: what waits for the disk is more than memory may hold; from now on it is dropped")
        future.set_exception(LogOverflowError("the event log's disk does not keep up; its memory is full"))
        return future

    def advance(self, cursor: str, position: int) -> None:
        """Everything up to ``position`` has been dealt with by that cursor. Written with the next commit."""
        with self._changed:
            stream, before = self._cursors[cursor]
            if position > before:
                self._cursors[cursor] = (stream, position)
                self._dirty.add(cursor)
                self._changed.notify_all()

    def remove(self, number: int) -> None:
        """An outbox message has arrived: never show it again, forget it with the next commit."""
        with self._changed:
            self._removed.add(number)
            self._changed.notify_all()

    # reading

    def cursor(self, name: str, stream: str = EVENTS) -> int:
        """Where a cursor stands; a new one begins behind the newest message."""
        newest = self._store.last(stream)  # not under _changed: the log's thread takes the two the other way round
        with self._changed:
            if name not in self._cursors:
                self._cursors[name] = (stream, newest)
                self._dirty.add(name)
                self._changed.notify_all()
            return self._cursors[name][1]

    def read(self, stream: str, after: int, limit: int = 32) -> list[Row]:
        """Committed messages behind a number, in order."""
        return self._store.read(stream, after, limit)

    def read_by_priority(self, stream: str, limit: int) -> list[Row]:
        """Committed messages of an outbox that were not removed, highest priority first."""
        with self._changed:
            gone = self._removed | self._removing
        rows = self._store.read_by_priority(stream, limit + len(gone))
        return [row for row in rows if row.seq not in gone][:limit]

    def is_late(self, row: Row) -> bool:
        """Whether a message waited: for longer than 2 s, or for this start of the daemon."""
        return row.known < self.opened_at or self._clock.now() - row.known > LATE_AFTER

    def listen(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` on the log's thread after each commit of messages; it must return at once."""
        self._listeners.append(listener)

    def settled(self) -> bool:
        """Whether nothing waits to be written."""
        with self._changed:
            return not self._pending and not self._writing

    def health(self) -> LogHealth:
        """State and counts."""
        with self._changed:
            cursors = dict(self._cursors)
            state, overflow = self._state, self._overflow
        return LogHealth(
            state=state,
            events=self._store.count,
            bytes=self._store.bytes,
            dropped=self._dropped + overflow,
            dropped_unread=self._unread + overflow,
            waiting={name: self._store.waiting(stream, position) for name, (stream, position) in cursors.items()},
        )

    def close(self, timeout: float = 10.0) -> None:
        """Write what waits, then close the file. Safe to call twice."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout)
        if not self._thread.is_alive():
            self._store.close()

    # the thread

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(self._has_work)
                if not self._pending and not self._closing:
                    self._changed.wait_for(lambda: bool(self._pending) or self._closing, CURSOR_DELAY)
                batch, self._pending, self._pending_bytes = self._pending, [], 0
                cursors = {name: self._cursors[name] for name in self._dirty}
                self._removing, self._removed = self._removed, set()
                self._dirty.clear()
                self._writing = True
                closing = self._closing
            done = self._commit_until_done(batch, cursors, sorted(self._removing))
            with self._changed:
                self._writing = False
                self._removing = set()
                self._changed.notify_all()
            if closing and (not done or not self._has_work_left()):
                return

    def _has_work(self) -> bool:
        return bool(self._pending or self._dirty or self._removed or self._closing)

    def _has_work_left(self) -> bool:
        with self._changed:
            return bool(self._pending or self._dirty or self._removed)

    def _commit_until_done(
        self,
        batch: list[tuple[list[Entry], Future[list[int]]]],
        cursors: dict[str, tuple[str, int]],
        removed: list[int],
    ) -> bool:
        """Commit; a full or read-only disk is tried again each second, and says so. False when closing gave up.

        What cannot be written anywhere is refused, so that what comes after it can.
        """
        while True:
            try:
                numbers = self._commit([entries for entries, _ in batch], cursors, removed)
            except Exception as error:
                if batch and type(error) not in FAULTS_OF_THE_DISK:
                    log.exception("event log: what cannot be written is refused")
                    self._refuse(batch, error)
                    batch = []
                elif not self._wait_for_disk(error):
                    self._refuse(batch, error)
                    return False
                continue
            self._accepted(batch, numbers)
            return True

    def _refuse(self, batch: list[tuple[list[Entry], Future[list[int]]]], error: Exception) -> None:
        with self._changed:
            self._overflow += sum(len(entries) for entries, _ in batch)
        for _, future in batch:
            future.set_exception(LogOverflowError(f"not written: {error}"))

    def _commit(
        self, batches: list[list[Entry]], cursors: dict[str, tuple[str, int]], removed: list[int]
    ) -> list[list[int]]:
        wall = self._clock.wall()
        stamp = Stamp(self._clock.now(), wall, is_synced(wall))
        dropped, unread = self._dropped, self._unread
        with self._store.transaction():
            numbers = [self._store.append(entries, stamp) for entries in batches]
            self._store.remove(removed)
            self._store.set_cursors(cursors)
            for row in self._too_much(stamp.known):
                dropped += 1
                unread += self._is_unread(row)
                self._store.drop_oldest()
            known, boot, mono = self._clock.snapshot()
            clock = {"known": known, "boot": boot, "mono": mono}
            self._store.set_facts({**clock, "dropped": dropped, "dropped_unread": unread})
        if unread > self._unread:
            log.warning("event log: %d messages dropped unread: it is full or they are too old", unread - self._unread)
        self._dropped, self._unread = dropped, unread
        return numbers

    def _too_much(self, known: float) -> Iterator[Row]:
        """The oldest message, for as long as there is too much, or it is too old; each is dropped before the next."""
        while (row := self._store.oldest()) is not None:
            if self._store.bytes <= self._max_bytes and known - row.known <= self._max_age:
                return
            yield row

    def _is_unread(self, row: Row) -> bool:
        if row.stream != EVENTS:
            return True
        with self._changed:
            return any(stream == row.stream and position < row.seq for stream, position in self._cursors.values())

    def _accepted(self, batch: list[tuple[list[Entry], Future[list[int]]]], numbers: list[list[int]]) -> None:
        with self._changed:
            self._state = "ok" if self._state.startswith("cannot write") else self._state
        for (_, future), given in zip(batch, numbers, strict=True):
            future.set_result(given)
        if batch:
            for listener in self._listeners:
                listener()

    def _wait_for_disk(self, error: Exception) -> bool:
        with self._changed:
            if not self._state.startswith("cannot write"):
                self._state = f"cannot write: {error}"
                log.error("event log: cannot write: %s; events wait in memory, tried again each second", error)
            if self._closing:
                return False
            self._changed.wait_for(lambda: self._closing, RETRY_EVERY)
            return True


def _saved_clock(store: Store) -> tuple[float, str, float] | None:
    known = store.fact("known", -1.0)
    if float(known) < 0:
        return None
    return float(known), str(store.fact("boot", "")), float(store.fact("mono", 0.0))
