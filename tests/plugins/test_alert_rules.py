"""What alert rules promise, for any stream of events: no cooldown exceeded, each alert raised and resolved once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import Event
from agent.testing import make_event
from plugins.alert.config import AlertConfig, Rule, Webhook
from plugins.alert.courier import delay_after
from plugins.alert.recall import Recall
from plugins.alert.rules import OPEN_LIMIT, AlertMessage, Memory, judge


def _event(event_id: str = "a", kind: str = "start", **changes: Any) -> Event:
    return make_event(id=event_id, kind=kind, **changes)


def _raised(rule: Rule, *events: tuple[float, Event]) -> list[str]:
    """``id state`` of the alerts of one rule for events at their times."""
    memory, told = Memory(), []
    for now, event in events:
        alerts, memory = judge([rule], memory, event, now)
        told += [f"{alert.id} {alert.state}" for alert in alerts]
    return told


def test_a_rule_without_conditions_is_about_every_event_of_its_score() -> None:
    assert _raised(Rule(name="r"), (0.0, _event(top_score=0.5))) == ["a raised"]
    assert _raised(Rule(name="r"), (0.0, _event(top_score=0.49))) == []


@pytest.mark.parametrize(
    ("keys", "hit"),
    [
        ({"labels": ("person", "dog")}, True),
        ({"labels": ("dog",)}, False),
        ({"cameras": ("cam",)}, True),
        ({"cameras": ("gate",)}, False),
        ({"labels": ("person",), "cameras": ("gate",)}, False),
        ({"min_score": 0.8}, True),
        ({"min_score": 0.81}, False),
    ],
)
def test_every_condition_of_a_rule_must_hold(keys: dict[str, Any], hit: bool) -> None:
    assert bool(_raised(Rule(name="r", **keys), (0.0, _event()))) is hit


def test_an_update_raises_what_the_start_did_not_and_only_once() -> None:
    events = [
        (0.0, _event(top_score=0.3)),
        (1.0, _event(kind="update", top_score=0.7)),
        (100.0, _event(kind="update", top_score=0.9)),
        (200.0, _event(kind="end", top_score=0.9)),
        (201.0, _event(kind="end", top_score=0.9)),
    ]
    assert _raised(Rule(name="r", cooldown=1.0), *events) == ["a raised", "a resolved"]


def test_an_event_that_was_not_alerted_resolves_nothing() -> None:
    assert _raised(Rule(name="r"), (0.0, _event(top_score=0.1)), (1.0, _event(kind="end", top_score=0.9))) == []


def test_the_cooldown_holds_for_its_camera_alone_and_filtered_events_do_not_consume_it() -> None:
    events = [
        (0.0, _event("low", top_score=0.2)),
        (1.0, _event("a")),
        (30.0, _event("b")),
        (31.0, _event("c", camera="gate")),
        (61.0, _event("b", kind="update")),
    ]
    assert _raised(Rule(name="r", cooldown=60.0), *events) == ["a raised", "c raised", "b raised"]


def test_a_clock_that_is_set_back_by_hours_does_not_silence_a_rule() -> None:
    assert _raised(Rule(name="r"), (1e9, _event("a")), (5.0, _event("b"))) == ["a raised", "b raised"]


def test_an_alert_of_a_late_event_says_so_and_keeps_its_time_of_raising() -> None:
    (alert,), memory = judge([Rule(name="r")], Memory(), _event(late=True), 7.0)
    assert (alert.late, alert.raised_at, alert.resolved_at) == (True, 7.0, None)
    (resolved,), _ = judge([Rule(name="r")], memory, _event(kind="end", seq=4), 9.0)
    assert (resolved.raised_at, resolved.resolved_at, resolved.seq) == (7.0, 9.0, 4)


RULES = [
    Rule(name="any", cooldown=10.0),
    Rule(name="dogs", labels=("dog",), min_score=0.7, cooldown=3.0),
    Rule(name="gate", cameras=("gate",), min_score=0.2, cooldown=0.0),
]
STEP = st.tuples(
    st.floats(0, 8),
    st.sampled_from(["start", "update", "update", "end"]),
    st.sampled_from(["e1", "e2", "e3", "e4"]),
    st.floats(0, 1),
    st.booleans(),
    st.booleans(),
)


@given(st.lists(STEP, max_size=80))
def test_no_stream_of_events_breaks_a_promise(steps: list[tuple[float, str, str, float, bool, bool]]) -> None:
    now, memory, told = 0.0, Memory(), []
    for pause, kind, event_id, score, committed, restarted in steps:
        now += pause
        labels = {"e1": "dog", "e2": "person", "e3": "dog", "e4": "cat"}
        camera = "gate" if event_id in ("e1", "e4") else "cam"
        event = _event(event_id, kind, top_score=score, label=labels[event_id], camera=camera)
        alerts, next_memory = judge(RULES, memory, event, now)
        if not committed:
            continue  # the outbox failed: nothing was told, and nothing may be remembered
        told += [(now, alert) for alert in alerts]
        memory = next_memory
        if restarted:
            memory = msgspec.json.decode(msgspec.json.encode(memory), type=Memory)
    _check_promises(told)


def _check_promises(told: list[tuple[float, AlertMessage]]) -> None:
    balance: Counter[tuple[str, str]] = Counter()
    last: dict[tuple[str, str], float] = {}
    cooldown = {rule.name: rule.cooldown for rule in RULES}
    for now, alert in told:
        if alert.state == "raised":
            assert now - last.get((alert.rule, alert.camera), float("-inf")) >= cooldown[alert.rule]
            last[alert.rule, alert.camera] = now
        balance[alert.rule, alert.id] += 1 if alert.state == "raised" else -1
        assert balance[alert.rule, alert.id] in (0, 1)


def test_events_that_never_end_do_not_fill_the_memory() -> None:
    memory = Memory()
    for n in range(OPEN_LIMIT + 50):
        _, memory = judge([Rule(name="r", cooldown=0.0)], memory, _event(f"e{n}"), float(n))
    assert len(memory.open) == OPEN_LIMIT
    assert "e0" not in memory.open


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_tries_are_spread_and_never_further_apart_than_the_cap(failures: int, jitter: float) -> None:
    assert 0.25 <= delay_after(failures, jitter) <= 30.0


def test_the_memory_survives_on_disk_and_damage_begins_it_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recall = Recall(tmp_path / "memory.json")
    assert recall.load() == Memory()
    memory = Memory(cooldowns={"r": {"cam": 5.0}}, open={"a": {"r": 5.0}})
    assert recall.save(memory)
    assert Recall(tmp_path / "memory.json").load() == memory
    (tmp_path / "memory.json").write_bytes(b'{"open": ')
    assert recall.load() == Memory()
    assert "begin anew" in caplog.text
    assert not Recall(tmp_path / "nowhere" / "memory.json").save(memory)


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        ({}, "rule"),
        ({"rule": []}, "length >= 1"),
        ({"rule": [{"name": "r"}, {"name": "r"}]}, "two rules are named 'r'"),
        ({"rule": [{"name": "r", "min_score": 2}]}, "min_score"),
        ({"rule": [{"name": "r", "labls": []}]}, "labls"),
        ({"rule": [{"name": "r"}], "webhook": {"url": "file:///etc/passwd"}}, "http"),
        ({"rule": [{"name": "r"}], "webhook": {"url": "http:///x"}}, "http"),
        ({"rule": [{"name": "r"}], "webhook": {"url": "http://eve:horse@h/"}}, "token_file"),
        ({"rule": [{"name": "r"}], "webhook": {"url": "http://h/a b"}}, "white space"),
        ({"rule": [{"name": "r"}], "webhook": {"url": "http://h/", "headers": {"A": "b\r\nC: d"}}}, "headers"),
    ],
)
def test_a_wrong_table_is_named(table: dict[str, Any], fault: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=fault):
        msgspec.convert(table, AlertConfig)


def test_a_proper_webhook_is_taken() -> None:
    table = {"rule": [{"name": "r"}], "webhook": {"url": "https://h:8443/x?y=1", "headers": {"X-Key": "k"}}}
    assert isinstance(msgspec.convert(table, AlertConfig).webhook, Webhook)
