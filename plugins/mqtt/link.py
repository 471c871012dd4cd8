"""The lasting link to the broker: one thread that connects for ever, and what is not acknowledged yet.

A message given to ``deliver`` is published again on every new connection until the broker acknowledges it; one given
to ``tell`` goes out now or not at all. What to say, and when, is the publisher's.
"""

from __future__ import annotations

import logging
import queue
import random
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from dataclasses import dataclass, field

from paho.mqtt.client import topic_matches_sub

from agent import PluginError
from plugins.mqtt.config import MqttConfig
from plugins.mqtt.connection import Connection, Down, Message, Received, Refused, Sent, Signal, Unheard, Up
from plugins.mqtt.reconnect import STEADY, Outcome, Reconnect

log = logging.getLogger(__name__)

CONNACK_TIMEOUT = 3.0
VERSIONS = {"auto": 0, "5": 5, "3.1.1": 4}
GOODBYE_TIMEOUT = 1.0
UNWRITTEN_BYTES = 4 << 20
REJECTED_RETRY = 5.0
BARRED = 1.0
"""Seconds in which nothing more is taken for a topic after a rejection: what was on its way here stands behind it."""
OVERHEAD_BYTES = 256  # of a PUBLISH besides topic and payload: header and properties
FLAPPING_HINT = "see its log; is there a second node of this name?"
TRANSIENT = ("server unavailable", "server busy", "server shutting down")
PROTOCOL = "unsupported protocol version"
HINTS = {
    "bad user name or password": "check username and password_file",
    "not authorized": "check username and password_file, and the broker's access list",
    "session taken over": "another client has this node's client id; is there a second node of this name?",
    PROTOCOL: "it speaks neither MQTT 5 nor 3.1.1",
}


@dataclass
class Delivery:
    """A message to be acknowledged. ``lasting``: again on the next connection; else what that one greets with.

    ``overtaking``: why it is not to go out again; one before it on its topic was rejected, and has to come first.
    """

    message: Message
    lasting: bool
    overtaking: PluginError | None = None
    future: Future[None] = field(default_factory=Future)


class Link:
    """Safe from any thread. ``greeting`` returns what every new connection publishes first; it must not call back."""

    def __init__(
        self,
        config: MqttConfig,
        client_id: str,
        will: Message,
        greeting: Callable[[], Sequence[Message]],
        count: Callable[[str], None],
    ) -> None:
        self._config = config
        self._client_id = client_id
        self._will = will
        self._greeting = greeting
        self._count = count
        self._where = f"broker {config.host}:{config.port}"
        self._signals: queue.SimpleQueue[tuple[Connection, Signal] | None] = queue.SimpleQueue()
        self._reconnect = Reconnect(VERSIONS[config.protocol])
        self._closing = threading.Event()
        self._lock = threading.RLock()
        self._live: Connection | None = None
        self._window = 0
        self._max_packet = 0
        self._pending: dict[int, Delivery] = {}
        self._unsent: deque[int] = deque()
        self._number = 0
        self._awaited: dict[int, int] = {}
        self._unwritten: dict[int, int] = {}
        self._barred: dict[str, tuple[float, str]] = {}
        self._handlers: dict[str, Callable[[Received], None]] = {}
        self._refusal = ""
        self._next_try = 0.0
        self._said = ""
        self._thread = threading.Thread(target=self._run, name="mqtt-link", daemon=True)

    def start(self) -> None:
        """Begin to connect; returns at once."""
        self._thread.start()

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted us and is there, as far as is known."""
        return self._live is not None

    @property
    def waiting(self) -> int:
        """Messages given to ``deliver`` that the broker has not acknowledged."""
        return sum(delivery.lasting for delivery in list(self._pending.values()))

    def deliver(self, message: Message) -> Future[None]:
        """Publish until it is acknowledged; the Future then completes.

        PluginError, raised or in the Future: the broker refuses us or this message, or the link closes.
        """
        with self._lock:
            if self._closing.is_set():
                raise PluginError(f"mqtt: the link to {self._where} is closed")
            if self._refusal:
                raise PluginError(self._refusal, retry_after=self._retry_after())
            if self._too_large(message):
                raise self._too_large_error(message)
            until, why = self._barred.get(message.topic, (0.0, ""))
            if time.monotonic() < until:
                raise PluginError(why, retry_after=REJECTED_RETRY)
            return self._queue(message, lasting=True)

    def tell(self, message: Message) -> bool:
        """Publish on the present connection, if there is one that keeps up; whether there is."""
        with self._lock:
            if self._live is None or self._too_large(message):
                return False
            if message.qos:
                self._queue(message, lasting=False)
                return True
            size = len(message.payload)
            if sum(self._unwritten.values()) + size > UNWRITTEN_BYTES:
                self._count("unwritten_dropped")
                return False
            mid = self._live.send(message)
            if mid is not None:
                self._unwritten[mid] = size
            return mid is not None

    def subscribe(self, topic: str, handler: Callable[[Received], None]) -> None:
        """Call ``handler`` on the link's thread for what comes there; before ``start``."""
        self._handlers[topic] = handler

    def close(self, farewell: Message, timeout: float) -> None:
        """Say the farewell, wait for what is unacknowledged up to ``timeout`` seconds, disconnect. Idempotent."""
        if self.connected and not self._closing.is_set():
            self.deliver(farewell)
            wait_for([delivery.future for delivery in list(self._pending.values())], timeout)
        self._closing.set()
        self._signals.put(None)
        if self._thread.is_alive():
            self._thread.join(GOODBYE_TIMEOUT + 1.0)
        self._fail_pending(f"mqtt: stopped before {self._where} acknowledged", None)

    def _run(self) -> None:
        while not self._closing.is_set():
            started = time.monotonic()
            outcome = self._guarded_attempt()
            now = time.monotonic()
            delay = self._reconnect.after(outcome, now - started, random.random())
            origin = now if outcome is Outcome.SERVED else started
            self._next_try = origin + delay
            if outcome in (Outcome.REFUSED, Outcome.UNSUPPORTED) and delay:
                self._fail_pending(self._refusal, self._retry_after())
            self._closing.wait(max(0.0, self._next_try - now))

    def _guarded_attempt(self) -> Outcome:
        """The thread outlives every fault of ours: it is counted, shown, and the broker tried again."""
        try:
            return self._attempt()
        except Exception:
            self._count("link_faults")
            log.exception("mqtt: the link failed; connecting again")
            return Outcome.UNREACHABLE

    def _attempt(self) -> Outcome:
        """One connection, from its CONNECT to its end."""
        connection = Connection(self._config, self._reconnect.version, self._client_id, self._will, self._notify)
        try:
            connection.open()
        except PluginError as error:
            return self._refused(str(error))
        except ssl.SSLError as error:
            return self._refused(f"mqtt: no TLS with {self._where}: {error}; check [plugins.mqtt.tls] and port")
        except (OSError, ValueError) as error:
            return self._unreachable(error)
        try:
            return self._serve(connection)
        finally:
            with self._lock:
                self._live = None
                self._awaited.clear()
                self._unwritten.clear()
                self._pending = {n: delivery for n, delivery in self._pending.items() if delivery.lasting}
            self._fail_overtaking()
            connection.abort()

    def _notify(self, connection: Connection, signal: Signal) -> None:
        self._signals.put((connection, signal))

    def _next(self, connection: Connection, timeout: float | None) -> Signal | None:
        """The connection's next signal; None after ``timeout`` seconds or when the link closes."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return None
            try:
                item = self._signals.get(timeout=left)
            except queue.Empty:
                return None
            if item is None:
                return None
            if item[0] is connection:
                return item[1]

    def _serve(self, connection: Connection) -> Outcome:
        answer = self._next(connection, CONNACK_TIMEOUT)
        if isinstance(answer, Up):
            self._welcome(connection, answer)
            return self._carry(connection)
        if isinstance(answer, Refused):
            return self._answered(answer.reason.lower(), connection.version)
        hung_up = isinstance(answer, Down)
        did = "hung up on" if hung_up else "does not answer"
        # A broker of TLS 1.3 judges the client's certificate only after the handshake, and tells paho nothing.
        hint = "; does it want another client certificate (tls.cert)?" if hung_up and self._config.tls else ""
        self._refusal = ""
        self._say(f"mqtt: {self._where} {did} our CONNECT (MQTT {_spoken(connection.version)}){hint}; trying on")
        return Outcome.HUNG_UP if hung_up else Outcome.SILENT

    def _welcome(self, connection: Connection, up: Up) -> None:
        """Greet, then publish again what nobody has acknowledged, in its old order."""
        self._reconnect.accepted()
        log.info("mqtt: connected to %s (MQTT %s)", self._where, _spoken(connection.version))
        self._window, self._max_packet = up.window, up.max_packet
        self._fail_too_large()
        # Before the greeting: whoever reads "online" may send a command at once.
        for topic in self._handlers:
            connection.subscribe(topic)
        with self._lock:
            self._refusal = ""
            waiting = list(self._pending)
            self._unsent.clear()
            self._live = connection
            for message in self._greeting():
                self.tell(message)
            self._unsent.extend(waiting)
            self._fill()

    def _carry(self, connection: Connection) -> Outcome:
        """Pass acknowledgements on until the connection ends or the link closes."""
        since = time.monotonic()
        while not self._closing.is_set():
            signal = self._next(connection, None)
            if isinstance(signal, Sent):
                self._sent(signal)
            elif isinstance(signal, Received):
                self._received(signal)
            elif isinstance(signal, Unheard):
                self._unheard(signal)
            elif isinstance(signal, Down):
                return self._lost(signal.reason.lower(), time.monotonic() - since)
        connection.disconnect()
        deadline = time.monotonic() + GOODBYE_TIMEOUT
        while not isinstance(self._next(connection, deadline - time.monotonic()), Down | None):
            continue
        return Outcome.SERVED

    def _received(self, signal: Received) -> None:
        """A handler that fails is counted and told; the connection goes on."""
        for topic, handler in self._handlers.items():
            if topic_matches_sub(topic, signal.topic):
                try:
                    handler(signal)
                except Exception:
                    self._count("handler_faults")
                    log.exception("mqtt: a message on %s could not be dealt with", signal.topic)

    def _unheard(self, signal: Unheard) -> None:
        self._count("subscriptions_refused")
        self._say(
            f"mqtt: {self._where} refused a subscription: {signal.reason.lower()}; "
            "commands, or Home Assistant's greeting, do not reach this node; check the broker's access list"
        )

    def _lost(self, reason: str, lasted: float) -> Outcome:
        if lasted >= STEADY:
            self._said = ""
        if reason in HINTS:
            return self._refused(self._refusal_text(reason, "ended"))
        if self._reconnect.flapping:
            self._say(f"mqtt: {self._where} accepts us and soon ends the connection, again and again; {FLAPPING_HINT}")
        else:
            self._say(f"mqtt: lost {self._where}{f' ({reason})' if reason else ''}; connecting again")
        return Outcome.SERVED

    def _answered(self, reason: str, version: int) -> Outcome:
        """What to make of a CONNACK that says no."""
        if reason in TRANSIENT:
            return self._unreachable(reason)
        if reason == PROTOCOL and version == 5:
            log.info("mqtt: %s does not speak MQTT 5; trying 3.1.1", self._where)
            return Outcome.UNSUPPORTED
        return self._refused(self._refusal_text(reason, "refused"))

    def _refusal_text(self, reason: str, did: str) -> str:
        named = self._config.username or self._config.username_file
        who = f" (username {named!r})" if named else " (no username is set)"
        hint = HINTS.get(reason, "see the broker's log")
        return f"mqtt: {self._where} {did} the connection: {reason}{who}; {hint}"

    def _refused(self, text: str) -> Outcome:
        self._refusal = text
        self._say(text)
        return Outcome.REFUSED

    def _unreachable(self, reason: object) -> Outcome:
        self._refusal = ""
        self._say(f"mqtt: {self._where} cannot be reached: {reason}; trying on, nothing is lost")
        return Outcome.UNREACHABLE

    def _say(self, text: str) -> None:
        """Once, until something else is to be said or the broker was there again."""
        if text != self._said:
            self._said = text
            log.warning("%s", text)

    def _queue(self, message: Message, lasting: bool) -> Future[None]:
        delivery = Delivery(message, lasting)
        delivery.future.set_running_or_notify_cancel()
        self._number += 1
        self._pending[self._number] = delivery
        self._unsent.append(self._number)
        self._fill()
        return delivery.future

    def _fill(self) -> None:
        """Send what is unsent, as far as the broker's window goes."""
        while self._live is not None and self._unsent and len(self._awaited) < self._window:
            number = self._unsent.popleft()
            mid = self._live.send(self._pending[number].message) if number in self._pending else None
            if mid is not None:
                self._awaited[mid] = number

    def _sent(self, signal: Sent) -> None:
        with self._lock:
            self._unwritten.pop(signal.mid, None)
            number = self._awaited.pop(signal.mid, 0)
            delivery = self._pending.pop(number, None)
            self._fill()
        if not signal.failure:
            self._count("published")
        if delivery is None:
            return
        if not signal.failure:
            delivery.future.set_result(None)
            return
        self._count("rejected")
        reason = f"mqtt: {self._where} rejected a message on {delivery.message.topic}: {signal.failure.lower()}"
        error = PluginError(reason, retry_after=REJECTED_RETRY)
        if delivery.lasting:
            self._hold_back(delivery.message.topic, error)
        delivery.future.set_exception(error)
        self._fail_overtaking()

    def _hold_back(self, topic: str, error: PluginError) -> None:
        """What stands behind a rejected message on its topic is not to arrive before it."""
        now = time.monotonic()
        with self._lock:
            self._barred = {barred: bar for barred, bar in self._barred.items() if now < bar[0]}
            self._barred[topic] = (now + BARRED, str(error))
            for delivery in self._pending.values():
                if delivery.lasting and delivery.message.topic == topic:
                    delivery.overtaking = error

    def _fail_overtaking(self) -> None:
        """But for what is in flight: that may have arrived, and is judged when the connection ends."""
        with self._lock:
            in_flight = set(self._awaited.values())
            numbers = [n for n, one in self._pending.items() if one.overtaking is not None and n not in in_flight]
            failed = [self._pending.pop(number) for number in numbers]
        for delivery in failed:
            delivery.future.set_exception(delivery.overtaking)

    def _too_large(self, message: Message) -> bool:
        size = len(message.payload) + len(message.topic.encode()) + OVERHEAD_BYTES
        return bool(self._max_packet) and size > self._max_packet

    def _too_large_error(self, message: Message) -> PluginError:
        return PluginError(
            f"mqtt: {len(message.payload)} bytes on {message.topic} are more than {self._where} takes "
            f"({self._max_packet}); raise its max_packet_size",
            retry_after=REJECTED_RETRY,
        )

    def _fail_too_large(self) -> None:
        """What an earlier broker would have taken and this one does not: it would hang up on it, for ever."""
        with self._lock:
            numbers = [n for n, delivery in self._pending.items() if self._too_large(delivery.message)]
            failed = [self._pending.pop(number) for number in numbers]
        for delivery in failed:
            delivery.future.set_exception(self._too_large_error(delivery.message))

    def _fail_pending(self, reason: str, retry_after: float | None) -> None:
        with self._lock:
            failed, self._pending = list(self._pending.values()), {}
        for delivery in failed:
            delivery.future.set_exception(PluginError(reason, retry_after=retry_after))

    def _retry_after(self) -> float:
        return max(0.5, self._next_try - time.monotonic())


def _spoken(version: int) -> str:
    return "5" if version == 5 else "3.1.1"
