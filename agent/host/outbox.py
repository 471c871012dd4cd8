"""A plugin's own durable queue, in the event log's file: put, take, acknowledge. See facade.py for the contract."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from agent.host.log import EventLog
from agent.host.store import Entry, Row

LATE_AFTER = 2.0
STOP_CHECK = 0.25


class OutboxMessage:
    """One message that was handed out."""

    def __init__(self, outbox: LogOutbox, row: Row, late: bool) -> None:
        self._outbox = outbox
        self._number = row.seq
        self.payload = row.payload
        self.queued_at = row.wall
        self.late = late

    def ack(self) -> None:
        """It has arrived."""
        self._outbox.acknowledge(self._number)

    def release(self, retry_after: float = 0.0) -> None:
        """It has not; again after so many seconds."""
        self._outbox.give_back(self._number, retry_after)


class LogOutbox:
    """``stream``: the plugin's name and its own, which belong to it alone."""

    def __init__(
        self, stream: str, events: EventLog, stopping: threading.Event, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream
        self._log = events
        self._stopping = stopping
        self._clock = clock
        self._changed = threading.Condition()
        self._out: set[int] = set()
        self._later: dict[int, float] = {}
        events.listen(self._wake)

    def put(self, payload: bytes, priority: int = 0) -> Future[None]:
        """Queue a message; the Future completes when it is on disk."""
        done: Future[None] = Future()

        def tell(written: Future[list[int]]) -> None:
            error = written.exception()
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)

        self._log.append([Entry(self._stream, payload, priority)]).add_done_callback(tell)
        return done

    def take(self, timeout: float) -> OutboxMessage | None:
        """The next message that is not handed out; None after ``timeout`` seconds or when the agent stops."""
        deadline = self._clock() + timeout
        while not self._stopping.is_set():
            with self._changed:
                if (row := self._next()) is not None:
                    self._out.add(row.seq)
                    self._later.pop(row.seq, None)
                    late = row.known < self._log.opened_at or self._log.age(row) > LATE_AFTER
                    return OutboxMessage(self, row, late)
                left = deadline - self._clock()
                if left <= 0:
                    return None
                self._changed.wait(min(left, STOP_CHECK, *(self._delay(at) for at in self._later.values())))
        return None

    def acknowledge(self, number: int) -> None:
        """Forget a message for ever."""
        # It stays in _out: until the log has forgotten it too, it must not be handed out again.
        self._log.remove(number)

    def give_back(self, number: int, retry_after: float) -> None:
        """Hand a message out again after so many seconds."""
        with self._changed:
            self._out.discard(number)
            if retry_after > 0:
                self._later[number] = self._clock() + retry_after
            self._changed.notify_all()

    def _next(self) -> Row | None:
        now = self._clock()
        blocked = self._out | {number for number, at in self._later.items() if at > now}
        rows = self._log.read_by_priority(self._stream, len(blocked) + 1)
        if len(rows) <= len(blocked):  # these are all there are: what else was handed out is acknowledged and gone
            self._out &= {row.seq for row in rows}
        return next((row for row in rows if row.seq not in blocked), None)

    def _delay(self, at: float) -> float:
        return max(0.01, at - self._clock())

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()
