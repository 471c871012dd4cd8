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

from agent import Message, Outbox, PluginError
from plugins.alert.gate import Gate
from plugins.alert.message import AlertMessage
from plugins.alert.refusal import RefusedError

log = logging.getLogger(__name__)

AlertKey = tuple[str, str]
FIRST_DELAY = 0.5
DELAY_CAP = 30.0
TAKE_TIMEOUT = 1.0
IDLE = 0.1
REFUSALS = 5
"""So often one message may be refused before it is given up: the receiver itself may have been mended meanwhile."""


def delay_after(failures: int, jitter: float) -> float:
    """Seconds to wait after so many failures in a row, 30 at most; ``jitter`` in [0, 1] takes up to half of it."""
    return min(DELAY_CAP, FIRST_DELAY * 2.0 ** min(max(failures, 1) - 1, 10)) * (0.5 + 0.5 * jitter)


def key_of(alert: AlertMessage) -> AlertKey:
    """What tells two alerts apart, here and at the receiver."""
    return alert.alert, alert.state


class Courier:
    """``gate`` says what may be told; ``deliver`` raises PluginError when an alert did not arrive, RefusedError when it
    never will; ``keep`` saves the gate. ``wall``: UNIX seconds."""

    def __init__(
        self,
        gate: Gate,
        outbox: Outbox,
        deliver: Callable[[AlertMessage], None],
        count: Callable[[str], None],
        keep: Callable[[], object] = lambda: None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._gate = gate
        self._sink = sink = gate.sink
        self._outbox = outbox
        self._deliver = deliver
        self._count = count
        self._keep = keep
        self._wall = wall
        self._failures = 0
        self._refusals = 0
        self._asked_pause = 0.0
        self._said = ""
        self._lock = threading.Lock()
        self._expected: dict[AlertKey, Future[None]] = {}
        self._stopping = threading.Event()
        self._deadline = float("inf")
        self._thread = threading.Thread(target=self._run, name=f"alert-{sink}", daemon=True)

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    @property
    def trouble(self) -> str:
        """Why nothing arrives at this sink; empty when it works."""
        return self._said

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
            if not self._summarise():
                return not self._pause()
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
        alert = msgspec.structs.replace(alert, late=alert.late or message.late)
        if reason := self._gate.admit(alert, self._wall()):
            self._count(f"{self._sink}_{reason}")
            self._done_with(message, alert)
            return True
        return self._try(message, alert)

    def _try(self, message: Message, alert: AlertMessage) -> bool:
        try:
            self._deliver(alert)
        except RefusedError as error:
            if not self._give_up(message, alert, error):
                return False
        except Exception as error:  # noqa: BLE001  a sink of any kind may fail in any way; it is counted and named
            self._failed(message, error)
            return False
        else:
            self._arrived(alert)
        self._done_with(message, alert)
        return True

    def _arrived(self, alert: AlertMessage) -> None:
        """It is remembered before it is acknowledged: a crash in between does not tell it twice."""
        self._gate.delivered(alert, self._wall())
        self._keep()
        self._count(f"{self._sink}_delivered")
        if self._failures:
            log.info("alert: the sink %s works again", self._sink)
        with self._lock:
            self._failures, self._said, self._asked_pause = 0, "", 0.0

    def _done_with(self, message: Message, alert: AlertMessage) -> None:
        message.ack()
        self._refusals = 0
        with self._lock:
            arrived = self._expected.pop(key_of(alert), None)
        if arrived is not None:
            arrived.set_result(None)

    def _summarise(self) -> bool:
        """Tell how many were suppressed, where that is due; whether it worked."""
        for summary in self._gate.summaries(self._wall()):
            try:
                self._deliver(summary)
            except Exception as error:  # noqa: BLE001  as above
                self._failed(None, error)
                return False
            self._arrived(summary)
        return True

    def _give_up(self, message: Message, alert: AlertMessage, error: RefusedError) -> bool:
        """After some refusals of one message, whether it was given up, so that those behind it get their turn."""
        self._refusals += 1
        if self._refusals < REFUSALS:
            self._failed(message, error)
            return False
        self._count(f"{self._sink}_refused")
        log.error("alert: the sink %s refuses %s %s for good: %s", self._sink, alert.rule, alert.state, error)
        self._gate.refused(alert, self._wall())
        with self._lock:
            self._failures = 0
        return True

    def _failed(self, message: Message | None, error: Exception) -> None:
        if message is not None:
            message.release()
        self._count(f"{self._sink}_failed")
        text = f"alert: the sink {self._sink} fails: {error}; alerts wait and are tried again"
        if text != self._said:
            log.warning("%s", text, exc_info=None if isinstance(error, PluginError) else error)
        asked = error.retry_after if isinstance(error, PluginError) else None
        with self._lock:
            self._said = text
            self._failures += 1
            self._asked_pause = asked or 0.0
        self._expect_no_more()

    def _expect_no_more(self) -> None:
        """Whoever waits need not: the outbox keeps it."""
        with self._lock:
            waiting, self._expected = list(self._expected.values()), {}
        for arrived in waiting:
            arrived.set_result(None)

    def _pause(self) -> bool:
        """Wait before the next try, as long as the receiver asked for; whether the end came meanwhile."""
        return self._stopping.wait(max(delay_after(self._failures, random.random()), self._asked_pause))
