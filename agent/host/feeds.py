"""Where a plugin's events come from: a bounded queue at once, or the event log by a cursor. No threads."""

from __future__ import annotations

import copy
import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Sequence
from typing import Protocol

import msgspec

from agent.data import Event, Frame
from agent.host.log import EVENTS, EventLog
from agent.host.pictures import Pictures
from agent.host.store import Row
from agent.host.window import Delivery, Window

log = logging.getLogger(__name__)

QUEUE_BYTES = 32 << 20


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
    """An event from the queue: told once, whatever becomes of it."""

    def __init__(self, event: Event, frame: Frame | None) -> None:
        self.event = event
        self.frame = frame

    def completed(self) -> bool:
        """See Job."""
        return True

    def failed(self) -> bool:
        """See Job."""
        return True


class QueueFeed:
    """At most ``limit`` events, the oldest dropped; pictures of at most 32 MB, then events come without."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._jobs: deque[QueuedJob] = deque()
        self._bytes = 0
        self.dropped = 0
        self.withheld = 0

    def offer(self, event: Event, frame: Frame | None) -> None:
        """Queue it at the end, with attributes of its own: what one plugin does to them no other sees."""
        event = msgspec.structs.replace(event, attributes=copy.deepcopy(event.attributes))
        with self._lock:
            if frame is not None and self._bytes + frame.nbytes > QUEUE_BYTES:
                frame = None
                self.withheld += 1
            self._jobs.append(QueuedJob(event, frame))
            self._bytes += frame.nbytes if frame else 0
            if len(self._jobs) > self._limit:
                self._pop()
                self.dropped += 1

    def take(self) -> Job | None:
        """The oldest."""
        with self._lock:
            return self._pop() if self._jobs else None

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


class LogJob:
    """An event from the log; it stays this plugin's turn until it completes."""

    def __init__(self, feed: LogFeed, delivery: Delivery[Row], attempt: int) -> None:
        self._feed = feed
        self._number = delivery.number
        self._attempt = attempt
        self.event = feed.decode(delivery.value)
        self.frame = feed.picture(self.event)

    def completed(self) -> bool:
        """See Job."""
        return self._feed.completed(self._number)

    def failed(self) -> bool:
        """See Job."""
        return self._feed.failed(self._number, self._attempt)


class LogFeed:
    """The event log behind the cursor ``name``. ``dropped`` counts messages that are no event (of this version)."""

    def __init__(self, name: str, events: EventLog, pictures: Pictures) -> None:
        self.dropped = 0
        self.withheld = 0
        self._name = name
        self._log = events
        self._pictures = pictures
        self._lock = threading.Lock()
        self._decoder = msgspec.json.Decoder(Event)
        self._window: Window[Row] = Window(events.cursor(name), self._read)

    def offer(self, event: Event, frame: Frame | None) -> None:
        """Nothing to do: the log is told, and wakes the worker at the commit."""

    def take(self) -> Job | None:
        """The next in order, or the first that is due again. Raises sqlite3.Error when the log cannot be read."""
        while True:
            with self._lock:
                delivery = self._window.next_due()
                if delivery is None:
                    return None
                attempt = self._window.called(delivery)
            try:
                return LogJob(self, delivery, attempt)
            except msgspec.DecodeError as error:
                self.dropped += 1
                log.error("event log: message %d is no event, left out for %s: %s", delivery.number, self._name, error)
                self.completed(delivery.number)

    def waiting(self) -> int:
        """Whether the cursor is behind, as a count of what is in the window; the log's health counts exactly."""
        return len(self._window)

    def drained(self) -> bool:
        """Whether the cursor is at the log's end, and nothing waits to be written."""
        try:
            with self._lock:
                return self._log.settled() and self._window.next_due() is None and not self._window
        except sqlite3.Error:  # the worker meets it as well, and tells
            return False

    def decode(self, row: Row) -> Event:
        """The event, marked when it waited."""
        event = self._decoder.decode(row.payload)
        if not self._log.is_late(row):
            return event
        return msgspec.structs.replace(event, late=True, queued_at=row.wall)

    def picture(self, event: Event) -> Frame | None:
        """Its picture, while there is room for it."""
        return self._pictures.get(event)

    def completed(self, number: int) -> bool:
        """See Job."""
        with self._lock:
            news = self._window.completed(number)
            position = self._window.position
        self._log.advance(self._name, position)
        return news

    def failed(self, number: int, attempt: int) -> bool:
        """See Job."""
        with self._lock:
            return self._window.failed(number, attempt)

    def _read(self, after: int, limit: int) -> Sequence[tuple[int, Row]]:
        return [(row.seq, row) for row in self._log.read(EVENTS, after, limit)]
