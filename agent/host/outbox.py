"""A plugin's own durable queue, in the event log's file: put, take, acknowledge. See facade.py for the contract."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from agent.host.log import EventLog
from agent.host.store import Entry, Row

log = logging.getLogger(__name__)

STOP_CHECK = 0.25
PRIORITIES = range(-(1 << 31), 1 << 31)


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
        self._written: queue.SimpleQueue[tuple[Future[None], BaseException | None] | None] = queue.SimpleQueue()
        self._teller: threading.Thread | None = None
        events.listen(self._wake)

    def put(self, payload: bytes, priority: int = 0) -> Future[None]:
        """Queue a message; the Future completes when it is on disk. Raises TypeError or ValueError for what is none."""
        if not isinstance(payload, bytes) or not isinstance(priority, int):
            raise TypeError("an outbox takes bytes, with a whole number as priority")
        if priority not in PRIORITIES:
            raise ValueError(f"priority {priority} does not fit in 32 bits")
        done: Future[None] = Future()
        done.set_running_or_notify_cancel()  # there is no way back
        written = self._log.append([Entry(self._stream, payload, priority)])
        written.add_done_callback(lambda written: self._written.put((done, written.exception())))
        with self._changed:
            if self._teller is None:
                self._teller = threading.Thread(target=self._tell, name=f"outbox-{self._stream}", daemon=True)
                self._teller.start()
        return done

    def take(self, timeout: float) -> OutboxMessage | None:
        """The next message that is not handed out; None after ``timeout`` seconds or when the agent stops."""
        deadline = self._clock() + timeout
        while not self._stopping.is_set():
            with self._changed:
                if (row := self._next()) is not None:
                    self._out.add(row.seq)
                    self._later.pop(row.seq, None)
                    return OutboxMessage(self, row, self._log.is_late(row))
                left = deadline - self._clock()
                if left <= 0:
                    return None
                self._changed.wait(min(left, STOP_CHECK, *(self._delay(at) for at in self._later.values())))
        return None

    def acknowledge(self, number: int) -> None:
        """Forget a message for ever."""
        with self._changed:
            self._log.remove(number)
            self._out.discard(number)

    def give_back(self, number: int, retry_after: float) -> None:
        """Hand a message out again after so many seconds."""
        with self._changed:
            self._out.discard(number)
            if retry_after > 0:
                self._later[number] = self._clock() + retry_after
            self._changed.notify_all()

    def close(self) -> None:
        """Its plugin is gone: hear of the log no more, end the thread. What is queued stays queued."""
        self._log.unlisten(self._wake)
        with self._changed:
            if self._teller is not None:
                # Behind what the log still has to write for us.
                self._log.append([]).add_done_callback(lambda _: self._written.put(None))
                self._teller = None

    def _next(self) -> Row | None:
        now = self._clock()
        self._later = {number: at for number, at in self._later.items() if at > now}
        blocked = self._out | self._later.keys()
        return next(iter(self._log.read_by_priority(self._stream, 1, blocked)), None)

    def _delay(self, at: float) -> float:
        return max(0.01, at - self._clock())

    def _tell(self) -> None:
        """Complete what ``put`` gave, on a thread of the outbox's: a listener may do there what it likes."""
        while (written := self._written.get()) is not None:
            done, error = written
            try:
                if error is None:
                    done.set_result(None)
                else:
                    done.set_exception(error)
            except BaseException:
                log.exception("outbox %s: a listener of put() failed", self._stream)

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()
