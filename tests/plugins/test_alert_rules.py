"""What alert rules are about, when they raise, whom they let join, and when it is over."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import Crossing, Event
from agent.testing import make_event
from plugins.alert.config import AlertConfig, Rule, Webhook
from plugins.alert.courier import delay_after
from plugins.alert.gate import Gate, Gates
from plugins.alert.message import AlertMessage, sentence
from plugins.alert.recall import Recall
from plugins.alert.rules import OPEN_LIMIT, Memory, Verdict, hear, tick
from plugins.alert.schedule import on_duty, parse_hours

NOON = datetime(2026, 3, 4, 12, 0).timestamp()  # a Wednesday
CAMERAS = {"cam", "gate"}


class Scene:
    """Rules and one sink that takes everything at once; times are seconds after ``base``."""

    def __init__(self, *rules: Rule, base: float = NOON) -> None:
        self.rules = rules
        self.base = base
        self.memory = Memory()
        self.gate = Gate("log", {rule.name: rule for rule in rules})
        self.messages: list[AlertMessage] = []
        self._events: dict[str, Event] = {}

    def event(self, at: float, name: str = "a", kind: str = "start", **changes: Any) -> Scene:
        now = self.base + at
        before = self._events.get(name)
        values = {"id": name, "kind": kind, "updated_at": now, "started_at": before.started_at if before else now}
        old = {key: getattr(before, key) for key in ("camera", "label", "zones", "top_score", "seq")} if before else {}
        if before is not None:
            old["seq"] += 1
        self._events[name] = event = make_event(**{**old, **values, **changes})
        return self._adopt(hear(self.rules, self.memory, event, Gates([self.gate]), now), now)

    def tick(self, at: float, cameras: set[str] = CAMERAS) -> Scene:
        now = self.base + at
        return self._adopt(tick(self.rules, self.memory, Gates([self.gate]), now, cameras), now)

    def _adopt(self, verdict: Verdict, now: float) -> Scene:
        self.memory = verdict.memory
        for message in verdict.messages:
            self.gate.queued(message)
            if not self.gate.admit(message, now):
                self.gate.delivered(message, now)
                self.messages.append(message)
        return self

    @property
    def told(self) -> list[str]:
        return [f"{message.id} {message.state}" for message in self.messages]


def test_a_rule_without_conditions_is_about_every_event_of_its_score() -> None:
    assert Scene(Rule(name="r")).event(0, top_score=0.5).told == ["a raised"]
    assert Scene(Rule(name="r")).event(0, top_score=0.49).told == []


@pytest.mark.parametrize(
    ("keys", "hit"),
    [
        ({"labels": ("person", "dog")}, True),
        ({"labels": ("dog",)}, False),
        ({"cameras": ("cam",)}, True),
        ({"cameras": ("gate",)}, False),
        ({"labels": ("person",), "cameras": ("gate",)}, False),
        ({"zones": ("yard", "drive")}, True),
        ({"zones": ("drive",)}, False),
        ({"lines": ("drive",)}, True),
        ({"lines": ("drive:in", "street:out")}, True),
        ({"lines": ("drive:out",)}, False),
        ({"signs": ("loitering",)}, True),
        ({"signs": ("left_behind", "removed")}, False),
        ({"min_score": 0.8}, True),
        ({"min_score": 0.81}, False),
        ({"hours": ("08:00-12:00", "11:30-13:00")}, True),
        ({"hours": ("13:00-11:00",)}, False),
        ({"weekdays": ("wed",)}, True),
        ({"weekdays": ("sat", "sun")}, False),
    ],
)
def test_every_condition_of_a_rule_must_hold(keys: dict[str, Any], hit: bool) -> None:
    crossing = Crossing(line="drive", direction="in", at=NOON)
    scene = Scene(Rule(name="r", **keys)).event(0, zones=("yard",), crossings=(crossing,), loitering=("yard",))
    assert bool(scene.told) is hit


def test_an_update_raises_what_the_start_did_not_and_only_once() -> None:
    scene = Scene(Rule(name="r", cooldown=1.0)).event(0, top_score=0.3).event(1, kind="update", top_score=0.7)
    scene.event(100, kind="update", top_score=0.9).event(200, kind="end").event(201, kind="end")
    assert scene.told == ["a raised", "a resolved"]


def test_an_event_whose_last_word_makes_it_worth_telling_is_told_then() -> None:
    scene = Scene(Rule(name="r")).event(0, top_score=0.1).event(1, kind="end", top_score=0.9)
    assert scene.told == ["a raised", "a resolved"]


def test_an_end_without_a_beginning_raises_nothing() -> None:
    assert Scene(Rule(name="r")).event(0, kind="end").told == []


def test_the_cooldown_holds_for_its_camera_alone_and_filtered_events_do_not_consume_it() -> None:
    scene = Scene(Rule(name="r", cooldown=60.0, group=0.0)).event(0, "low", top_score=0.2)
    scene.event(1, "a").event(30, "b").event(31, "c", camera="gate").event(61, "b", kind="update")
    assert scene.told == ["a raised", "c raised", "b raised"]


@pytest.mark.parametrize(("per", "raised"), [("rule", 1), ("camera", 2), ("zone", 3), ("track", 4)])
def test_a_cooldown_is_for_the_rule_the_camera_the_zone_or_the_track(per: Any, raised: int) -> None:
    scene = Scene(Rule(name="r", zones=("x", "y"), per=per, group=0.0))
    scene.event(0, "a", zones=("x",), track=1).event(10, "b", zones=("y",), track=2)
    scene.event(20, "c", zones=("x",), track=3).event(30, "d", zones=("x",), camera="gate", track=1)
    assert len(scene.told) == raised


def test_who_is_still_there_when_the_cooldown_is_over_is_told_without_a_further_word() -> None:
    scene = Scene(Rule(name="r", cooldown=60.0, group=0.0)).event(0).event(1, kind="end").event(30, "b").tick(59)
    assert scene.told == ["a raised", "a resolved"]
    assert scene.tick(60).told == ["a raised", "a resolved", "b raised"]


def test_a_dwell_is_reached_without_a_further_word_but_not_while_the_camera_is_gone() -> None:
    scene = Scene(Rule(name="r", dwell=10.0)).event(0).tick(9)
    assert scene.told == []
    assert scene.tick(11, cameras={"gate"}).told == []
    assert scene.tick(11).told == ["a raised"]


def test_a_dwell_is_the_events_own_where_it_tells_one_but_of_this_visit_alone() -> None:
    scene = Scene(Rule(name="r", dwell=10.0, zones=("yard",))).event(0, zones=("street",))
    scene.event(20, kind="update", zones=("yard",), dwell={"yard": 0.8})
    assert scene.tick(29).told == []
    assert scene.tick(29.3).told == ["a raised"]
    scene.event(30, kind="update", zones=(), dwell={"yard": 0.9}).event(
        100, kind="update", zones=("yard",), dwell={"yard": 1.5}
    )
    assert scene.tick(109).told == ["a raised", "a resolved"]
    assert scene.tick(109.4).told == ["a raised", "a resolved", "a raised"]


def test_a_dwell_counts_from_entering_the_zone() -> None:
    scene = Scene(Rule(name="r", dwell=10.0, zones=("yard",))).event(0).event(20, kind="update", zones=("yard",))
    assert scene.tick(29).told == []
    assert scene.tick(30).messages[0].zone == "yard"


def test_so_many_must_be_there_at_once_and_in_one_place() -> None:
    rule = Rule(name="r", count=3, zones=("yard",))
    scene = Scene(rule).event(0, "a", zones=("yard",)).event(1, "b", zones=("yard",)).event(2, "c", zones=("drive",))
    scene.event(3, "d", zones=("yard",), camera="gate")
    assert scene.told == []
    scene.event(4, "e", zones=("yard",))
    assert [(one.count, one.events) for one in scene.messages] == [(3, ("a", "b", "e"))]
    assert scene.event(50, "f", zones=("yard",)).event(51, "a", kind="end").told == ["a raised"]
    assert scene.event(52, "b", kind="end").told == ["a raised", "a resolved"]


def test_those_that_come_together_are_one_alert_that_is_over_with_the_last_of_them() -> None:
    scene = Scene(Rule(name="r", group=5.0)).event(0, "a").event(1, "b", camera="gate").event(4, "c").tick(5)
    assert scene.told == ["a raised"]
    scene.tick(6)
    update = scene.messages[-1]
    assert (update.state, update.count, update.events) == ("updated", 3, ("a", "b", "c"))
    assert update.cameras == ("cam", "gate")
    scene.event(7, "a", kind="end").event(8, "b", kind="end").tick(9)
    assert scene.told == ["a raised", "a updated"]
    assert scene.event(10, "c", kind="end").told == ["a raised", "a updated", "a resolved"]


def test_an_alert_is_over_when_its_zone_was_left() -> None:
    scene = Scene(Rule(name="r", zones=("yard", "drive"))).event(0, zones=("yard",))
    scene.event(2, kind="update", zones=("drive",))
    assert scene.told == ["a raised"]
    scene.event(4, kind="update", zones=("street",)).event(6, kind="update", zones=("yard",))
    assert scene.told == ["a raised", "a resolved"]
    assert scene.event(66, kind="update").told == ["a raised", "a resolved", "a raised"]
    assert len({message.alert for message in scene.messages}) == 2


def test_what_lasts_is_escalated_once() -> None:
    scene = Scene(Rule(name="r", escalate_after=30.0)).event(0).tick(29).tick(30).tick(90).event(91, kind="end")
    assert scene.told == ["a raised", "a escalated", "a resolved"]
    assert [message.escalated_at for message in scene.messages] == [None, NOON + 30, NOON + 30]


def test_a_rate_is_never_exceeded_and_what_it_cost_is_told_in_one_summary() -> None:
    scene = Scene(Rule(name="r", cooldown=0.0, group=0.0, rate=2, rate_period=100.0))
    for n in range(5):
        scene.event(n, f"e{n}").event(n + 0.5, f"e{n}", kind="end")
        scene.gate.turned_away(scene.messages[0], "rate", NOON) if n > 1 else None
    assert scene.told == ["e0 raised", "e0 resolved", "e1 raised", "e1 resolved"]
    assert scene.gate.summaries(NOON + 99) == []
    (summary,) = scene.gate.summaries(NOON + 101)
    assert (summary.state, summary.suppressed) == ("suppressed", 3)
    assert sentence(summary) == "alert r: 3 more not told"
    scene.gate.delivered(summary, NOON + 101)
    assert scene.gate.summaries(NOON + 300) == []


def test_an_alert_that_no_sink_took_was_none_and_is_raised_again_when_one_would() -> None:
    rule = Rule(name="r", cooldown=60.0, group=0.0)
    scene = Scene(rule).event(0)
    scene.gate.held = lambda *_: ""  # type: ignore[method-assign]  # as if the first were still under way
    scene.event(30, "b").event(31, "b", kind="update")
    assert scene.told == ["a raised"]
    assert scene.tick(61).told == ["a raised", "b raised"]
    assert scene.event(62, "b", kind="end").told == ["a raised", "b raised", "b resolved"]


def test_an_old_frame_raises_nothing_until_a_fresh_one_confirms() -> None:
    scene = Scene(Rule(name="r")).event(0, frame_age_ms=6000.0).tick(1)
    assert scene.told == []
    assert scene.event(2, kind="update", frame_age_ms=100.0).told == ["a raised"]
    assert Scene(Rule(name="r")).event(0, frame_age_ms=6000.0).event(1, kind="end").told == []


def test_what_is_past_is_told_as_late_or_not_at_all() -> None:
    assert Scene(Rule(name="r")).event(0, late=True).messages[0].late
    assert Scene(Rule(name="r")).event(0, updated_at=NOON - 60).messages[0].late
    assert not Scene(Rule(name="r")).event(0, updated_at=NOON - 1).messages[0].late
    assert not Scene(Rule(name="r")).event(0, updated_at=5.0, clock_synced=False).messages[0].late
    assert Scene(Rule(name="r", late="drop")).event(0, late=True).event(1, kind="end", late=True).told == []


def test_the_hours_of_a_late_event_are_those_of_its_time() -> None:
    rule = Rule(name="r", hours=("10:00-11:00",))
    morning = NOON - 5400
    assert Scene(rule).event(0, late=True, updated_at=morning, started_at=morning).told == ["a raised"]
    assert Scene(rule).event(0).told == []


def test_a_clock_that_is_set_back_by_hours_does_not_silence_a_rule() -> None:
    scene = Scene(Rule(name="r", group=0.0), base=1e9).event(0, "a").event(5 - 1e9, "b").event(6 - 1e9, "c")
    assert scene.told == ["a raised", "b raised"]


def test_alerts_of_a_rule_that_is_gone_are_resolved() -> None:
    scene = Scene(Rule(name="r")).event(0)
    scene.rules = (Rule(name="other"),)
    assert scene.tick(1).told == ["a raised", "a raised", "a resolved"]
    assert [message.rule for message in scene.messages] == ["r", "other", "r"]


def test_events_that_never_end_do_not_fill_the_memory() -> None:
    scene = Scene(Rule(name="r", cooldown=0.0, group=0.0, rate=100_000))
    for n in range(OPEN_LIMIT + 50):
        scene.event(n / 100, f"e{n}")
    assert len(scene.memory.alerts) == len(scene.memory.sightings) == OPEN_LIMIT
    assert "e0 resolved" in scene.told


@pytest.mark.parametrize(
    ("hours", "weekdays", "when", "on"),
    [
        (("22:00-06:00",), (), "2026-03-04 22:00", True),
        (("22:00-06:00",), (), "2026-03-04 05:59", True),
        (("22:00-06:00",), (), "2026-03-04 06:00", False),
        (("22:00-06:00",), ("tue",), "2026-03-04 05:00", True),
        (("22:00-06:00",), ("wed",), "2026-03-04 05:00", False),
        (("22:00-06:00",), ("wed",), "2026-03-04 23:00", True),
        (("00:00-24:00",), ("wed",), "2026-03-04 23:59", True),
        (("09:00-10:00", "14:00-15:00"), (), "2026-03-04 14:30", True),
        ((), ("thu",), "2026-03-04 14:30", False),
    ],
)
def test_a_night_belongs_to_the_day_on_which_it_began(hours: Any, weekdays: Any, when: str, on: bool) -> None:
    assert on_duty(hours, weekdays, datetime.fromisoformat(when)) is on


@given(st.integers(0, 1439), st.integers(0, 1439), st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)))
def test_a_span_and_its_complement_share_the_day(begin: int, end: int, when: datetime) -> None:
    if begin != end:
        one, other = (f"{a // 60:02}:{a % 60:02}-{b // 60:02}:{b % 60:02}" for a, b in ((begin, end), (end, begin)))
        assert parse_hours(one) == (begin, end)
        assert on_duty((one,), (), when) != on_duty((other,), (), when)


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_tries_are_spread_and_never_further_apart_than_the_cap(failures: int, jitter: float) -> None:
    assert 0.25 <= delay_after(failures, jitter) <= 30.0


def test_the_memory_survives_on_disk_and_damage_begins_it_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recall = Recall(tmp_path / "memory.json", Memory)
    assert recall.load() == Memory()
    memory = Scene(Rule(name="r")).event(0).memory
    assert recall.save(memory)
    assert Recall(tmp_path / "memory.json", Memory).load() == memory
    (tmp_path / "memory.json").write_bytes(b'{"alerts": ')
    assert recall.load() == Memory()
    assert "begin anew" in caplog.text
    assert not Recall(tmp_path / "nowhere" / "memory.json", Memory).save(memory)


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        ({"rule": []}, "empty list"),
        ({"rule": [{"name": "r"}, {"name": "r"}]}, "two rules are named 'r'"),
        ({"rule": [{"name": "r", "min_score": 2}]}, "min_score"),
        ({"rule": [{"name": "r", "labls": []}]}, "labls"),
        ({"rule": [{"name": "r", "hours": ["22-6"]}]}, "no span of a day"),
        ({"rule": [{"name": "r", "hours": ["07:00-07:00"]}]}, "no span of a day"),
        ({"rule": [{"name": "r", "weekdays": ["Monday"]}]}, "weekdays"),
        ({"rule": [{"name": "r", "count": 0}]}, "count"),
        ({"rule": [{"name": "r", "to": ["pager"]}]}, "tells pager; there is log, mqtt"),
        ({"rule": [{"name": "r", "escalate_to": ["log"]}]}, "escalate_after"),
        ({"webhook": {"url": "file:///etc/passwd"}}, "http"),
        ({"webhook": {"url": "http:///x"}}, "http"),
        ({"webhook": {"url": "http://eve:horse@h/"}}, "token_file"),
        ({"webhook": {"url": "http://h/a b"}}, "white space"),
        ({"webhook": {"url": "http://h/", "headers": {"A": "b\r\nC: d"}}}, "headers"),
        ({"webhook": {"url": "http://h/", "ca_file": "x"}}, "https"),
        ({"webhook": {"url": "https://h/", "key_file": "x"}}, "cert_file"),
        ({"webhook": [{"url": "http://h/"}, {"url": "http://i/"}]}, "two sinks are named 'webhook'"),
        ({"webhook": {"url": "http://h/", "name": "../../x"}}, "name"),
        ({"apprise": {"urls_file": "f", "title": "{secret}"}}, "title"),
    ],
)
def test_a_wrong_table_is_named(table: dict[str, Any], fault: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=fault):
        msgspec.convert(table, AlertConfig)


def test_a_proper_webhook_is_taken_and_without_rules_there_is_one_about_people() -> None:
    table = {"webhook": {"url": "https://h:8443/x?y=1", "headers": {"X-Key": "k"}}}
    config = msgspec.convert(table, AlertConfig)
    assert isinstance(config.webhook, Webhook)
    assert [rule.labels for rule in config.rule] == [("person",)]
