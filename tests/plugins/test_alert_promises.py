"""What the alert plugin promises, over random events, deliveries that fail, crashes and restarts.

The rules and gates are the real ones; outboxes and receivers are lists, so that every failure can be had at will. What
went out is judged by an account of its own.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import Event
from agent.testing import make_event
from plugins.alert.config import Rule
from plugins.alert.gate import Gate, Gates, GateState, key_of
from plugins.alert.message import AlertMessage
from plugins.alert.rules import Memory, TurnedAway, Verdict, hear, intent, recovered, tick
from plugins.alert.sightings import about, sighted

RULES = (
    Rule(name="any", cooldown=10.0, group=0.0, rate=4, rate_period=40.0),
    Rule(name="near", cooldown=6.0, group=5.0, per="camera", rate=100),
    Rule(name="dogs", labels=("dog",), min_score=0.7, cooldown=3.0, group=2.0, escalate_after=8.0, to=("hook",)),
    Rule(name="yard", zones=("yard",), cooldown=5.0, per="track", dwell=2.0, escalate_after=6.0, to=("hook",),
         escalate_to=("pager",)),
    Rule(name="crowd", count=2, cooldown=4.0, rate=3, rate_period=30.0),
)  # fmt: skip
BY_NAME = {rule.name: rule for rule in RULES}
SINKS = ("hook", "pager")
OUTAGES = ("lost commit", "crash before the commit", "crash after the commit")
COUNTED = ("raised", "updated", "escalated")
LABELS = {"e1": "dog", "e2": "person", "e3": "dog", "e4": "cat", "e5": "person"}
CAMERAS = {"e1": "gate", "e2": "cam", "e3": "cam", "e4": "gate", "e5": "cam"}

EVENT = st.tuples(
    st.just("event"),
    st.sampled_from(sorted(LABELS)),
    st.floats(0, 1),
    st.sampled_from([(), ("yard",), ("drive",), ("drive", "yard")]),
    st.booleans(),
)
DELIVER = st.tuples(st.just("deliver"), st.sampled_from(SINKS), st.sampled_from(["ok", "ok", "ok", "fails", "refused"]))
STEP = st.tuples(
    st.floats(0, 6),
    st.one_of(
        EVENT,
        EVENT,
        st.tuples(st.just("tick")),
        st.tuples(st.just("tick")),
        DELIVER,
        st.tuples(st.just("flush")),
        st.tuples(st.just("flush")),
        st.tuples(st.sampled_from([*OUTAGES, "restart"])),
    ),
)


@dataclass
class Account:
    """What one receiver got, and when."""

    got: list[tuple[float, AlertMessage]] = field(default_factory=list)

    def raised(self, rule: str) -> list[tuple[float, AlertMessage]]:
        return [(at, one) for at, one in self.got if one.rule == rule and one.state == "raised"]

    def explains(self, reason: str, rule: Rule, alert: AlertMessage, now: float) -> bool:
        """Whether an alert was rightly held back, by what had arrived before."""
        key = key_of(rule, alert)
        same = [(at, one) for at, one in self.raised(rule.name) if key_of(rule, one) == key]
        if reason == "cooldown":
            return any(abs(alert.raised_at - one.raised_at) < rule.cooldown for _, one in same)
        if reason == "backlog":
            return alert.late and any(one.late and now - at < rule.cooldown for at, one in same)
        counted = [at for at, one in self.got if one.rule == rule.name and one.state in COUNTED]
        return reason == "rate" and sum(now - at < rule.rate_period for at in counted) >= rule.rate


class World:
    """The plugin without its threads: one memory, and of each sink a queue, a gate and a receiver."""

    def __init__(self) -> None:
        self.now = 1e6
        self.memory = Memory()
        self.accounts = {sink: Account() for sink in SINKS}
        self.queues: dict[str, list[tuple[float, AlertMessage]]] = {sink: [] for sink in SINKS}
        self.gates = {sink: Gate(sink, BY_NAME) for sink in SINKS}
        self.dropped: set[tuple[str, str, str]] = set()
        self.unresolved: set[str] = set()
        self.ended: list[tuple[Event, list[TurnedAway]]] = []
        self.open: dict[str, Event] = {}
        self.names = Counter[str]()
        self.outage: str = ""

    # what happens

    def event(self, name: str, score: float, zones: tuple[str, ...], over: bool) -> None:
        before = self.open.get(name)
        if before is None:
            self.names[name] += 1
            number, track = self.names[name], int(name[1])
            made = make_event(id=f"{name}.{number}", label=LABELS[name], camera=CAMERAS[name], track=track)
            values: dict[str, Any] = {"started_at": self.now, "top_score": score, "zones": zones, "kind": "start"}
        else:
            made = before
            top = max(score, before.top_score)
            values = {"top_score": top, "zones": zones, "seq": before.seq + 1, "kind": "end" if over else "update"}
        event = msgspec.structs.replace(made, updated_at=self.now, **values)
        self.open[name] = event
        if event.kind == "end":
            del self.open[name]
        self._hear(event)

    def _hear(self, event: Event) -> None:
        verdict = hear(RULES, self.memory, event, self._outlook(), self.now)
        outage, self.outage = self.outage, ""
        if outage == "lost commit":
            verdict = hear(RULES, self.memory, event, self._outlook(), self.now)  # nothing was kept: told again
        if outage.startswith("crash"):  # meant, perhaps queued, but not remembered: the event is told again
            intended = intent(self.memory, verdict.messages)
            if outage == "crash after the commit":
                self._queue(verdict.messages)
            self._restart_gates()
            after, doubtful = recovered(intended)
            self.memory = msgspec.structs.replace(after, sightings=self.memory.sightings)
            self._queue(doubtful)
            verdict = hear(RULES, self.memory, event, self._outlook(), self.now)
        self._adopt(verdict)
        if event.kind == "end":
            self.ended.append((event, verdict.turned_away))
            self._check_turned_away(verdict.turned_away)

    def tick(self) -> None:
        self._adopt(tick(RULES, self.memory, self._outlook(), self.now, {"cam", "gate"}))
        for sink, gate in self.gates.items():
            for orphan in gate.orphans(self.memory.alerts, self.now):
                gate.queued(orphan)
                self.queues[sink].append((self.now, orphan))

    def deliver(self, sink: str, how: str) -> None:
        if not self.queues[sink]:
            for summary in self.gates[sink].summaries(self.now) if how == "ok" else ():
                self.gates[sink].delivered(summary, self.now)
                self.accounts[sink].got.append((self.now, summary))
            return
        queued_at, alert = self.queues[sink][0]
        alert = msgspec.structs.replace(alert, late=alert.late or self.now - queued_at > 2.0)
        reason = self.gates[sink].admit(alert, self.now)
        if reason:
            self._check_dropped(sink, reason, alert)
            self.dropped |= {(sink, alert.rule, event) for event in alert.events if reason != "told"}
        elif how == "fails":
            return
        elif how == "refused":
            self.gates[sink].refused(alert, self.now)
            self.dropped |= {(sink, alert.rule, event) for event in alert.events}
            self.unresolved |= {alert.alert} if alert.state == "resolved" else set()
        else:
            self.gates[sink].delivered(alert, self.now)
            self.accounts[sink].got.append((self.now, alert))
        self.queues[sink].pop(0)

    def flush(self) -> None:
        """Every receiver works, and has time."""
        for sink in SINKS:
            while self.queues[sink]:
                self.deliver(sink, "ok")

    def restart(self) -> None:
        """The daemon ends its open events, stops, and starts again from what is on disk."""
        self.end_all()
        self.memory = msgspec.json.decode(msgspec.json.encode(self.memory), type=Memory)
        self._restart_gates()

    def end_all(self) -> None:
        for name in list(self.open):
            self.event(name, 0.0, self.open[name].zones, True)

    def settle(self) -> None:
        """Everything ends, and every receiver works again."""
        self.end_all()
        for _ in range(3):
            self.flush()
            self.now += 1.0
            self.tick()

    def _restart_gates(self) -> None:
        for sink, gate in self.gates.items():
            kept = msgspec.json.decode(msgspec.json.encode(gate.state()), type=GateState)
            self.gates[sink] = Gate(sink, BY_NAME, kept)

    def _outlook(self) -> Gates:
        return Gates(list(self.gates.values()))

    def _adopt(self, verdict: Verdict) -> None:
        self._queue(verdict.messages)
        self.memory = verdict.memory
        for rule, reason, alert in verdict.turned_away:
            for gate in self._outlook().of(BY_NAME[rule]):
                gate.turned_away(alert, reason, self.now)

    def _queue(self, messages: list[AlertMessage]) -> None:
        for alert in messages:
            rule = BY_NAME[alert.rule]
            to = rule.to or SINKS
            escalated = rule.escalate_to or to
            also = {"escalated": escalated, "resolved": (*to, *escalated)}.get(alert.state, to)
            for sink in dict.fromkeys(also):
                self.gates[sink].queued(alert)
                self.queues[sink].append((self.now, alert))

    # the account

    def _check_turned_away(self, turned_away: list[TurnedAway]) -> None:
        """Who was held back to the end was held back by something that had arrived, at every sink of the rule."""
        for name, _, alert in turned_away:
            for sink in BY_NAME[name].to or SINKS:
                account, rule = self.accounts[sink], BY_NAME[name]
                reasons = ("cooldown", "backlog", "rate")
                assert any(account.explains(why, rule, alert, self.now) for why in reasons), (name, sink, alert)

    def _check_dropped(self, sink: str, reason: str, alert: AlertMessage) -> None:
        had = [(one.alert, one.state) for _, one in self.accounts[sink].got]
        if reason == "told":
            assert (alert.alert, alert.state) in had
        elif reason == "untold":
            over = (alert.alert, "resolved") in had or alert.alert in self.unresolved
            assert over or (alert.alert, "raised") not in had
        else:
            assert self.accounts[sink].explains(reason, BY_NAME[alert.rule], alert, self.now), (sink, reason, alert)


def _run(steps: list[tuple[float, tuple[Any, ...]]]) -> World:
    world = World()
    for pause, (what, *details) in steps:
        world.now += pause
        if what in OUTAGES:
            world.outage = what
        else:
            getattr(world, what)(*details)
    world.settle()
    return world


@settings(max_examples=100)
@given(st.lists(STEP, max_size=80))
def test_no_stream_of_events_and_failures_breaks_a_promise(steps: list[tuple[float, tuple[Any, ...]]]) -> None:
    _judge(_run(steps))


@pytest.mark.parametrize("seed", range(40))
def test_long_streams_break_none_either(seed: int) -> None:
    rng = random.Random(seed)
    _judge(_run([(rng.random() * rng.choice([0.5, 2, 6]), _any_step(rng)) for _ in range(250)]))


def _any_step(rng: random.Random) -> tuple[Any, ...]:
    zones = rng.choice([(), ("yard",), ("drive",), ("drive", "yard")])
    return rng.choices(
        [
            ("event", rng.choice(sorted(LABELS)), rng.random(), zones, rng.random() < 0.4),
            ("tick",),
            ("flush",),
            ("deliver", rng.choice(SINKS), rng.choice(["ok"] * 6 + ["fails", "refused"])),
            (rng.choice([*OUTAGES, "restart"]),),
        ],
        [40, 15, 25, 15, 5],
    )[0]


def _judge(world: World) -> None:
    for sink, account in world.accounts.items():
        _no_double(account)
        _no_rate_exceeded(account)
        _no_cooldown_broken(account)
        _every_alert_begins_once_and_ends_once(account, world.unresolved)
        _nothing_past_without_saying_so(account)
        _nobody_swallowed(world, sink)
    assert world.memory.alerts == {}
    assert all(gate.state().open == {} for gate in world.gates.values())


def _no_double(account: Account) -> None:
    told = Counter((one.alert, one.state) for _, one in account.got)
    assert max(told.values(), default=1) == 1


def _no_rate_exceeded(account: Account) -> None:
    for rule in RULES:
        at = [when for when, one in account.got if one.rule == rule.name and one.state in COUNTED]
        assert all(later - first >= rule.rate_period for first, later in zip(at, at[rule.rate :], strict=False))
        summed = [when for when, one in account.got if one.rule == rule.name and one.state == "suppressed"]
        assert all(later - first >= rule.rate_period for first, later in itertools.pairwise(summed))


def _no_cooldown_broken(account: Account) -> None:
    for rule in RULES:
        by_key: dict[str, list[tuple[float, AlertMessage]]] = {}
        for at, one in account.raised(rule.name):
            by_key.setdefault(key_of(rule, one), []).append((at, one))
        for told in by_key.values():
            live = [one.raised_at for _, one in told if not one.late]
            late = [at for at, one in told if one.late]
            for times in (live, late):
                assert all(later - first >= rule.cooldown for first, later in itertools.pairwise(times))


def _every_alert_begins_once_and_ends_once(account: Account, refused: set[str]) -> None:
    """``refused``: alerts whose end a receiver would not take."""
    open_now: dict[str, AlertMessage] = {}
    for _, one in account.got:
        if one.state == "raised":
            assert one.alert not in open_now
            known = [other for other in open_now.values() if other.alert not in refused]
            of_rule = {event for other in known if other.rule == one.rule for event in other.events}
            assert one.id not in of_rule  # a rule has one open alert about an event
            open_now[one.alert] = one
        elif one.state == "resolved":
            assert open_now.pop(one.alert, None) is not None
        elif one.state == "escalated":
            open_now.setdefault(one.alert, one)
        elif one.state == "updated":
            assert one.alert in open_now
    assert set(open_now) <= refused


def _nothing_past_without_saying_so(account: Account) -> None:
    for at, one in account.got:
        assert one.late or one.state == "suppressed" or at - one.at <= 2.0


def _nobody_swallowed(world: World, sink: str) -> None:
    """Of every event that a rule was about at its end, its receiver was told, unless what had arrived explains why not:
    that was judged when it was held back."""
    told = {(one.rule, event) for _, one in world.accounts[sink].got for event in one.events}
    for event, turned_away in world.ended:
        held = {one.rule for one in turned_away}
        for rule in RULES:
            if sink not in (rule.to or SINKS) or rule.count > 1 or rule.dwell or rule.name in held:
                continue
            if about(rule, sighted(None, event, event.updated_at, 5.0)):
                assert (rule.name, event.id) in told or (sink, rule.name, event.id) in world.dropped, (
                    sink,
                    rule,
                    event,
                )
