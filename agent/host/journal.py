"""Where the event log's messages lie: in the file, and in memory while the disk says no. It heals by itself.

One thread writes (``write``, ``mend``, ``count``); anybody reads. The queue before it, and the thread, are log.py's.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from agent.host.clock import KnownTime, is_synced
from agent.host.cursors import Cursors
from agent.host.ranges import Ranges
from agent.host.recovery import is_damage, open_store, replace
from agent.host.spill import Spill
from agent.host.store import Entry, Head, Row, Store

log = logging.getLogger(__name__)

EVENTS = "events"
RETRY_EVERY = 1.0
REOPEN_AFTER = 5
TIDY_EVERY = 600.0
TELL_EVERY = 60.0
"""A log that stays full drops at each commit; it is told so often at most."""
HEAL_ROWS = 256
HEAL_SECONDS = 0.5
TRIM_ROWS = 256
TRIM_ROUNDS = 40
FIRST_WITHOUT_FILE = 1 << 40
"""Numbers begin here when the file cannot be opened: behind whatever may turn out to be in it."""

MakeClock = Callable[[tuple[float, str, float] | None], KnownTime]


class Progress(NamedTuple):
    """What readers have done since it was last written."""

    cursors: dict[str, tuple[str, Ranges]]
    removed: frozenset[int]


class Journal:
    """``max_bytes`` and ``max_age`` (seconds) bound it, oldest first. ``lock`` guards what several threads touch.

    Never raises for what is wrong with the file: ``fault`` says what is, and ``notice`` what was done about it.
    ``generation`` changes when a file turns up that could not be opened at first: cursors then have an older past.
    """

    def __init__(
        self, path: Path, max_bytes: int, max_age: float, make_clock: MakeClock, lock: threading.Condition
    ) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._max_age = max_age
        self._lock = lock
        # Guarded by the lock; the writing thread alone changes _store and _spill.
        self._store: Store | None = None
        self._spill = Spill()
        self._damage: sqlite3.Error | None = None
        self.cursors = Cursors({})
        self.removed: set[int] = set()
        self.fault = ""
        self.notice = ""
        self.dropped = 0
        self.unread = 0
        self.waiting: dict[str, int] = {}
        self.uncounted = False
        self.generation = 0
        # The writing thread's alone:
        self._outbox_count = 0
        self._tries = 0
        self._healed = 0
        self._untold = 0
        self._tell_at = 0.0
        self._retry_at = 0.0
        self._tidy_at = time.monotonic() + TIDY_EVERY
        self._open(make_clock)
        self.opened_at = self.clock.now()
        self.newest = self._next - 1
        self.count()

    def _open(self, make_clock: MakeClock) -> None:
        """Begin with what the file holds; without it when there is no way to one."""
        try:
            store, self.notice = open_store(self._path)
        except (sqlite3.Error, OSError) as error:
            self.clock = make_clock(None)
            self._next, self._stranded = FIRST_WITHOUT_FILE, True
            self.fault = f"memory only: {error}"
            log.error("%s: %s: the event log is in memory only, a restart loses it; tried again", self._path, error)
            return
        self._store, self._stranded = store, False
        self.clock = make_clock(_saved_clock(store))
        self._next = store.newest() + 1
        self.cursors = Cursors(store.cursors())
        self.dropped = int(store.number("dropped", 0))
        self.unread = int(store.number("dropped_unread", 0))

    def bound(self, max_bytes: int, max_age: float) -> None:
        """Other bounds; what is too much by them goes with what is written next."""
        self._max_bytes, self._max_age = max_bytes, max_age

    # any thread

    @property
    def events(self) -> int:
        """Messages kept."""
        return len(self._spill) + (self._store.count if self._store else 0)

    @property
    def bytes(self) -> int:
        """What they count for."""
        return self._spill.bytes + (self._store.bytes if self._store else 0)

    def read(self, stream: str, after: int, limit: int) -> list[Row]:
        """Messages behind a number, in order. Raises sqlite3.Error when the disk cannot be read."""
        with self._lock:  # before the disk is asked: what leaves memory in between is found there
            spilled = self._spill.read(stream, after, limit)
        found = self._from_disk(lambda store: store.read(stream, after, limit))
        if not spilled:
            return found
        return sorted({row.seq: row for row in [*spilled, *found]}.values())[:limit]

    def read_by_priority(self, stream: str, limit: int, skip: Collection[int]) -> list[Row]:
        """Messages of an outbox that are not removed nor to be skipped, highest priority first, then oldest."""
        with self._lock:
            gone = self.removed.union(skip)
            spilled = [row for row in self._spill.of_stream(stream) if row.seq not in gone]
        found = self._from_disk(lambda store: store.read_by_priority(stream, limit, gone))
        rows = {row.seq: row for row in [*spilled, *found]}.values()
        return sorted(rows, key=lambda row: (-row.priority, row.seq))[:limit]

    def newest_before(self, stream: str, known: float) -> int | None:
        """The number of the newest message from before a known time."""
        with self._lock:
            spilled = [row.seq for row in self._spill.of_stream(stream) if row.known < known]
        if spilled:
            return spilled[-1]
        return next((row.seq for row in self._from_disk(lambda store: store.newest_before(stream, known))), None)

    def _from_disk(self, ask: Callable[[Store], list[Row]]) -> list[Row]:
        """What the file gives; nothing when there is none, or when it turns out to be damaged."""
        while (store := self._store) is not None:
            try:
                found = ask(store)
            except sqlite3.ProgrammingError:  # closed: for another file, or at the end
                if self._store is store:
                    return []
            except sqlite3.DatabaseError as error:
                if not is_damage(error):
                    raise
                with self._lock:
                    self._damage = error if self._store is store else self._damage
                    self._lock.notify_all()
                return []
            else:
                if store.damaged_rows:
                    with self._lock:
                        self._lock.notify_all()
                return found
        return []

    # under the lock

    def urgent(self) -> bool:
        """Whether there is something to mend at once."""
        return self._damage is not None or bool(self._store is not None and self._store.damaged_rows and not self.fault)

    def due_at(self) -> float:
        """When there is something to mend (monotonic seconds)."""
        return self._retry_at if self.fault else self._tidy_at

    def take_progress(self) -> Progress:
        """What readers have done. Messages whose bytes are not those that were written are forgotten with it."""
        damaged: set[int] = set()
        if self._store is not None and not self.fault:
            damaged, self._store.damaged_rows = self._store.damaged_rows, set()
            self.dropped += len(damaged)
            self.unread += len(damaged)
        return Progress(self.cursors.take_changed(), frozenset(self.removed | damaged))

    # the writing thread

    def number(self, batch: Sequence[tuple[Sequence[Entry], float, float]]) -> list[Row]:
        """The messages with their numbers. With each lot comes when it was given: monotonic and UNIX seconds."""
        rows: list[Row] = []
        for entries, mono, wall in batch:
            known, synced = self.clock.at(mono), is_synced(wall)
            for stream, payload, priority in entries:
                rows.append(Row(self._next + len(rows), stream, priority, payload, known, wall, synced))
        self._next += len(rows)
        return rows

    def write(self, rows: Sequence[Row], progress: Progress) -> None:
        """Accept messages: on disk, or in memory while it cannot be.

        Raises sqlite3.IntegrityError when somebody else has written under their numbers.
        """
        if self._damage is not None:
            self._abandon(self._damage)
        if self.fault or self._store is None:
            self._keep(rows, progress)
            return
        try:
            self._commit(self._store, rows, progress)
        except sqlite3.IntegrityError:
            with self._lock:
                self.cursors.mark(progress.cursors)
            self._next = max(self._next, self._store.newest() + 1)
            raise
        except Exception as error:  # noqa: BLE001 - a damaged file may give values of any type
            self._refused(error)
            self._keep(rows, progress)

    def mend(self, *, now: bool) -> bool:
        """Get out of memory, when it is time or ``now``; whether there was any success.

        The file is opened if there is none, and what is in memory brought into it, a part at a time, so that what
        comes in between waits little.
        """
        if not self.fault or (time.monotonic() < self._retry_at and not now):
            return False
        try:
            self._bring_over(self._reopened())
        except (sqlite3.Error, OSError) as error:
            self._tries += 1
            if isinstance(error, sqlite3.Error) and is_damage(error) and self._store is not None:
                self._abandon(error)
            else:
                self._set_fault(error)
            return False
        self._tries, self._retry_at = 0, 0.0
        if not self.fault:
            told, self._healed = self._healed, 0
            log.warning("%s: can be written again; %d messages that waited in memory are on disk", self._path, told)
        return True

    def count(self) -> None:
        """How much waits for each cursor."""
        with self._lock:
            claimed, store = self.cursors.claimed(), self._store
            self.uncounted = False
        waiting = dict.fromkeys(claimed, 0)
        try:
            if store is not None:
                waiting = {name: store.waiting(*cursor) for name, cursor in claimed.items()}
                self._outbox_count = store.of_outboxes()
        except sqlite3.Error as error:
            log.debug("event log: not counted: %s", error)  # whoever reads or writes meets it as well
        for name, (stream, done) in claimed.items():
            waiting[name] += sum(row.stream == stream and row.seq not in done for row in self._spill)
        with self._lock:
            self.waiting = waiting

    def close(self) -> None:
        """Close the file."""
        if self._spill:
            log.error("event log: %d messages were in memory only and are lost: %s", len(self._spill), self.fault)
        if self._store is not None:
            self._store.close()

    # to the disk

    def _commit(self, store: Store, rows: Sequence[Row], progress: Progress) -> None:
        if not store.in_place():
            raise sqlite3.DatabaseError("the file was removed or replaced while it was in use")
        known, boot, mono = self.clock.snapshot()
        lost: list[Head] = []
        forgotten: list[str] = []
        tidy = time.monotonic() >= self._tidy_at
        with store.transaction():
            store.append(rows)
            store.remove(progress.removed)
            store.set_cursors(progress.cursors, known)
            more = self._trim(store, known, lost)
            unread = self._count_unread(lost, progress)
            if tidy:
                forgotten = self._forget_cursors(store, known)
            dropped = {"dropped": self.dropped + len(lost), "dropped_unread": self.unread + unread}
            store.set_facts({"known": known, "boot": boot, "mono": mono, **dropped})
        with self._lock:
            self.removed -= progress.removed
            self.cursors.forget(forgotten)
            self.uncounted |= bool(rows or progress.removed or lost)
        if tidy or more:
            self._tidy_at = time.monotonic() + (0.0 if more else TIDY_EVERY)
        self._note_lost(len(lost), unread, "it is full or they are too old")

    def _trim(self, store: Store, known: float, lost: list[Head]) -> bool:
        """Drop the oldest for as long as there is too much, or it is too old; whether some is left for another time."""
        limit = 1
        for _ in range(TRIM_ROUNDS):
            heads = list(self._too_much(store, known, limit))
            if heads:
                store.drop_through(heads[-1].seq)
                lost += heads
            if len(heads) < limit:
                return False
            limit = min(TRIM_ROWS, 16 * limit)
        return True

    def _too_much(self, store: Store, known: float, limit: int) -> Iterator[Head]:
        size = store.bytes
        for head in store.oldest(limit):
            if size <= self._max_bytes and known - head.known <= self._max_age:
                return
            size -= head.size
            yield head

    def _forget_cursors(self, store: Store, known: float) -> list[str]:
        """Those of plugins that are gone for longer than any message is kept."""
        with self._lock:
            claimed = self.cursors.claimed()
        store.set_cursors(claimed, known)
        store.mark_cursors(known)
        gone = store.drop_cursors(claimed, known - self._max_age)
        if gone:
            log.info("event log: cursors that nobody has used for long are forgotten: %s", ", ".join(gone))
        return gone

    def _count_unread(self, lost: Sequence[Head | Row], progress: Progress) -> int:
        with self._lock:
            return sum(
                self.cursors.is_unread(EVENTS, each.seq) if each.stream == EVENTS else each.seq not in progress.removed
                for each in lost
            )

    def _note_lost(self, count: int, unread: int, why: str) -> None:
        if count:
            with self._lock:
                self.dropped += count
                self.unread += unread
        self._untold += unread
        if self._untold and time.monotonic() >= self._tell_at:
            log.warning("event log: %d messages dropped unread: %s", self._untold, why)
            self._untold, self._tell_at = 0, time.monotonic() + TELL_EVERY

    # away from it

    def _refused(self, error: Exception) -> None:
        """The disk says no."""
        if not isinstance(error, sqlite3.OperationalError) or is_damage(error):
            self._abandon(error)
        else:
            log.error("%s: cannot be written: %s; events are in memory only, tried each second", self._path, error)
            self._set_fault(error)

    def _set_fault(self, error: Exception) -> None:
        self._retry_at = time.monotonic() + RETRY_EVERY
        with self._lock:
            self.fault = f"memory only: {error}"

    def _keep(self, rows: Sequence[Row], progress: Progress) -> None:
        with self._lock:
            self.cursors.mark(progress.cursors)
            self._spill.remove(progress.removed)
            if self._stranded:  # no file holds what was removed
                self.removed -= progress.removed
            lost = self._spill.add(rows, self.clock.now() - self._max_age)
            self.uncounted = True
        self._note_lost(len(lost), self._count_unread(lost, progress), "the memory that stands in for the disk is full")

    def _abandon(self, error: Exception) -> None:
        """The file is damaged, or gone: what it held is lost to us, but not to whoever looks at what was set aside."""
        store = self._store
        log.error("%s: %s", self._path, error)
        with self._lock:
            self._store, self._damage = None, None
            count = store.count if store else 0
            unread = min(count, max([*self.waiting.values(), 0]) + self._outbox_count)
            self.removed.clear()
            self.cursors.mark_all()
        if store is not None:
            store.close()
        self._note_lost(count, unread, "their file is damaged")
        self._set_fault(error)
        try:
            self.notice = replace(self._path, error)
            self._retry_at = 0.0
        except OSError as refusal:
            self._set_fault(refusal)

    # and back

    def _bring_over(self, store: Store) -> None:
        until = time.monotonic() + HEAL_SECONDS
        while self.fault and time.monotonic() < until:
            with self._lock:
                rows, progress = self._spill.first(HEAL_ROWS), self.take_progress()
            try:
                self._commit(store, rows, progress)
            except sqlite3.Error:
                with self._lock:
                    self.cursors.mark(progress.cursors)
                raise
            self._healed += len(rows)
            with self._lock:
                self._spill.take(len(rows))
                self.fault = self.fault if self._spill else ""

    def _reopened(self) -> Store:
        """The file; a new connection to it when the old one has failed for long."""
        store = self._store
        if store is None:
            store, notice = open_store(self._path)
            self.notice = notice or self.notice
            self._join(store)
        elif self._tries % REOPEN_AFTER == REOPEN_AFTER - 1:
            fresh = Store(self._path, check=False)
            with self._lock:
                self._store = fresh
            store.close()
            store = fresh
        return store

    def _join(self, store: Store) -> None:
        """Take up a fresh file, or one that could not be opened before, with all that stands in it."""
        try:
            if self._stranded:
                self._rejoin_past(store)
        except sqlite3.Error:
            store.close()
            raise
        with self._lock:
            self._store = store
            self.cursors.mark_all()
            self.uncounted = True

    def _rejoin_past(self, store: Store) -> None:
        if store.newest() >= FIRST_WITHOUT_FILE:  # it is not the first time
            with store.transaction():
                store.shift(store.newest() - FIRST_WITHOUT_FILE + 1)
        saved, found = _saved_clock(store), store.cursors()
        dropped, unread = int(store.number("dropped", 0)), int(store.number("dropped_unread", 0))
        with self._lock:
            offset = self.clock.resume(saved) if saved is not None else 0.0
            self.opened_at += offset
            self._spill.shift(offset)
            self.cursors.join(found)
            self.dropped += dropped
            self.unread += unread
            self._stranded = False
            self.generation += 1


def _saved_clock(store: Store) -> tuple[float, str, float] | None:
    known = store.number("known", -1.0)
    if known < 0:
        return None
    return known, str(store.fact("boot")), store.number("mono", 0.0)
