"""What one sink may be told, and when: cooldown, rate, nothing twice, nothing about what was never raised there.

Each sink has a gate of its own, and only what was *delivered* there counts: an alert that was filtered, refused or is
still under way uses up no cooldown. Safe from any thread; time goes in (UNIX seconds, so that it outlives a restart).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from typing import TypeVar

import msgspec

from plugins.alert.config import Rule
from plugins.alert.message import AlertMessage, Fate

V = TypeVar("V")

MAX_WAITING = 200
"""Alerts of one sink that may be under way; while a receiver is away for long, the rest are only counted."""
REMEMBERED = 2000
COUNTED = ("raised", "updated", "escalated")
"""States that count for a rule's rate; a resolution is never held back."""


class Stamp(msgspec.Struct, frozen=True):
    """What was last delivered for a key: when it was raised, and when one that was late was delivered."""

    raised_at: float
    late_at: float | None = None


class Tally(msgspec.Struct, frozen=True):
    """Alerts of a rule that were not told since the last summary; ``last``: one of them, to speak for all."""

    count: int
    first_at: float
    last: AlertMessage


class GateState(msgspec.Struct):
    """What a gate remembers over a restart. ``sent``: by rule, when what counts for its rate was delivered; ``open``:
    what was delivered and is not resolved, by alert."""

    stamps: dict[str, Stamp] = {}
    sent: dict[str, list[float]] = {}
    open: dict[str, AlertMessage] = {}
    done: dict[str, float] = {}
    tallies: dict[str, Tally] = {}
    summed_at: dict[str, float] = {}


def key_of(rule: Rule, alert: AlertMessage) -> str:
    """What the rule's cooldown is for: itself, or the camera, zone or track as well."""
    parts = {"rule": (), "camera": (alert.camera,), "zone": (alert.camera, alert.zone)}
    track = (alert.camera, alert.zone, str(alert.track))
    return "\n".join((rule.name, *parts.get(rule.per, track)))


class Gate:
    """``sink``: its name; ``rules`` by name; ``expire``: seconds after which an alert is not worth telling (0: never).

    A rule that is not known (any more) is not limited.
    """

    def __init__(self, sink: str, rules: Mapping[str, Rule], state: GateState | None = None, expire: float = 0) -> None:
        self.sink = sink
        self._rules = rules
        self._state = state or GateState()
        self._expire = expire
        self._lock = threading.Lock()
        self._waiting: OrderedDict[str, None] = OrderedDict()
        self._dropped: OrderedDict[str, None] = OrderedDict()
        self._refused: OrderedDict[str, None] = OrderedDict()
        self._closing: OrderedDict[str, None] = OrderedDict()

    # what the rules ask

    def held(self, rule: Rule, alert: AlertMessage, now: float) -> str:
        """Why such an alert would not be let through now; empty when it would."""
        with self._lock:
            return "waiting" if len(self._waiting) >= MAX_WAITING else self._held(rule, alert, alert.late, now)

    def fate(self, alert: str) -> Fate:
        """``delivered``, ``dropped``, ``mixed`` for what the receiver refused, ``pending`` for anything else."""
        with self._lock:
            if alert in self._state.open or f"{alert}/raised" in self._state.done:
                return "delivered"
            if alert in self._refused:
                return "mixed"  # so that it is not raised again, to be refused again
            return "dropped" if alert in self._dropped else "pending"

    def queued(self, alert: AlertMessage) -> None:
        """It was committed to this sink's outbox."""
        if alert.state == "raised":
            with self._lock:
                self._waiting[alert.alert] = None
                self._dropped.pop(alert.alert, None)
        elif alert.state == "resolved":
            with self._lock:
                _put(self._closing, alert.alert, None)

    def orphans(self, known: Collection[str], now: float) -> list[AlertMessage]:
        """Resolutions of what was delivered, is unresolved, and nobody knows of any more: a crash lost the memory of it
        after it had been queued."""
        with self._lock:
            left = [one for name, one in self._state.open.items() if name not in known and name not in self._closing]
        return [msgspec.structs.replace(one, state="resolved", at=now, resolved_at=now, late=False) for one in left]

    def turned_away(self, alert: AlertMessage, reason: str, now: float) -> None:
        """It was never queued, since it would have been held. A cooldown is as meant; the rest the summary counts."""
        with self._lock:
            if reason != "cooldown":
                self._count(alert, now)

    # what the courier asks

    def admit(self, alert: AlertMessage, now: float) -> str:
        """Why a message is not to be delivered; empty when it is. What is not is counted, and to be forgotten."""
        with self._lock:
            reason = self._refusal(alert, now)
            if reason:
                self._forget(alert, reason, now)
            return reason

    def refused(self, alert: AlertMessage, now: float) -> None:
        """The receiver will never take it: counted, and to be forgotten; no cooldown is used up."""
        with self._lock:
            self._forget(alert, "refused", now)
            if alert.state == "raised":
                _put(self._refused, alert.alert, None)
            elif alert.state == "resolved":
                self._state.open.pop(alert.alert, None)

    def delivered(self, alert: AlertMessage, now: float) -> None:
        """The receiver has it."""
        state = self._state
        with self._lock:
            if alert.state == "suppressed":
                self._summed(alert, now)
                return
            _put(state.done, f"{alert.alert}/{alert.state}", now)
            if alert.state in COUNTED:
                state.sent.setdefault(alert.rule, []).append(now)
                _put(state.open, alert.alert, alert)
            else:
                state.open.pop(alert.alert, None)
            if alert.state == "raised":
                self._stamp(alert, now)
                self._settled(alert.alert)

    def summaries(self, now: float) -> list[AlertMessage]:
        """``N suppressed``, of each rule that has any and has room for one again: once a ``rate_period`` at most."""
        with self._lock:
            return [_summary(name, tally, now) for name, tally in self._state.tallies.items() if self._due(name, now)]

    def state(self) -> GateState:
        """A copy, to be saved."""
        with self._lock:
            return msgspec.json.decode(msgspec.json.encode(self._state), type=GateState)

    # inside

    def _refusal(self, alert: AlertMessage, now: float) -> str:
        rule = self._rules.get(alert.rule)
        if f"{alert.alert}/{alert.state}" in self._state.done:
            return "told"
        if alert.state != "raised":
            called = rule is not None and alert.state == "escalated" and self._is_only_for_escalation(rule)
            if alert.alert not in self._state.open and not called:
                return "untold"
            over = rule is not None and alert.state in COUNTED and self._rate_reached(rule, now)
            return "rate" if over else ""
        if self._expire and abs(now - alert.at) > self._expire:
            return "expired"
        return "" if rule is None else self._held(rule, alert, alert.late, now)

    def _is_only_for_escalation(self, rule: Rule) -> bool:
        return bool(rule.to) and self.sink not in rule.to

    def _held(self, rule: Rule, alert: AlertMessage, late: bool, now: float) -> str:
        if late and rule.late == "drop":
            return "late"
        stamp = self._state.stamps.get(key_of(rule, alert))
        if stamp is not None and rule.cooldown:
            if abs(alert.raised_at - stamp.raised_at) < rule.cooldown:
                return "cooldown"
            if late and stamp.late_at is not None and abs(now - stamp.late_at) < rule.cooldown:
                return "backlog"
        return "rate" if self._rate_reached(rule, now) else ""

    def _rate_reached(self, rule: Rule, now: float) -> bool:
        sent = [at for at in self._state.sent.get(rule.name, ()) if abs(now - at) < rule.rate_period]
        self._state.sent[rule.name] = sent
        return len(sent) >= rule.rate

    def _stamp(self, alert: AlertMessage, now: float) -> None:
        rule = self._rules.get(alert.rule)
        if rule is None:
            return
        key = key_of(rule, alert)
        before = self._state.stamps.pop(key, None)
        if alert.late:
            # It is about the past: a newer one that was delivered meanwhile counts on.
            raised_at = alert.raised_at if before is None else max(before.raised_at, alert.raised_at)
            stamp = Stamp(raised_at, now)
        else:
            stamp = Stamp(alert.raised_at, before.late_at if before else None)
        self._state.stamps[key] = stamp
        while len(self._state.stamps) > REMEMBERED:
            del self._state.stamps[next(iter(self._state.stamps))]

    def _forget(self, alert: AlertMessage, reason: str, now: float) -> None:
        if alert.state == "raised" and reason != "told":
            _put(self._dropped, alert.alert, None)
            self._settled(alert.alert)
        if reason not in ("told", "untold", "cooldown"):
            self._count(alert, now)

    def _settled(self, alert: str) -> None:
        """It is not under way any more, nor is what was queued before it: the outbox keeps their order."""
        if alert in self._waiting:
            while next(iter(self._waiting)) != alert:
                self._waiting.popitem(last=False)
            del self._waiting[alert]

    def _count(self, alert: AlertMessage, now: float) -> None:
        before = self._state.tallies.get(alert.rule)
        first_at = before.first_at if before else now
        self._state.tallies[alert.rule] = Tally((before.count if before else 0) + 1, first_at, alert)

    def _due(self, name: str, now: float) -> bool:
        rule = self._rules.get(name)
        if rule is None:
            return True
        since = self._state.summed_at.get(name)
        rested = since is None or abs(now - since) >= rule.rate_period
        return rested and not self._rate_reached(rule, now)

    def _summed(self, summary: AlertMessage, now: float) -> None:
        self._state.summed_at[summary.rule] = now
        tally = self._state.tallies.pop(summary.rule, None)
        if tally is not None and tally.count > summary.suppressed:  # more came while it was told
            left = tally.count - summary.suppressed
            self._state.tallies[summary.rule] = Tally(left, now, tally.last)


def _summary(rule: str, tally: Tally, now: float) -> AlertMessage:
    return msgspec.structs.replace(
        tally.last,
        state="suppressed",
        alert=f"{rule}/suppressed/{tally.first_at:.3f}",
        started_at=tally.first_at,
        at=now,
        suppressed=tally.count,
        late=False,
    )


def _put(kept: dict[str, V], name: str, value: V) -> None:
    """Keep it as the newest of a bounded number."""
    kept.pop(name, None)
    kept[name] = value
    while len(kept) > REMEMBERED:
        del kept[next(iter(kept))]


class Gates:
    """All gates as the rules see them: their ``Outlook``."""

    def __init__(self, gates: Sequence[Gate]) -> None:
        self._gates = {gate.sink: gate for gate in gates}

    def of(self, rule: Rule) -> list[Gate]:
        """Those that a rule tells; all by default."""
        return [self._gates[name] for name in rule.to or self._gates if name in self._gates]

    def held(self, rule: Rule, alert: AlertMessage, now: float) -> str:
        """See Outlook."""
        reasons = [gate.held(rule, alert, now) for gate in self.of(rule)]
        return "" if "" in reasons or not reasons else reasons[0]

    def fate(self, rule: Rule, alert: str) -> Fate:
        """See Outlook. Without any sink an alert counts as delivered: nobody waits for it."""
        fates: set[Fate] = {gate.fate(alert) for gate in self.of(rule)} or {"delivered"}
        return "pending" if "pending" in fates else fates.pop() if len(fates) == 1 else "mixed"
