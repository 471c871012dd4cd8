"""Which events raise an alert, and which are over. Pure: events and times go in, alerts and a new memory come out.

Time is UNIX seconds, so that a cooldown outlives a restart; a clock set by more than the cooldown ends it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from agent import Event
from plugins.alert.config import Rule

OPEN_LIMIT = 1000


class AlertMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One alert as it is told. ``id`` and ``seq`` are the event's; rule, id and state tell doubles."""

    v: int = 1
    node: str
    rule: str
    state: Literal["raised", "resolved"]
    id: str
    seq: int
    camera: str
    label: str
    score: float
    started_at: float
    raised_at: float
    resolved_at: float | None = None
    late: bool = False


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """What rules remember: when each last raised an alert for each camera, and which alerts are not resolved.

    ``cooldowns``: rule -> camera -> UNIX seconds; ``open``: event id -> rule -> ``raised_at``, oldest event first.
    """

    cooldowns: Mapping[str, Mapping[str, float]] = {}
    open: Mapping[str, Mapping[str, float]] = {}


def judge(rules: Sequence[Rule], memory: Memory, event: Event, now: float) -> tuple[list[AlertMessage], Memory]:
    """The alerts that an event raises or resolves, and the memory to keep once they are safe.

    A rule raises at most one alert for an event, at its start or any update, and none on a camera within
    ``cooldown`` seconds of its last there; a rule that did not raise leaves the cooldown alone.
    """
    if event.kind == "end":
        return _resolve(memory, event, now)
    raised = memory.open.get(event.id, {})
    hits = [r for r in rules if r.name not in raised and matches(r, event) and not _cooling(r, memory, event, now)]
    if not hits:
        return [], memory
    alerts = [_alert(event, rule.name, "raised", now, None) for rule in hits]
    return alerts, _remember(memory, event, hits, now)


def matches(rule: Rule, event: Event) -> bool:
    """Whether a rule is about such an event: label, camera, best score so far."""
    label = not rule.labels or event.label in rule.labels
    camera = not rule.cameras or event.camera in rule.cameras
    return label and camera and event.top_score >= rule.min_score


def _cooling(rule: Rule, memory: Memory, event: Event, now: float) -> bool:
    last = memory.cooldowns.get(rule.name, {}).get(event.camera)
    return last is not None and abs(now - last) < rule.cooldown


def _resolve(memory: Memory, event: Event, now: float) -> tuple[list[AlertMessage], Memory]:
    raised = memory.open.get(event.id)
    if not raised:
        return [], memory
    alerts = [_alert(event, rule, "resolved", raised_at, now) for rule, raised_at in raised.items()]
    left = {event_id: rules for event_id, rules in memory.open.items() if event_id != event.id}
    return alerts, msgspec.structs.replace(memory, open=left)


def _remember(memory: Memory, event: Event, hits: Sequence[Rule], now: float) -> Memory:
    cooldowns = {rule: dict(cameras) for rule, cameras in memory.cooldowns.items()}
    for rule in hits:
        cooldowns.setdefault(rule.name, {})[event.camera] = now
    raised = {**memory.open.get(event.id, {}), **{rule.name: now for rule in hits}}
    kept = {**memory.open, event.id: raised}
    return Memory(cooldowns=cooldowns, open=dict(list(kept.items())[-OPEN_LIMIT:]))


def _alert(
    event: Event, rule: str, state: Literal["raised", "resolved"], raised_at: float, resolved_at: float | None
) -> AlertMessage:
    return AlertMessage(
        node=event.node,
        rule=rule,
        state=state,
        id=event.id,
        seq=event.seq,
        camera=event.camera,
        label=event.label,
        score=event.top_score,
        started_at=event.started_at,
        raised_at=raised_at,
        resolved_at=resolved_at,
        late=event.late,
    )
