"""Takes events, has the rules judge them, and puts what they say where it is safe; couriers bring it on.

The order is what makes it durable: alerts are committed to the outboxes first, remembered second, and only then has
the event been handled. A crash in between tells an alert twice, never not at all.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from concurrent.futures import wait as wait_for

from agent import Agent, Event, PluginError, to_json
from plugins.alert.config import AlertConfig
from plugins.alert.courier import Courier
from plugins.alert.recall import Recall
from plugins.alert.rules import AlertMessage, judge
from plugins.alert.webhook import Poster

log = logging.getLogger(__name__)

COMMIT_TIMEOUT = 2.0
DRAIN_TIMEOUT = 2.0
COMMAND_TIMEOUT = 10.0
TOPIC = "alerts"


class Desk:
    """Everything the plugin does between startup and shutdown; called on the plugin's thread."""

    def __init__(self, agent: Agent, config: AlertConfig) -> None:
        self._agent = agent
        self._config = config
        self._recall = Recall(agent.state_dir / "memory.json")
        self._memory = self._recall.load()
        sinks: dict[str, Callable[[bytes], None]] = {}
        if config.mqtt:
            sinks["mqtt"] = self._publish
        if config.webhook is not None:
            sinks["webhook"] = Poster(config.webhook)
        self._outboxes = {sink: agent.outbox(sink) for sink in sinks}
        count = agent.metrics.count
        self._couriers = [Courier(sink, self._outboxes[sink], deliver, count) for sink, deliver in sinks.items()]

    def start(self) -> None:
        """Begin to deliver what waits from before, too."""
        for courier in self._couriers:
            courier.start()

    def close(self) -> None:
        """Give deliveries 2 s; what is left waits in its outbox for the next start."""
        deadline = time.monotonic() + DRAIN_TIMEOUT
        for courier in self._couriers:
            courier.stop(deadline)

    def event(self, event: Event) -> Future[None] | None:
        """Judge. What follows is committed on return; the Future completes when it has arrived or has to wait.

        PluginError when committing takes too long: give the event again.
        """
        alerts, memory = judge(self._config.rule, self._memory, event, time.time())
        if not alerts:
            return None
        arrivals = [courier.expect(alert) for alert in alerts for courier in self._couriers]
        self._commit(alerts)
        self._memory = memory
        self._recall.save(memory)
        for alert in alerts:
            self._agent.metrics.count(alert.state)
            if self._config.log:
                log.warning("%s", sentence(alert))
        return gather(arrivals)

    def _commit(self, alerts: Sequence[AlertMessage]) -> None:
        payloads = [to_json(alert) for alert in alerts]
        futures = [outbox.put(payload) for payload in payloads for outbox in self._outboxes.values()]
        done, waiting = wait_for(futures, COMMIT_TIMEOUT)
        if waiting:
            raise PluginError(f"alert: the outbox did not commit in {COMMIT_TIMEOUT:g} s", retry_after=1.0)
        for future in done:
            future.result()

    def _publish(self, body: bytes) -> None:
        args = {"topic": TOPIC, "payload": body.decode(), "qos": 1, "retain": False}
        try:
            self._agent.command("mqtt.publish", args).result(COMMAND_TIMEOUT)
        except FutureTimeout:
            raise PluginError(f"the mqtt plugin did not answer in {COMMAND_TIMEOUT:g} s") from None


def sentence(alert: AlertMessage) -> str:
    """The alert as a line of the log."""
    late = ", late" if alert.late else ""
    what = f"{alert.label} at {alert.camera}, score {alert.score:.2f}{late} (event {alert.id})"
    return f"alert {alert.rule} {alert.state}: {what}"


def gather(futures: Sequence[Future[None]]) -> Future[None]:
    """Completes when all have."""
    all_done: Future[None] = Future()
    left = len(futures)
    lock = threading.Lock()

    def one_done(_: Future[None]) -> None:
        nonlocal left
        with lock:
            left -= 1
            last = left == 0
        if last:
            all_done.set_result(None)

    for future in futures:
        future.add_done_callback(one_done)
    if not futures:
        all_done.set_result(None)
    return all_done
