"""The event log: what is accepted here is on disk, and in memory only while the disk says no. One thread writes.

Streams of messages; cursors by name that survive restarts (events), or acknowledgement message by message (outboxes).
Where messages lie, and what becomes of a disk or a file that fails, is journal.py's.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import NamedTuple

from agent.data import LogHealth
from agent.host.clock import KnownTime
from agent.host.journal import EVENTS, Journal, MakeClock, Progress
from agent.host.ranges import Ranges
from agent.host.store import Entry, Row

__all__ = ["EVENTS", "EventLog", "LogOverflowError"]

log = logging.getLogger(__name__)

MAX_PENDING = 20_000
MAX_PENDING_BYTES = 32 << 20
CURSOR_DELAY = 1.0
CURSOR_STEPS = 256
COUNT_EVERY = 0.5
COUNT_SHARE = 50.0
"""Counting a very long backlog is put off by so many times what the last count took."""
LATE_AFTER = 2.0
HANGS_AFTER = 5.0
PRIORITIES = range(-(1 << 63), 1 << 63)


class _Waiting(NamedTuple):
    """Messages for one commit. ``mono`` and ``wall``: when they came."""

    entries: list[Entry]
    future: Future[list[int]]
    mono: float
    wall: float


class LogOverflowError(Exception):
    """The disk did not keep up for so long that the memory before it is full too, or no log can hold the message."""


class _Work(NamedTuple):
    batch: list[_Waiting]
    progress: Progress
    closing: bool


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
        make_clock: MakeClock = KnownTime,
    ) -> None:
        self._path = path
        self._changed = threading.Condition()
        self._journal = Journal(path, max_bytes, max_age, make_clock, self._changed)
        # Guarded by _changed:
        self._pending: deque[_Waiting] = deque()
        self._pending_bytes = 0
        self._refusing = False
        self._moved_since: float | None = None
        self._busy_since: float | None = None
        self._hang_told = False
        self._closing = False
        self._counted_at = 0.0
        self._listeners: list[Callable[[], None]] = []
        self._thread = threading.Thread(target=self._run, name="event-log", daemon=True)
        self._thread.start()

    # writing

    def append(self, entries: Sequence[Entry]) -> Future[list[int]]:
        """Queue messages for one commit; returns at once. The Future gives their numbers once they are on disk.

        While the state says ``memory only`` it gives them once they are in memory. It fails with LogOverflowError,
        counted, when no log can hold them, or when so much came after them that they were dropped before the disk
        took them.
        """
        future: Future[list[int]] = Future()
        size = sum(len(entry.payload) for entry in entries)
        fault = _fault_in(entries) or ("it is more than memory may hold" if size > MAX_PENDING_BYTES else "")
        clock = self._journal.clock
        with self._changed:
            waiting = _Waiting(list(entries), future, clock.mono(), clock.wall())
            fault = "it is closed" if self._closing else fault
            if fault:
                lost = [waiting]
            else:
                self._pending.append(waiting)
                self._pending_bytes += size
                lost = self._drop_pending()
                self._changed.notify_all()
        self._refuse(lost, fault or "its disk does not keep up")
        return future

    def advance(self, cursor: str, position: int, after: int | None = None) -> None:
        """That cursor has dealt with what lies behind ``after`` (None: with everything) up to ``position``.

        Written with the next commit of messages, at the latest after a second or 256 messages.
        """
        with self._changed:
            if self._journal.cursors.advance(cursor, position, after):
                self._note_moved()

    def remove(self, number: int) -> None:
        """An outbox message has arrived: never show it again, forget it with the next commit."""
        with self._changed:
            self._journal.removed.add(number)
            self._journal.cursors.steps += 1
            self._note_moved()

    # reading

    def cursor(self, name: str, stream: str = EVENTS) -> int:
        """Up to where a cursor has dealt with everything; a new one begins behind the newest message."""
        return self.done(name, stream).low

    def done(self, name: str, stream: str = EVENTS) -> Ranges:
        """What a cursor has dealt with; a new one begins behind the newest message. A copy."""
        with self._changed:
            cursors = self._journal.cursors
            done = cursors.claim(name, stream, self._journal.newest).done.copy()
            if name in cursors.changed:
                self._note_moved()
            return done

    @property
    def newest(self) -> int:
        """The number of the newest accepted message of any stream."""
        with self._changed:
            return self._journal.newest

    @property
    def generation(self) -> int:
        """Changes when ``done`` has an older past than it was known to have."""
        return self._journal.generation

    def read(self, stream: str, after: int, limit: int = 32) -> list[Row]:
        """Accepted messages behind a number, in order. Raises sqlite3.Error when the disk cannot be read."""
        return self._journal.read(stream, after, limit)

    def read_by_priority(self, stream: str, limit: int, skip: Collection[int] = ()) -> list[Row]:
        """Accepted messages of an outbox that are not removed nor to be skipped, highest priority first, then oldest.

        Raises sqlite3.Error when the disk cannot be read.
        """
        return self._journal.read_by_priority(stream, limit, skip)

    def is_late(self, row: Row) -> bool:
        """Whether a message waited: for longer than 2 s, or for this start of the daemon."""
        return row.known < self._late_before()

    def newest_late(self, stream: str) -> int | None:
        """The number of the newest message that is late. Raises sqlite3.Error when the disk cannot be read."""
        return self._journal.newest_before(stream, self._late_before())

    def listen(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` on the log's thread when there is something to read; it must return at once."""
        with self._changed:
            self._listeners = [*self._listeners, listener]

    def unlisten(self, listener: Callable[[], None]) -> None:
        """Call it no more; nothing happens where it is not known."""
        with self._changed:
            self._listeners = [each for each in self._listeners if each != listener]

    def bound(self, max_bytes: int, max_age: float) -> None:
        """Other bounds from now on; what is too much by them goes with the next commit."""
        self._journal.bound(max_bytes, max_age)

    def settled(self) -> bool:
        """Whether nothing waits to be accepted."""
        with self._changed:
            return not self._pending and self._busy_since is None

    def health(self) -> LogHealth:
        """State and counts; ``waiting`` may be half a second old, a long one older. Never waits for the disk."""
        with self._changed:
            journal, since = self._journal, self._busy_since
            told = LogHealth(
                state=self._state(),
                events=journal.events,
                bytes=journal.bytes,
                dropped=journal.dropped,
                dropped_unread=journal.unread,
                waiting=dict(journal.waiting),
            )
            hangs = since is not None and time.monotonic() - since > HANGS_AFTER
            news, self._hang_told = hangs and not self._hang_told, hangs
        if news:
            log.error("%s: %s; events wait in memory", self._path, told.state)
        return told

    def close(self, timeout: float = 10.0) -> None:
        """Write what waits, then close the file. Safe to call twice."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout)
        if not self._thread.is_alive():
            self._journal.close()

    # under the lock

    def _late_before(self) -> float:
        """Known time: what was accepted before it is late."""
        return max(self._journal.opened_at, self._journal.clock.now() - LATE_AFTER)

    def _state(self) -> str:
        waits = 0.0 if self._busy_since is None else time.monotonic() - self._busy_since
        if waits > HANGS_AFTER:
            return f"the disk has not answered for {waits:.0f} s"
        return self._journal.fault or self._journal.notice or "ok"

    def _note_moved(self) -> None:
        """Have a cursor or an acknowledgement written, but not at once."""
        self._journal.uncounted = True
        if self._moved_since is None:
            self._moved_since = time.monotonic()
            self._changed.notify_all()
        elif self._journal.cursors.steps == CURSOR_STEPS:
            self._changed.notify_all()

    def _drop_pending(self) -> list[_Waiting]:
        """The oldest of what the thread has not taken yet, as far as it is too much."""
        lost: list[_Waiting] = []
        while len(self._pending) > MAX_PENDING or self._pending_bytes > MAX_PENDING_BYTES:
            lost.append(self._pending.popleft())
            self._pending_bytes -= sum(len(entry.payload) for entry in lost[-1].entries)
        return lost

    def _due_at(self) -> float:
        journal = self._journal
        if self._pending or self._closing or journal.urgent():
            return 0.0
        due = journal.due_at()
        if self._moved_since is not None and not journal.fault:
            due = 0.0 if journal.cursors.steps >= CURSOR_STEPS else min(due, self._moved_since + CURSOR_DELAY)
        return min(due, self._counted_at + COUNT_EVERY) if journal.uncounted else due

    # the thread

    def _run(self) -> None:
        while True:
            work = self._collect()
            try:
                self._round(work)
            except Exception as error:
                log.exception("event log: what cannot be written is refused")
                self._refuse([each for each in work.batch if not each.future.done()], str(error))
            with self._changed:
                self._busy_since = None
                self._changed.notify_all()
                if work.closing and not self._pending:
                    return

    def _collect(self) -> _Work:
        """Wait until there is something to do, and take it."""
        with self._changed:
            while (rest := self._due_at() - time.monotonic()) > 0:
                self._changed.wait(rest)
            batch = list(self._pending)
            self._pending.clear()
            self._pending_bytes = 0
            self._moved_since = None
            self._busy_since = time.monotonic()
            return _Work(batch, self._journal.take_progress(), self._closing)

    def _round(self, work: _Work) -> None:
        rows = self._journal.number([(each.entries, each.mono, each.wall) for each in work.batch])
        journal = self._journal
        if rows or any(work.progress) or journal.urgent() or journal.due_at() <= time.monotonic():
            journal.write(rows, work.progress)
        self._accept(work.batch, rows)
        if journal.mend(now=work.closing):
            self._tell()
        if journal.uncounted and time.monotonic() >= self._counted_at + COUNT_EVERY:
            began = time.monotonic()
            journal.count()
            self._counted_at = time.monotonic() + COUNT_SHARE * (time.monotonic() - began)

    def _accept(self, batch: Sequence[_Waiting], rows: Sequence[Row]) -> None:
        """The Futures first, then the listeners."""
        if not rows:
            self._finish(batch, rows)
            return
        with self._changed:
            self._journal.newest = rows[-1].seq
            self._refusing = False
        self._finish(batch, rows)
        self._tell()

    def _finish(self, batch: Sequence[_Waiting], rows: Sequence[Row]) -> None:
        numbers = iter(rows)
        for each in batch:
            each.future.set_result([next(numbers).seq for _ in each.entries])

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()

    def _refuse(self, batch: Sequence[_Waiting], why: str) -> None:
        if not batch:
            return
        count = sum(len(each.entries) for each in batch)
        with self._changed:
            first, self._refusing = not self._refusing, True
            self._journal.dropped += count
            self._journal.unread += count
        if first:
            log.error("event log: %d messages dropped: %s; from now on they are counted only", count, why)
        for each in batch:
            each.future.set_exception(LogOverflowError(f"not written to the event log: {why}"))


def _fault_in(entries: Sequence[Entry]) -> str:
    """Why no file could hold them, in words."""
    for entry in entries:
        stream, payload, priority = _anything(entry)
        if not isinstance(payload, bytes) or not isinstance(stream, str):
            return f"a message of {stream} is {type(payload).__name__}, not bytes"
        if not isinstance(priority, int) or priority not in PRIORITIES:
            return f"priority {priority!r} of a message of {stream} is no whole number of 64 bits"
    return ""


def _anything(entry: Entry) -> tuple[object, object, object]:
    """Its fields as what they are, whatever was promised."""
    return entry
