"""Where a plugin's events come from: a bounded queue at once, or the event log by a cursor. No threads."""

from __future__ import annotations

import copy
import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import msgspec

from agent.data import Event, Frame
from agent.host.log import EVENTS, LATE_AFTER, EventLog
from agent.host.pictures import Pictures
from agent.host.store import Row
from agent.host.window import Delivery, Overtaking, Window

log = logging.getLogger(__name__)

QUEUE_BYTES = 32 << 20
PATIENCE = 1.0


class Job(Protocol):
    """One call of ``on_event``: what with, and what becomes of it."""

    event: Event
    frame: Frame | None

    def completed(self) -> bool:
        """It was dealt with. Whether that is news."""

    def failed(self) -> bool:
        """This call failed. Whether it counts."""


class Feed(Protocol):
    """Safe from any thread. ``dropped`` and ``withheld`` count what the bounds cost."""

    dropped: int
    withheld: int

    def offer(self, event: Event, frame: Frame | None) -> None:
        """A new event (a feed that reads the log knows already)."""

    def take(self) -> Job | None:
        """The event whose turn it is; it is called now. May wait for the disk."""

    def waiting(self) -> int:
        """How many are ahead."""

    def drained(self) -> bool:
        """Whether nothing is ahead, nothing under way."""


class QueuedJob:
    """An event from the queue: told once, whatever becomes of it. ``since``: monotonic and UNIX seconds."""

    def __init__(self, event: Event, frame: Frame | None, since: tuple[float, float]) -> None:
        self.event = event
        self.frame = frame
        self.since = since

    def completed(self) -> bool:
        """See Job."""
        return True

    def failed(self) -> bool:
        """See Job."""
        return True


class QueueFeed:
    """At most ``limit`` events, the oldest dropped; pictures of at most 32 MB, then events come without.

    ``clock`` gives monotonic seconds, ``wall`` UNIX seconds; an event that waited for more than 2 s says so.
    """

    def __init__(
        self, limit: int, *, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time
    ) -> None:
        self._limit = limit
        self._clock = clock
        self._wall = wall
        self._lock = threading.Lock()
        self._jobs: deque[QueuedJob] = deque()
        self._bytes = 0
        self.dropped = 0
        self.withheld = 0

    def offer(self, event: Event, frame: Frame | None) -> None:
        """Queue it at the end, with attributes of its own: what one plugin does to them no other sees."""
        own = {"attributes": copy.deepcopy(event.attributes), "dwell": dict(event.dwell)}
        event = msgspec.structs.replace(event, **own)
        with self._lock:
            if frame is not None and self._bytes + frame.nbytes > QUEUE_BYTES:
                frame = None
                self.withheld += 1
            self._jobs.append(QueuedJob(event, frame, (self._clock(), self._wall())))
            self._bytes += frame.nbytes if frame else 0
            while len(self._jobs) > self._limit:
                self._pop()
                self.dropped += 1

    def resize(self, limit: int) -> None:
        """Hold so many events from the next one on."""
        with self._lock:
            self._limit = limit

    def take(self) -> Job | None:
        """The oldest."""
        with self._lock:
            job = self._pop() if self._jobs else None
        if job is not None and self._clock() - job.since[0] > LATE_AFTER:
            job.event = msgspec.structs.replace(job.event, late=True, queued_at=job.since[1])
        return job

    def waiting(self) -> int:
        """Queued events."""
        return len(self._jobs)

    def drained(self) -> bool:
        """Whether the queue is empty."""
        return not self._jobs

    def _pop(self) -> QueuedJob:
        job = self._jobs.popleft()
        self._bytes -= job.frame.nbytes if job.frame else 0
        return job


class Received(NamedTuple):
    """A message of the log; ``event`` is None when it is none (of this version)."""

    row: Row
    event: Event | None


class LogJob:
    """An event from the log; it stays this plugin's turn until it completes."""

    def __init__(self, feed: LogFeed, number: int, attempt: int, event: Event) -> None:
        self._feed = feed
        self._number = number
        self._attempt = attempt
        self.event = event
        self.frame = feed.picture(event)

    def completed(self) -> bool:
        """See Job."""
        return self._feed.completed(self._number)

    def failed(self) -> bool:
        """See Job."""
        return self._feed.failed(self._number, self._attempt)


class LogFeed:
    """The event log behind the cursor ``name``. ``dropped`` counts messages that are no event (of this version).

    A backlog that is not through a second after it began to drain is overtaken by what is new. ``clock``: monotonic.
    """

    def __init__(
        self, name: str, events: EventLog, pictures: Pictures, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self.dropped = 0
        self.withheld = 0
        self._name = name
        self._log = events
        self._pictures = pictures
        self._lock = threading.Lock()
        self._decoder = msgspec.json.Decoder(Event)
        self._generation = events.generation
        self._draining_since: float | None = None
        live = Overtaking(self._begin_live, lambda received: events.is_late(received.row), _occurrence)
        self._window: Window[Received] = Window(events.done(name), self._read, overtaking=live)

    def offer(self, event: Event, frame: Frame | None) -> None:
        """Nothing to do: the log is told, and wakes the worker at the commit."""

    def take(self) -> Job | None:
        """The next in order, or the first that is due again. Raises sqlite3.Error when the log cannot be read."""
        while True:
            with self._lock:
                self._follow()
                delivery = self._window.next_due()
                if delivery is None:
                    return None
                attempt = self._window.called(delivery)
                event = self._told(delivery)
            if event is not None:
                return LogJob(self, delivery.number, attempt, event)
            self.dropped += 1
            self.completed(delivery.number)

    def waiting(self) -> int:
        """Whether the cursor is behind, as a count of what is in the window; the log's health counts exactly."""
        return len(self._window)

    def drained(self) -> bool:
        """Whether the cursor is at the log's end, and nothing waits to be written."""
        try:
            with self._lock:
                self._follow()
                return self._log.settled() and self._window.next_due() is None and not len(self._window)
        except sqlite3.Error:  # the worker meets it as well, and tells
            return False

    def picture(self, event: Event) -> Frame | None:
        """Its picture, while there is room for it."""
        return self._pictures.get(event)

    def completed(self, number: int) -> bool:
        """See Job."""
        with self._lock:
            delivery = self._window.completed(number)
            if delivery is not None:
                self._log.advance(self._name, number, delivery.after)
                self._note_drain(delivery)
            return delivery is not None

    def failed(self, number: int, attempt: int) -> bool:
        """See Job."""
        with self._lock:
            self._draining_since = None
            return self._window.failed(number, attempt)

    def _note_drain(self, delivery: Delivery[Received]) -> None:
        """Since when, without a break, what completes is late."""
        if not self._window.overtaking:
            if not self._log.is_late(delivery.value.row):
                self._draining_since = None
            elif self._draining_since is None:
                self._draining_since = self._clock()

    def _begin_live(self) -> int | None:
        since = self._draining_since
        return self._log.newest_late(EVENTS) if since is not None and self._clock() - since > PATIENCE else None

    def _follow(self) -> None:
        """Take notice when the log has found a file that it could not open at first."""
        if self._generation != self._log.generation:
            self._generation = self._log.generation
            self._window.rejoin(self._log.done(self._name))

    def _told(self, delivery: Delivery[Received]) -> Event | None:
        """The event, marked when it waited."""
        row, event = delivery.value
        if event is None or not (delivery.late or self._log.is_late(row)):
            return event
        return msgspec.structs.replace(event, late=True, queued_at=row.wall)

    def _read(self, after: int, limit: int) -> Sequence[tuple[int, Received]]:
        return [(row.seq, Received(row, self._decode(row))) for row in self._log.read(EVENTS, after, limit)]

    def _decode(self, row: Row) -> Event | None:
        try:
            return self._decoder.decode(row.payload)
        except msgspec.DecodeError as error:
            log.error("event log: message %d is no event, left out for %s: %s", row.seq, self._name, error)
            return None


def _occurrence(received: Received) -> tuple[str, str] | None:
    event = received.event
    return None if event is None else (event.id, event.kind)
