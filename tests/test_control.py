"""What the daemon can be told, on its own pipeline: nothing but what was asked for changes, and wrong values change
nothing."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config import read_struct
from agent.control import Control
from agent.data import Decision
from agent.errors import ConfigError
from agent.governor.limits import Limits, Rung, ceiling

LADDER = (Rung("fp32", None), Rung("fp32", 5.0), Rung("int8", 1.0))


class Pipeline:
    """Stands for the pipeline: two cameras."""

    def __init__(self) -> None:
        self.paused: dict[str, bool] = {"door": False, "gate": False}
        self.aimed: list[Decision] = []

    def pause(self, camera: str | None, paused: bool) -> list[str]:
        names = [name for name in self.paused if camera in (None, name)]
        self.paused.update(dict.fromkeys(names, paused))
        return names

    def aim(self, decision: Decision) -> None:
        self.aimed.append(decision)


class Node:
    """A control and what it was heard to do."""

    def __init__(self) -> None:
        self.pipeline = Pipeline()
        self.reloads = 0
        self.wrong = ""
        self.decided: list[Decision] = []
        self.control = Control(self.pipeline, LADDER, self._reload, self.decided.append)

    def _reload(self) -> Future[dict[str, Any]]:
        answer: Future[dict[str, Any]] = Future()
        if self.wrong:
            answer.set_exception(ConfigError(self.wrong))
        else:
            self.reloads += 1
            answer.set_result({"changed": [], "restart": []})
        return answer

    def ask(self, name: str, **arguments: Any) -> dict[str, Any]:
        struct, handler = self.control.commands()[name]
        args, faults = read_struct(struct, arguments, name)
        if args is None:
            raise ConfigError(faults)
        answer = handler(args)
        return answer.result(5) if isinstance(answer, Future) else answer

    @property
    def state(self) -> tuple[Any, ...]:
        return dict(self.pipeline.paused), list(self.pipeline.aimed), self.reloads, self.control.decision


def test_pause_and_resume_take_one_camera_or_all() -> None:
    node = Node()
    assert node.ask("pause", camera="door") == {"paused": ["door"]}
    assert node.pipeline.paused == {"door": True, "gate": False}
    assert node.ask("pause") == {"paused": ["door", "gate"]}
    assert node.ask("resume") == {"resumed": ["door", "gate"]}
    with pytest.raises(ConfigError, match="there is none called 'yard'"):
        node.ask("pause", camera="yard")


def test_a_limit_holds_until_it_is_lifted_and_each_part_alone() -> None:
    node = Node()
    assert node.ask("limit", fps=2) == {"fps": 2.0, "rung": None}
    assert node.ask("limit", rung=1) == {"fps": 2.0, "rung": 1}
    assert node.control.decision == Decision(
        rung=1, precision="fp32", rate=2.0, reason="limited by command to fps 2, rung 1"
    )
    assert node.ask("limit", fps=None) == {"fps": None, "rung": 1}
    assert node.control.decision.rate == 5.0
    assert node.decided == node.pipeline.aimed
    node.ask("limit", rung=None)
    assert node.control.decision == Decision(rung=0, precision="fp32", rate=None, reason="no limit")


def test_reload_checks_first_and_tells_every_fault() -> None:
    node = Node()
    node.wrong = "camera[0].fps: expected a number > 0.0, got -1"
    with pytest.raises(ConfigError, match=r"camera\[0\]\.fps"):
        node.ask("reload")
    assert node.reloads == 0
    node.wrong = ""
    assert node.ask("reload") == {"changed": [], "restart": []}


def test_another_ladder_keeps_the_limits_that_it_can() -> None:
    node = Node()
    node.ask("limit", fps=2, rung=2)
    node.control.climb(LADDER[:2])
    assert (node.control.decision.rung, node.control.decision.rate) == (1, 2.0)
    assert node.pipeline.aimed[-1] == node.decided[-1] == node.control.decision
    node.control.climb(LADDER[:2])
    assert len(node.decided) == 2, "the same again is no news"
    node.ask("limit", rung=None, fps=None)
    assert node.control.decision.rung == 0


VALUES = st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=10) | st.lists(st.integers())


@given(
    name=st.sampled_from(["ping", "pause", "resume", "limit", "reload"]),
    arguments=st.dictionaries(st.sampled_from(["camera", "fps", "rung", "x", ""]), VALUES, max_size=3),
)
def test_a_refused_command_changes_nothing(name: str, arguments: dict[str, Any]) -> None:
    node = Node()
    before = node.state
    try:
        answer = node.ask(name, **arguments)
    except ConfigError:
        assert node.state == before
    else:
        msgspec.json.encode(answer)


@given(
    fps=st.none() | st.floats(0.1, 1000),
    rung=st.none() | st.integers(0, len(LADDER) - 1),
)
def test_no_decision_is_above_the_limit(fps: float | None, rung: int | None) -> None:
    decision = ceiling(LADDER, Limits(fps, rung))
    assert decision.rung == (rung or 0)
    rates = [rate for rate in (fps, LADDER[rung or 0].rate) if rate is not None]
    assert decision.rate == (min(rates) if rates else None)


def test_another_ladder_is_climbed_from_its_top_within_the_limits() -> None:
    node = Node()
    node.ask("limit", rung=2)
    node.control.climb([Rung("fp16", None), Rung("fp16", 1.0)])
    assert (node.control.decision.rung, node.control.decision.precision) == (1, "fp16")
    node.ask("limit", rung=None)
    assert node.control.decision.rung == 0
    node.control.govern(1, "it is hot")
    assert node.pipeline.aimed[-1] == Decision(rung=1, precision="fp16", rate=1.0, reason="it is hot")
    node.control.govern(1, "it is still hot")
    assert [decision.reason for decision in node.decided][-1] == "it is hot", "a new reason alone is no new decision"
    assert node.control.decision.reason == "it is still hot"
