"""Which events raise an alert, which join one, and which are over. Pure: events and times go in, messages come out.

What became of an alert at its sinks is asked of an ``Outlook``; who may be told again, and how often, is the gates'.
Time is UNIX seconds, so that memory outlives a restart.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

import msgspec

from agent import Event
from plugins.alert.config import Rule
from plugins.alert.message import AlertMessage, Fate, State
from plugins.alert.schedule import on_duty
from plugins.alert.sightings import Sighting, about, place, sighted

OPEN_LIMIT = 1000
NAMED_EVENTS = 100
NAMESPACE = uuid.UUID("6f1d2a53-9a0e-5d43-8d0b-0f6f1f5f7c11")


class Outlook(Protocol):
    """What rules must know of the sinks that they tell."""

    def held(self, rule: Rule, alert: AlertMessage, now: float) -> str:
        """Why no sink of the rule would take this alert now (``cooldown``, ``rate``, …); empty when one would."""

    def fate(self, rule: Rule, alert: str) -> Fate:
        """What became of an alert: under way somewhere, else delivered to all, to some or to no sink of the rule."""


class OpenAlert(msgspec.Struct, frozen=True, kw_only=True):
    """One that is not resolved. ``members``: events that are still what the rule is about; ``told``: how many events
    the last message counted. ``intended``: it may not have reached the outboxes yet."""

    message: AlertMessage
    members: tuple[str, ...]
    count: int = 1
    told: int = 1
    escalated_at: float | None = None
    intended: bool = False


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """What rules remember. ``sightings`` are of this run; ``alerts`` by their id, oldest first, outlive it."""

    alerts: Mapping[str, OpenAlert] = {}
    sightings: Mapping[str, Sighting] = {}


def intent(memory: Memory, messages: Sequence[AlertMessage]) -> Memory:
    """What to save before messages are committed: whatever a crash leaves of them, their alerts are known after it."""
    raised = {
        one.alert: OpenAlert(message=one, members=one.events, count=one.count, told=one.count, intended=True)
        for one in messages
        if one.state == "raised"
    }
    return Memory(alerts={**memory.alerts, **raised})


def recovered(memory: Memory) -> tuple[Memory, list[AlertMessage]]:
    """What was saved, and of it what a crash may have kept from the outboxes: to be committed, again perhaps. The gates
    know what was delivered already."""
    doubtful = [alert.message for alert in memory.alerts.values() if alert.intended]
    settled = {name: msgspec.structs.replace(alert, intended=False) for name, alert in memory.alerts.items()}
    return Memory(alerts=settled), [msgspec.structs.replace(message, late=True) for message in doubtful]


class TurnedAway(NamedTuple):
    """An event that is over and was what the rule is about, yet was not told, and why."""

    rule: str
    reason: str
    alert: AlertMessage


class Verdict(NamedTuple):
    """What to tell, in order, and the memory to keep once that is safe."""

    messages: list[AlertMessage]
    memory: Memory
    turned_away: list[TurnedAway]


def hear(
    rules: Sequence[Rule], memory: Memory, event: Event, outlook: Outlook, now: float, max_frame_age: float = 5.0
) -> Verdict:
    """What a message of an event means.

    A rule has at most one open alert about an event. What cannot be told now, because of a cooldown say, is thought of
    again at every message and tick while the event lasts. An event whose last word is what makes it worth telling is
    told then. Nothing is raised from a frame older than ``max_frame_age`` seconds.
    """
    session = _Session(rules, memory, outlook, now)
    session.hear(event, max_frame_age)
    return session.verdict()


def tick(rules: Sequence[Rule], memory: Memory, outlook: Outlook, now: float, cameras: Collection[str]) -> Verdict:
    """What the passing of time means: dwell reached, cooldown over, a group complete, nobody gone after so long.

    ``cameras``: those that deliver pictures now; of others nobody knows whether what they saw is still there.
    """
    session = _Session(rules, memory, outlook, now)
    session.tick(cameras)
    return session.verdict()


class _Session:
    """One call of ``hear`` or ``tick``: works on copies."""

    def __init__(self, rules: Sequence[Rule], memory: Memory, outlook: Outlook, now: float) -> None:
        self._rules = {rule.name: rule for rule in rules}
        self._alerts = dict(memory.alerts)
        self._sightings = dict(memory.sightings)
        self._outlook = outlook
        self._now = now
        self._late = False
        self._messages: list[AlertMessage] = []
        self._turned_away: list[TurnedAway] = []

    def hear(self, event: Event, max_frame_age: float) -> None:
        known = self._sightings.get(event.id)
        sighting = sighted(known, event, self._now, max_frame_age)
        over = event.kind == "end"
        self._late = event.late
        self._sightings[event.id] = sighting
        self._withdraw()
        self._leave(sighting)
        if not over or known is not None:  # of an end without a beginning all was said before a restart
            for rule in self._rules.values():
                candidates = [sighting] if rule.count == 1 else list(self._sightings.values())
                self._consider(rule, candidates, frozenset(), last_call=event.id if over else "")
        if over:
            del self._sightings[event.id]
            self._part(sighting.event, self._alerts)
        self._resolve()

    def tick(self, cameras: Collection[str]) -> None:
        self._withdraw()
        there = [sighting for sighting in self._sightings.values() if sighting.camera in cameras]
        for rule in self._rules.values():
            self._consider(rule, there, cameras, last_call="")
        for name, alert in list(self._alerts.items()):
            self._follow(name, alert)
        self._resolve()

    def verdict(self) -> Verdict:
        for name in list(self._alerts)[:-OPEN_LIMIT]:
            self._end(name)
        kept = dict(list(self._sightings.items())[-OPEN_LIMIT:])
        return Verdict(self._messages, Memory(alerts=self._alerts, sightings=kept), self._turned_away)

    # raising

    def _consider(self, rule: Rule, candidates: Iterable[Sighting], cameras: Collection[str], last_call: str) -> None:
        """``cameras``: those whose sightings are known to have lasted until now; ``last_call``: the event that ends."""
        members = {
            event for alert in self._alerts.values() if alert.message.rule == rule.name for event in alert.members
        }
        present = [(one, self._place(rule, one, cameras)) for one in candidates]
        for sighting, zone in sorted(present, key=lambda pair: pair[0].started_at):
            if zone is None or sighting.event in members or not self._may_raise(rule, sighting):
                continue
            mates = [one.event for one, where in present if (where, one.camera) == (zone, sighting.camera)]
            if len(mates) >= rule.count:
                free = [event for event in mates if event not in members] if rule.count > 1 else [sighting.event]
                members |= self._put(rule, sighting, zone, free, sighting.event == last_call)

    def _place(self, rule: Rule, sighting: Sighting, cameras: Collection[str]) -> str | None:
        elapsed = max(0.0, self._now - sighting.heard_at) if sighting.camera in cameras else 0.0
        return place(rule, sighting, elapsed) if about(rule, sighting) else None

    def _may_raise(self, rule: Rule, sighting: Sighting) -> bool:
        if sighting.stale or (sighting.late and rule.late == "drop"):
            return False
        if not sighting.clock_synced:
            return True  # nobody knows the hour: rather once too often
        at = sighting.updated_at if sighting.late else self._now
        return on_duty(rule.hours, rule.weekdays, datetime.fromtimestamp(at))

    def _put(self, rule: Rule, sighting: Sighting, zone: str, events: list[str], last_call: bool) -> set[str]:
        """Join an alert, raise one about these events, or wait; the events that are in one now."""
        if self._rejoin(rule, sighting.event):
            return {sighting.event}
        fresh = self._fresh_alerts(rule, sighting, zone)
        joinable = next((name for name, fate in fresh.items() if fate == "delivered"), None)
        if joinable is not None:
            self._join(joinable, sighting)
            return {sighting.event}
        if "pending" in fresh.values() and not last_call:
            return set()  # what becomes of that one decides
        message = self._raised(rule, sighting, zone, events)
        if reason := self._outlook.held(rule, message, self._now):
            if last_call:
                self._turned_away.append(TurnedAway(rule.name, reason, message))
            return set()
        self._messages.append(message)
        self._alerts[message.alert] = OpenAlert(
            message=message, members=tuple(events), count=len(events), told=len(events)
        )
        again = {**sighting.raised, rule.name: sighting.raised.get(rule.name, 0) + 1}
        self._sightings[sighting.event] = msgspec.structs.replace(sighting, raised=again)
        return set(events)

    def _fresh_alerts(self, rule: Rule, sighting: Sighting, zone: str) -> dict[str, Fate]:
        """The rule's open alerts that this event would belong to: just raised, or about how many are in one place."""
        found = {}
        for name, alert in self._alerts.items():
            message = alert.message
            same_place = (message.camera, message.zone) == (sighting.camera, zone)
            near = rule.group > 0 and abs(self._now - message.raised_at) <= rule.group
            if message.rule == rule.name and (near or (rule.count > 1 and same_place)):
                found[name] = self._outlook.fate(rule, name)
        return found

    def _rejoin(self, rule: Rule, event: str) -> bool:
        """Back into the alert that it had left, and that others kept open."""
        for name, alert in self._alerts.items():
            if alert.message.rule == rule.name and event in alert.message.events:
                self._alerts[name] = msgspec.structs.replace(alert, members=(*alert.members, event))
                return True
        return False

    def _join(self, name: str, sighting: Sighting) -> None:
        alert = self._alerts[name]
        message = alert.message
        cameras = tuple(dict.fromkeys((*message.cameras, sighting.camera)))
        events = (*message.events, sighting.event)[:NAMED_EVENTS]
        self._alerts[name] = msgspec.structs.replace(
            alert,
            members=(*alert.members, sighting.event),
            count=alert.count + 1,
            message=msgspec.structs.replace(message, events=events, cameras=cameras),
        )

    def _raised(self, rule: Rule, sighting: Sighting, zone: str, events: list[str]) -> AlertMessage:
        number = sighting.raised.get(rule.name, 0)
        text = "\n".join((rule.name, sighting.event, str(sighting.seq), str(number)))
        return AlertMessage(
            node=sighting.node,
            rule=rule.name,
            state="raised",
            alert=str(uuid.uuid5(NAMESPACE, text)),
            id=sighting.event,
            seq=sighting.seq,
            camera=sighting.camera,
            zone=zone,
            track=sighting.track,
            label=sighting.label,
            score=sighting.score,
            count=len(events),
            events=tuple(events[:NAMED_EVENTS]),
            cameras=(sighting.camera,),
            started_at=sighting.started_at,
            raised_at=self._now,
            at=self._now,
            late=sighting.late,
            clock_synced=sighting.clock_synced,
        )

    # following

    def _withdraw(self) -> None:
        """An alert that no sink took was none: what is in it may raise another."""
        for name, alert in list(self._alerts.items()):
            rule = self._rules.get(alert.message.rule)
            if rule is not None and self._outlook.fate(rule, name) == "dropped":
                del self._alerts[name]

    def _follow(self, name: str, alert: OpenAlert) -> None:
        """Tell once who joined, and once that it lasts."""
        rule = self._rules.get(alert.message.rule)
        if rule is None:
            return
        age = self._now - alert.message.raised_at
        if alert.count > alert.told and age > rule.group:
            alert = msgspec.structs.replace(alert, told=alert.count)
            self._messages.append(self._told("updated", alert))
        lasts = rule.escalate_after > 0 and age >= rule.escalate_after and alert.escalated_at is None
        if lasts and self._outlook.fate(rule, name) in ("delivered", "mixed"):
            alert = msgspec.structs.replace(alert, escalated_at=self._now)
            self._messages.append(self._told("escalated", alert))
        self._alerts[name] = alert

    def _leave(self, sighting: Sighting) -> None:
        """Out of the alerts whose rule is not about it any more."""
        gone = []
        for name, alert in self._alerts.items():
            rule = self._rules.get(alert.message.rule)
            if rule is not None and sighting.event in alert.members and not about(rule, sighting):
                gone.append(name)
        self._part(sighting.event, gone)

    def _part(self, event: str, alerts: Iterable[str]) -> None:
        for name in list(alerts):
            alert = self._alerts[name]
            if event in alert.members:
                left = tuple(member for member in alert.members if member != event)
                self._alerts[name] = msgspec.structs.replace(alert, members=left)

    def _resolve(self) -> None:
        for name, alert in list(self._alerts.items()):
            rule = self._rules.get(alert.message.rule)
            if rule is None or len(alert.members) < rule.count:
                self._end(name)

    def _end(self, name: str) -> None:
        self._messages.append(self._told("resolved", self._alerts.pop(name)))

    def _told(self, state: State, alert: OpenAlert) -> AlertMessage:
        """The alert's next message. It is about now, whatever its beginning was."""
        return msgspec.structs.replace(
            alert.message,
            state=state,
            count=alert.count,
            at=self._now,
            late=self._late,
            escalated_at=alert.escalated_at,
            resolved_at=self._now if state == "resolved" else None,
        )
