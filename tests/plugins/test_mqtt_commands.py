"""Commands from the broker: what is hostile changes nothing, what is repeated is done once, everything is answered."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import msgspec

from agent import PluginError
from plugins.mqtt.commands import BURST, LARGEST, LARGEST_ANSWER, REMEMBERED, Commands
from plugins.mqtt.config import COMMANDS, MqttConfig


class Node:
    """Stands behind the commands: notes what was asked for and what was answered."""

    def __init__(self, allowed: tuple[str, ...] = COMMANDS) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.answers: list[tuple[str, dict[str, Any]]] = []
        self.counts: list[str] = []
        self.fails: Exception | None = None
        self.result: dict[str, Any] = {"at": 1.0}
        self.now = 0.0
        self.commands = Commands(allowed, self._ask, self._answer, self.counts.append)

    def _ask(self, name: str, arguments: Any) -> Future[dict[str, Any]]:
        self.asked.append((name, dict(arguments)))
        future: Future[dict[str, Any]] = Future()
        if self.fails is not None:
            future.set_exception(self.fails)
        else:
            future.set_result(self.result)
        return future

    def _answer(self, name: str, payload: bytes) -> None:
        assert len(payload) < 1000
        self.answers.append((name, msgspec.json.decode(payload)))

    def send(self, name: str, payload: bytes, retained: bool = False) -> None:
        self.now += 1.0
        self.commands.receive(name, payload, retained, self.now)

    @property
    def last(self) -> dict[str, Any]:
        return self.answers[-1][1]


def test_a_command_is_done_and_answered_by_its_id() -> None:
    node = Node()
    node.send("limit", b'{"id": "a", "fps": 5}')
    assert node.asked == [("limit", {"fps": 5})]
    assert node.answers == [("limit", {"at": 1.0, "id": "a", "ok": True})]


def test_a_repeated_id_is_answered_again_and_not_done_again() -> None:
    node = Node()
    for _ in range(3):
        node.send("pause", b'{"id": "a"}')
    assert len(node.asked) == 1
    assert node.answers == [("pause", {"at": 1.0, "id": "a", "ok": True})] * 3
    node.send("resume", b'{"id": "a"}')
    assert len(node.asked) == 2, "the id belongs to its command"


def test_a_command_that_is_still_being_done_is_not_begun_again() -> None:
    node, pending = Node(), Future[dict[str, Any]]()
    commands = Commands(COMMANDS, lambda *_: pending, node._answer, node.counts.append)
    commands.receive("ping", b'{"id": "a"}', False, 1.0)
    commands.receive("ping", b'{"id": "a"}', False, 2.0)
    assert node.answers == []
    pending.set_result({})
    assert node.answers == [("ping", {"id": "a", "ok": True})]


def test_a_failure_is_answered_with_its_reason_and_a_fault_of_ours_without_details() -> None:
    node = Node()
    node.fails = PluginError("camera 'x': there is none")
    node.send("snapshot", b'{"id": "a", "camera": "x"}')
    assert node.last == {"id": "a", "ok": False, "error": "camera 'x': there is none"}
    node.fails = RuntimeError("/etc/secret")
    node.send("snapshot", b'{"id": "b", "camera": "x"}')
    assert node.last == {"id": "b", "ok": False, "error": "failed: RuntimeError"}


def test_an_answer_without_a_json_form_says_so() -> None:
    node = Node()
    node.result = {"thing": object()}
    node.send("ping", b'{"id": "a"}')
    assert node.last == {"id": "a", "ok": False, "error": "the answer has no JSON form"}


def test_what_is_not_allowed_retained_or_malformed_is_refused_and_nothing_done() -> None:
    node = Node(("ping",))
    node.send("pause", b'{"id": "a"}')
    assert "not allowed" in node.last["error"]
    node.send("ping", b'{"id": "a"}', retained=True)
    for payload in (b"", b"{", b"[]", b"5", b'"x"', b"{}", b'{"id": ""}', b'{"id": 5}', b"\xff\xfe", b"[" * 3000):
        node.send("ping", payload)
        assert node.last["ok"] is False
        assert node.last["id"] is None
    node.send("ping", b'{"id": "a", "x": "' + b"y" * LARGEST + b'"}')
    assert node.last["error"] == f"larger than {LARGEST} bytes"
    assert node.asked == []
    assert set(node.counts) == {"commands_unknown", "commands_retained", "commands_malformed"}


def test_a_flood_is_refused_beyond_its_burst_and_served_again_later() -> None:
    node = Node()
    for number in range(50):
        node.commands.receive("ping", f'{{"id": "{number}"}}'.encode(), False, 100.0)
    assert len(node.asked) == int(BURST)
    assert "too many commands" in node.last["error"]
    node.commands.receive("ping", b'{"id": "later"}', False, 110.0)
    assert len(node.asked) == int(BURST) + 1


def test_the_memory_of_ids_is_bounded() -> None:
    node = Node()
    for number in range(REMEMBERED + 50):
        node.send("ping", f'{{"id": "{number}"}}'.encode())
    assert len(node.commands._done) == REMEMBERED


def test_a_flood_is_not_answered_with_a_flood() -> None:
    node = Node()
    for number in range(500):
        node.commands.receive("ping", f'{{"id": "{number}"}}'.encode(), False, 100.0 + number / 1000)
    refused = [answer for _, answer in node.answers if not answer["ok"]]
    assert len(refused) == 1
    assert node.counts.count("commands_too_many") + len(node.asked) == 500


def test_a_name_that_makes_no_topic_is_counted_and_not_answered() -> None:
    node = Node()
    node.send("%" * 65_000, b'{"id": "a"}')
    assert (node.answers, node.counts) == ([], ["commands_unknown"])


def test_an_answer_without_measure_is_left_out() -> None:
    node = Node()
    node.result = {"thing": "x" * LARGEST_ANSWER}
    node.send("ping", b'{"id": "a"}')
    assert "exceeds" in node.last["error"]


def test_an_owner_that_fails_before_it_answers_is_an_answer() -> None:
    node = Node()

    def ask(*_: Any) -> Future[dict[str, Any]]:
        raise PluginError("gone")

    commands = Commands(COMMANDS, ask, node._answer, node.counts.append)
    commands.receive("ping", b'{"id": "a"}', False, 1.0)
    assert node.last == {"id": "a", "ok": False, "error": "gone"}


def test_commands_are_off_unless_enabled_and_a_list_names_those_allowed() -> None:
    assert MqttConfig(host="h").allowed == ()
    assert MqttConfig(host="h", commands=True).allowed == COMMANDS
    assert MqttConfig(host="h", commands=("ping", "siren.test")).allowed == ("ping", "siren.test")
