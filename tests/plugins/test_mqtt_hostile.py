"""Ten thousand hostile commands, from the message to the daemon's own controls: refused ones change nothing."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.control import Control
from agent.data import Decision
from agent.errors import ConfigError
from agent.governor.limits import Rung
from agent.host.log import EventLog
from agent.host.manager import Host
from plugins.mqtt.commands import LARGEST, LONGEST_ERROR, LONGEST_NAME, Commands
from plugins.mqtt.config import COMMANDS
from plugins.mqtt.topics import Topics

BASE = "edgewarden/node/command/"


class Pipeline:
    """Two cameras, and what they were told."""

    def __init__(self) -> None:
        self.paused = {"door": False, "gate": False}
        self.aimed: Decision | None = None

    def pause(self, camera: str | None, paused: bool) -> list[str]:
        names = [name for name in self.paused if camera in (None, name)]
        self.paused.update(dict.fromkeys(names, paused))
        return names

    def aim(self, decision: Decision) -> None:
        self.aimed = decision


class Node:
    """The plugin's commands before the real host and the daemon's own commands."""

    def __init__(self, folder: Path) -> None:
        self._log = EventLog(folder / "events.db")
        self._host = Host(
            node="node", state_dir=folder, log=self._log, tables={}, latest_frame=lambda _: None, entry_points=[]
        )
        self._host.load()
        self._topics = Topics("edgewarden", "node")
        self._now = 0.0
        self.reloads = 0
        self.renew()

    def renew(self) -> None:
        """A new control that nobody told anything yet."""
        self.pipeline = Pipeline()
        self.control = Control(self.pipeline, (Rung("fp32", None), Rung("int8", 2.0)), self._reload, lambda _: None)
        self._host.provide(self.control.commands())
        self.commands = Commands(COMMANDS, self._host.command, self._answer, lambda _: None)
        self.answers: list[tuple[str, bytes]] = []

    def _reload(self) -> Future[dict[str, Any]]:
        self.reloads += 1
        raise ConfigError("camera[0].fps: expected a number > 0.0, got -1")

    def _answer(self, name: str, payload: bytes) -> None:
        self.answers.append((self._topics.result(name), payload))

    def receive(self, name: str, payload: bytes, retained: bool) -> None:
        self._now += 1.0
        self.commands.receive(name, payload, retained, self._now)

    @property
    def state(self) -> tuple[Any, ...]:
        return dict(self.pipeline.paused), self.pipeline.aimed, self.control.decision

    def close(self) -> None:
        self._log.close()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    node = Node(tmp_path_factory.mktemp("hostile"))
    yield node
    node.close()


LEAVES = st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
KEYS = st.sampled_from(["id", "camera", "fps", "rung", "__class__", ""]) | st.text(max_size=8)
NEARLY = st.dictionaries(KEYS, VALUES | st.sampled_from(["door", 1, 0, 2.5]), max_size=4)
NAMES = st.sampled_from(COMMANDS) | st.text(max_size=100)


def _json(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value)
    except (ValueError, UnicodeEncodeError, OverflowError):
        return b"{nan}"


JSON = (VALUES | NEARLY).map(_json) | NEARLY.map(lambda keys: _json({"id": "a", **keys}))
CUT = st.tuples(JSON, st.integers(0, 40)).map(lambda both: both[0][: both[1]])
GIANT = st.integers(LARGEST, 3 * LARGEST).map(lambda size: b'{"id": "a", "camera": "' + b"x" * size + b'"}')
PAYLOADS = st.binary(max_size=200) | JSON | CUT | GIANT | st.just(b"[" * 5000)


@settings(max_examples=10_000, deadline=None)
@given(name=NAMES, payload=PAYLOADS, retained=st.booleans())
def test_ten_thousand_hostile_commands_crash_nothing_change_nothing_and_answer_below_the_base(
    node: Node, name: str, payload: bytes, retained: bool
) -> None:
    node.renew()
    before = node.state
    node.receive(name, payload, retained)
    for topic, answer in node.answers:
        assert topic.startswith(BASE)
        assert topic.endswith("/result")
        assert topic.count("/") == BASE.count("/") + 1
        assert not set("+#\x00") & set(topic)
        assert len(topic.encode()) < 65_536
        assert len(answer) < 4 * LONGEST_ERROR
    accepted = [msgspec.json.decode(answer)["ok"] for _, answer in node.answers]
    assert len(accepted) == (0 if retained or (len(name) > LONGEST_NAME and name not in COMMANDS) else 1)
    if not any(accepted):
        assert node.state == before
