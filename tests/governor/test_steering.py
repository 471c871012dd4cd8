"""Each second the rung is applied, a plugin may replace the policy, and nobody goes above what is safe."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from waiting import wait_until

from agent.data import Decision, Health, Temperature
from agent.governor import ladder
from agent.governor.governing import Governor
from agent.governor.ladder import Cost
from agent.governor.steering import Steering
from agent.host.choosing import Chooser
from agent.host.worker import Hook

COSTS = {"fp32": Cost(1 / 30, 1.0)}
LADDER = ladder.make(COSTS, 30.0)
STEPS = ladder.weigh(LADDER, COSTS)
ARGUMENTS = ("history", "ladder", "current", "now")


class Node:
    """A steering and what it was seen to apply."""

    def __init__(self, choose: Callable[..., Any] | None = None) -> None:
        self.applied: list[tuple[int, str]] = []
        governor = Governor(STEPS, {"fp32": 1 / 30})
        chooser = (choose,) if choose else ()
        self.steering = Steering(governor, LADDER, lambda rung, why: self.applied.append((rung, why)), *chooser)

    def tick(self, at: float, celsius: float = 50.0, rung: int = 0) -> Health:
        zones = {"tj": Temperature(celsius=celsius, passive=90.0, critical=100.0)}
        return self.steering.tick(Health(node="n", at=at, temperatures=zones, rung=rung, precision="fp32"), at)


def test_the_time_in_each_rung_is_counted() -> None:
    node = Node()
    for at in range(4):
        node.tick(float(at), rung=1)
    told = node.tick(4.0, rung=2)
    assert told.rung_seconds[:3] == (0.0, 3.0, 1.0)


def test_near_the_trip_the_bottom_is_applied_and_the_headroom_told() -> None:
    node = Node()
    told = node.tick(0.0, celsius=89.5)
    rung, reason = node.applied[-1]
    assert rung == len(LADDER) - 1
    assert "the limit is reached" in reason or "0.5 K below" in reason
    assert (told.temperatures["tj"].headroom, told.temperatures["tj"].critical_headroom) == (0.5, 10.5)


def test_a_plugins_rung_is_applied_but_never_above_what_is_safe() -> None:
    node = Node(lambda health, ladder, current, now: ("mine", 2))
    node.tick(0.0, celsius=40.0)
    assert node.applied[-1] == (2, "plugin mine")
    node.tick(1.0, celsius=90.2)
    rung, reason = node.applied[-1]
    assert rung == len(LADDER) - 1
    assert "plugin mine wanted rung 2" in reason


def test_without_a_governor_nothing_is_applied() -> None:
    applied: list[Any] = []
    steering = Steering(None, LADDER, lambda rung, why: applied.append(rung))
    steering.tick(Health(node="n", at=0.0), 0.0)
    assert applied == []


# the plugins' side


def _chooser(*functions: Callable[..., Any]) -> Chooser:
    return Chooser({f"p{number}": Hook(function, ARGUMENTS) for number, function in enumerate(functions)})


def _decision(rung: int) -> Decision:
    return Decision(rung=rung, precision="fp32", rate=None, reason="")


RUNGS = [_decision(number) for number in range(3)]
NODE = Health(node="n", at=0.0)


def test_the_first_plugin_that_answers_counts() -> None:
    chooser = _chooser(lambda **_: None, lambda **values: values["ladder"][1], lambda **_: _decision(2))
    assert chooser.choose(NODE, RUNGS, 0, 0.0) == ("p1", 1)
    chooser.close()


@pytest.mark.parametrize(
    "answer",
    [7, "0", _decision(3), _decision(-1), Decision(rung=1.0, precision="", rate=None, reason="")],  # type: ignore[arg-type]
)
def test_an_answer_that_is_none_counts_as_no_answer_and_its_hook_is_taken_away(answer: Any) -> None:
    chooser = _chooser(lambda **_: answer, lambda **_: _decision(1))
    for _ in range(6):
        assert chooser.choose(NODE, RUNGS, 0, 0.0) == ("p1", 1)
    assert "choose_rung taken away" in chooser.lost["p0"]
    chooser.close()


def _exits(**_: Any) -> None:
    raise SystemExit(1)


def test_a_policy_that_raises_ends_nothing() -> None:
    chooser = _chooser(_exits, lambda **_: _decision(2))
    assert chooser.choose(NODE, RUNGS, 0, 0.0) == ("p1", 2)
    chooser.close()


def test_a_policy_that_hangs_is_not_asked_again_until_it_returned_and_never_holds_the_monitor() -> None:
    go, calls = threading.Event(), []

    def hang(**_: Any) -> Decision:
        calls.append(1)
        go.wait(20)
        return _decision(1)

    chooser = _chooser(hang)
    for _ in range(3):
        assert chooser.choose(NODE, RUNGS, 0, 0.0) is None
    assert calls == [1]
    go.set()
    wait_until(lambda: chooser.choose(NODE, RUNGS, 0, 0.0) == ("p0", 1))
    chooser.close()


def test_a_policy_is_shown_ten_minutes_of_health_the_newest_last_and_without_one_nothing_is_kept() -> None:
    shown: list[tuple[float, ...]] = []

    def look(history: tuple[Health, ...], **_: Any) -> None:
        shown.append(tuple(health.at for health in history))

    chooser = _chooser(look)
    for at in range(700):
        chooser.choose(Health(node="n", at=float(at)), RUNGS, 0, 0.0)
    assert shown[0] == (0.0,)
    assert shown[-1] == tuple(float(at) for at in range(100, 700))
    chooser.put("p0", None)
    chooser.choose(NODE, RUNGS, 0, 0.0)
    chooser.put("p0", Hook(look, ARGUMENTS))
    chooser.choose(NODE, RUNGS, 0, 0.0)
    assert shown[-1] == (0.0,)
    chooser.close()
