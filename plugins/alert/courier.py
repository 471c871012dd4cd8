"""Brings one outbox to one sink: a thread that takes, delivers, acknowledges, and after a failure tries again.

In order, so that an alert is raised before it is resolved; for ever, since the outbox keeps what was not acknowledged.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

import msgspec

from agent import Message, Outbox, PluginError, to_json
from plugins.alert.rules import AlertMessage

log = logging.getLogger(__name__)

AlertKey = tuple[str, str, str]
FIRST_DELAY = 0.5
DELAY_CAP = 30.0
TAKE_TIMEOUT = 1.0
IDLE = 0.1


def delay_after(failures: int, jitter: float) -> float:
    """Seconds to wait after so many failures in a row, 30 at most; ``jitter`` in [0, 1] takes up to half of it."""
    return min(DELAY_CAP, FIRST_DELAY * 2.0 ** min(max(failures, 1) - 1, 10)) * (0.5 + 0.5 * jitter)


def key_of(alert: AlertMessage) -> AlertKey:
    """What tells two alerts apart, here and at the receiver."""
    return alert.id, alert.rule, alert.state


class Courier:
    """``deliver`` gets the JSON of an alert and raises PluginError when it did not arrive."""

    def __init__(
        self, sink: str, outbox: Outbox, deliver: Callable[[bytes], None], count: Callable[[str], None]
    ) -> None:
        self._sink = sink
        self._outbox = outbox
        self._deliver = deliver
        self._count = count
        self._failures = 0
        self._said = ""
        self._lock = threading.Lock()
        self._expected: dict[AlertKey, Future[None]] = {}
        self._stopping = threading.Event()
        self._deadline = float("inf")
        self._thread = threading.Thread(target=self._run, name=f"alert-{sink}", daemon=True)

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def expect(self, alert: AlertMessage) -> Future[None]:
        """Completes when an alert, put into the outbox after this call, has arrived or has to wait there for long."""
        arrived: Future[None] = Future()
        with self._lock:
            if self._failures == 0 and not self._stopping.is_set():
                self._expected[key_of(alert)] = arrived
                return arrived
        arrived.set_result(None)
        return arrived

    def stop(self, deadline: float) -> None:
        """Deliver what is there, as long as that works, until ``deadline`` (monotonic); the rest stays queued."""
        self._deadline = deadline
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(max(0.0, deadline - time.monotonic()))

    def _run(self) -> None:
        while time.monotonic() < self._deadline and self._guarded_step():
            continue
        self._expect_no_more()

    def _guarded_step(self) -> bool:
        """The thread outlives a log that fails; whether to go on."""
        try:
            return self._step()
        except Exception:
            self._count(f"{self._sink}_faults")
            log.exception("alert: the outbox of the sink %s failed; trying on", self._sink)
            self._expect_no_more()
            return not self._stopping.wait(DELAY_CAP)

    def _step(self) -> bool:
        message = self._outbox.take(0.0 if self._stopping.is_set() else TAKE_TIMEOUT)
        if message is None:
            return not self._stopping.wait(IDLE)  # a stopping agent answers None at once
        return self._bring(message) or not self._pause()

    def _bring(self, message: Message) -> bool:
        try:
            alert = msgspec.json.decode(message.payload, type=AlertMessage)
        except msgspec.DecodeError as error:
            self._count("unreadable")
            log.warning("alert: an alert in the outbox cannot be read and is dropped: %s", error)
            message.ack()
            return True
        try:
            self._deliver(to_json(msgspec.structs.replace(alert, late=alert.late or message.late)))
        except Exception as error:  # noqa: BLE001  a sink of any kind may fail in any way; it is counted and named
            self._failed(message, error)
            return False
        message.ack()
        self._arrived(alert)
        return True

    def _arrived(self, alert: AlertMessage) -> None:
        self._count(f"{self._sink}_delivered")
        if self._failures:
            log.info("alert: the sink %s works again", self._sink)
        with self._lock:
            self._failures, self._said = 0, ""
            arrived = self._expected.pop(key_of(alert), None)
        if arrived is not None:
            arrived.set_result(None)

    def _failed(self, message: Message, error: Exception) -> None:
        message.release()
        self._count(f"{self._sink}_failed")
        text = f"alert: the sink {self._sink} fails: {error}; alerts wait and are tried again"
        if text != self._said:
            self._said = text
            log.warning("%s", text, exc_info=None if isinstance(error, PluginError) else error)
        with self._lock:
            self._failures += 1
        self._expect_no_more()

    def _expect_no_more(self) -> None:
        """Whoever waits need not: the outbox keeps it."""
        with self._lock:
            waiting, self._expected = list(self._expected.values()), {}
        for arrived in waiting:
            arrived.set_result(None)

    def _pause(self) -> bool:
        """Wait before the next try; whether the end came meanwhile."""
        return self._stopping.wait(delay_after(self._failures, random.random()))
