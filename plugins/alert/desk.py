"""Takes events, has the rules judge them, and puts what they say where it is safe; couriers bring it on.

The order is what makes it durable: what is meant is noted first, then committed to the outboxes, then remembered, and
only then has the event been handled. What a crash leaves in between is committed again, and the gates know what was
delivered.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import wait as wait_for

import msgspec

from agent import Agent, Event, Frame, Health, Outbox, PluginError, to_json
from plugins.alert.config import AlertConfig
from plugins.alert.courier import Courier
from plugins.alert.gate import Gate, Gates, GateState
from plugins.alert.message import AlertMessage, sentence
from plugins.alert.portraits import Portraits
from plugins.alert.recall import Recall
from plugins.alert.rules import Memory, Verdict, hear, intent, recovered, tick
from plugins.alert.sinks import remote_sinks
from plugins.alert.trial import Trials

log = logging.getLogger(__name__)

COMMIT_TIMEOUT = 2.0
DRAIN_TIMEOUT = 2.0
LOG = "log"


class Desk:
    """Everything the plugin does between startup and shutdown; called on the plugin's thread."""

    def __init__(self, agent: Agent, config: AlertConfig) -> None:
        self._agent = agent
        self._config = config
        self._rules = {rule.name: rule for rule in config.rule}
        self._recall: Recall[Memory] = Recall(agent.state_dir / "memory.json", Memory)
        self._memory, self._doubtful = recovered(self._recall.load())
        self._portraits = Portraits(agent.state_dir / "pictures")
        sinks = remote_sinks(config, agent.command, self._portraits.path_of)
        self._recalls = {name: Recall(agent.state_dir / f"gate-{name}.json", GateState) for name in config.sinks()}
        self._gates = {
            name: Gate(name, self._rules, recall.load(), config.expire) for name, recall in self._recalls.items()
        }
        self._outlook = Gates(list(self._gates.values()))
        self._outboxes: dict[str, Outbox] = {name: agent.outbox(name) for name in sinks}
        self._couriers = {
            name: Courier(self._gates[name], self._outboxes[name], deliver, agent.metrics.count, self._keeper(name))
            for name, deliver in sinks.items()
        }
        self._trials = Trials(agent.state_dir, config, agent.name, {LOG: _log, **sinks} if config.log else sinks)

    def start(self) -> None:
        """Begin to deliver what waits from before, too."""
        self._trials.open()
        self._commit(self._doubtful)
        for courier in self._couriers.values():
            courier.start()

    def close(self) -> None:
        """Give deliveries 2 s; what is left waits in its outbox for the next start."""
        deadline = time.monotonic() + DRAIN_TIMEOUT
        for courier in self._couriers.values():
            courier.stop(deadline)

    def event(self, event: Event, frame: Frame | None) -> Future[None] | None:
        """Judge. What follows is committed on return; the Future completes when it has arrived or has to wait.

        PluginError when committing takes too long: give the event again.
        """
        if self._config.shows_pictures():
            self._portraits.see(event, frame)
        limit = self._config.max_frame_age
        arrival = self._act(hear(self._config.rule, self._memory, event, self._outlook, time.time(), limit))
        if event.kind == "end":
            self._portraits.forget(event.id)
        return arrival

    def health(self, health: Health) -> None:
        """Once a second: what the passing of time means, unless events wait whose end may stand in the log already."""
        self._trials.poll()
        self._agent.trouble("; ".join(filter(None, (courier.trouble for courier in self._couriers.values()))))
        now = time.time()
        self._log_summaries(now)
        if not health.log.waiting.get(self._agent.state_dir.name, 0):
            up = {name for name, camera in health.cameras.items() if camera.state == "up"}
            self._act(tick(self._config.rule, self._memory, self._outlook, now, up))
            self._close_orphans(now)

    def _act(self, verdict: Verdict) -> Future[None] | None:
        for rule, reason, alert in verdict.turned_away:
            self._agent.metrics.count(f"held_{reason}")
            for gate in self._outlook.of(self._rules[rule]):
                gate.turned_away(alert, reason, time.time())
        if not verdict.messages:
            self._memory = verdict.memory
            return None
        if any(alert.state == "raised" for alert in verdict.messages):
            self._recall.save(intent(self._memory, verdict.messages))
        arrivals = self._commit(verdict.messages)
        self._memory = verdict.memory
        self._recall.save(msgspec.structs.replace(verdict.memory, sightings={}))
        for alert in verdict.messages:
            self._agent.metrics.count(alert.state)
            self._tell_log(alert)
        return gather(arrivals)

    def _close_orphans(self, now: float) -> None:
        for name, gate in self._gates.items():
            for alert in gate.orphans(self._memory.alerts, now):
                gate.queued(alert)
                if name == LOG:
                    self._tell_log(alert)
                else:
                    self._outboxes[name].put(to_json(alert))

    def _commit(self, alerts: Sequence[AlertMessage]) -> list[Future[None]]:
        """Into the outboxes; what completes when they have arrived."""
        arrivals: list[Future[None]] = []
        commits: list[Future[None]] = []
        for alert in alerts:
            if alert.state == "raised" and self._config.shows_pictures():
                self._portraits.keep(alert)
            for name in self._addressed(alert):
                arrivals.append(self._couriers[name].expect(alert))
                self._gates[name].queued(alert)
                commits.append(self._outboxes[name].put(to_json(alert)))
        done, waiting = wait_for(commits, COMMIT_TIMEOUT)
        if waiting:
            raise PluginError(f"alert: the outbox did not commit in {COMMIT_TIMEOUT:g} s", retry_after=1.0)
        for future in done:
            future.result()
        return arrivals

    def _addressed(self, alert: AlertMessage) -> list[str]:
        """The couriers that get a message; a gate drops what its sink was never told the beginning of."""
        rule = self._rules.get(alert.rule)
        if rule is None:
            return list(self._couriers)
        to, escalated = rule.to or tuple(self._gates), rule.escalate_to or rule.to or tuple(self._gates)
        names = {"raised": to, "updated": to, "escalated": escalated}.get(alert.state, (*to, *escalated))
        return [name for name in dict.fromkeys(names) if name in self._couriers]

    def _tell_log(self, alert: AlertMessage) -> None:
        """The log is a sink like any other, with a gate of its own, but nothing there can fail or wait."""
        gate, rule = self._gates.get(LOG), self._rules.get(alert.rule)
        if gate is None:
            return
        also = (*rule.to, *(rule.escalate_to if alert.state in ("escalated", "resolved") else ())) if rule else ()
        if rule is not None and rule.to and LOG not in also:
            return
        now = time.time()
        if not gate.admit(alert, now):
            _log(alert)
            gate.delivered(alert, now)
            self._keeper(LOG)()

    def _log_summaries(self, now: float) -> None:
        gate = self._gates.get(LOG)
        for summary in gate.summaries(now) if gate else ():
            _log(summary)
            self._gates[LOG].delivered(summary, now)

    def _keeper(self, sink: str) -> _Keeper:
        return _Keeper(self._gates[sink], self._recalls[sink])


class _Keeper:
    """Saves what a gate remembers."""

    def __init__(self, gate: Gate, recall: Recall[GateState]) -> None:
        self._gate = gate
        self._recall = recall

    def __call__(self) -> None:
        self._recall.save(self._gate.state())


def _log(alert: AlertMessage) -> None:
    log.warning("%s", sentence(alert))


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
