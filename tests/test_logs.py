"""How records are told: one line a fact, repeats held back and counted, nothing secret, in every form that there is."""

from __future__ import annotations

import io
import json
import logging
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import logs
from agent.logs import (
    Fact,
    Journal,
    Repeats,
    Teller,
    fact_of,
    journal_entry,
    json_line,
    teller_for,
    text_line,
    to_stream,
    under_journal,
)
from agent.secrecy import HIDDEN, hide_secret, redacted


def record(message: str, *args: Any, level: int = logging.WARNING, error: Exception | None = None) -> logging.LogRecord:
    info = (type(error), error, None) if error else None
    return logging.LogRecord("agent.test", level, __file__, 1, message, args, info, "test")


def fields(entry: bytes) -> dict[str, str]:
    """A journal entry taken apart, as journald does."""
    found: dict[str, str] = {}
    while entry:
        line, _, entry = entry.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            size = int.from_bytes(entry[:8], "little")
            value, entry = entry[8 : 8 + size], entry[9 + size :]
        found[name.decode()] = value.decode()
    return found


class Told:
    """A teller, what it told, and its clock."""

    def __init__(self) -> None:
        self.facts: list[Fact] = []
        self.now = 0.0
        self.teller = Teller(self.facts.append, lambda: self.now)

    def say(self, message: str, *args: Any) -> None:
        self.teller.handle(record(message, *args))

    @property
    def messages(self) -> list[str]:
        return [fact.message for fact in self.facts]


def test_a_fact_knows_its_camera_and_its_priority_in_every_form() -> None:
    fact = fact_of(record("camera door: down: %s", "no route"))
    assert text_line(fact).endswith("WARNING camera door: down: no route")
    told = json.loads(json_line(fact))
    assert (told["level"], told["camera"], told["message"]) == ("warning", "door", "camera door: down: no route")
    entry = fields(journal_entry(fact))
    assert (entry["PRIORITY"], entry["EDGEWARDEN_CAMERA"]) == ("4", "door")
    assert entry["MESSAGE"] == "camera door: down: no route"
    assert entry["SYSLOG_IDENTIFIER"] == "edgewarden"
    levels = (logging.CRITICAL, logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG)
    assert [fact_of(record("x", level=level)).priority for level in levels] == [2, 3, 4, 6, 7]
    assert fields(journal_entry(fact_of(record("plugin mqtt: started"))))["EDGEWARDEN_PLUGIN"] == "mqtt"


def test_a_traceback_belongs_to_its_fact() -> None:
    try:
        raise ValueError("no luck\nat all")
    except ValueError:
        broken = logging.LogRecord("a", logging.ERROR, "f", 1, "it failed", (), sys.exc_info(), "test")
    fact = fact_of(broken)
    assert json_line(fact).count("\n") == 0
    assert "ValueError: no luck" in json.loads(json_line(fact))["traceback"]
    assert fields(journal_entry(fact))["MESSAGE"].startswith("it failed\nTraceback")
    assert text_line(fact).splitlines()[0].endswith("ERROR   it failed")


@given(st.text(), st.text())
def test_a_message_is_one_line_whatever_a_stranger_puts_into_it(message: str, argument: str) -> None:
    fact = fact_of(record("%s %s", message, argument))
    assert len(fact.message.splitlines()) <= 1
    assert not any(character in fact.message for character in "\r\n\x1b")
    assert json_line(fact).count("\n") == 0
    assert fields(journal_entry(fact))["MESSAGE"] == fact.message.encode("utf-8", "replace").decode()


def test_repeats_are_held_back_and_counted_and_others_are_not() -> None:
    told = Told()
    for number in range(100):
        told.now = number * 0.1
        told.say("broker: attempt %d failed after %.1f s", number, number / 3)
        if number % 10 == 0:
            told.say("camera cam%d: down", number)
    attempts = [message for message in told.messages if "attempt" in message]
    assert len(attempts) == logs.BURST
    assert sum("down" in message for message in told.messages) == 10, "each camera is a fact of its own"
    told.now = 70.0
    told.say("something else")
    assert told.messages[-2:] == [
        "95 more like this were left out: broker: attempt # failed after # s",
        "something else",
    ]
    for _ in range(8):
        told.say("again")
    told.teller.close()
    assert told.messages[-1] == "3 more like this were left out: again"


@given(st.lists(st.tuples(st.integers(0, 20), st.floats(0, 5.0)), max_size=200))
def test_whatever_comes_is_told_or_counted_once(steps: list[tuple[int, float]]) -> None:
    repeats, now, told, counted = Repeats(burst=2, window=10.0, remembered=4), 0.0, 0, 0
    for kind, step in steps:
        now += step
        counted += sum(count for _, count in repeats.over(now))
        told += repeats.admits(kind, now)
    counted += sum(count for _, count in repeats.rest())
    assert told + counted == len(steps)


def test_a_stream_that_is_gone_costs_a_fact_and_nothing_else() -> None:
    def gone(_fact: Fact) -> None:
        raise BrokenPipeError

    teller = Teller(gone)
    teller.handle(record("x"))
    teller.handle(record("%d", "no number"))
    assert teller.lost == 2


SECRETS = ("geheim-Passwort", "tök/en?x=1", "sk-0123456789")


@pytest.fixture
def secrets() -> Iterator[tuple[str, ...]]:
    before = redacted.__globals__["_known"]
    for secret in SECRETS:
        hide_secret(secret)
    yield SECRETS
    redacted.__globals__["_known"] = before


def test_no_secret_passes_in_any_form(secrets: tuple[str, ...]) -> None:
    for secret in secrets:
        for text in (secret, f"rtsp://me:{secret}@10.0.0.1/x", f"{{'token': {secret!r}}}", f"Bearer {secret}\nnext"):
            fact = fact_of(record("it says: %s", text, error=ValueError(text)))
            for form in (text_line(fact), json_line(fact), journal_entry(fact).decode()):
                assert secret not in form
                assert HIDDEN in form
    assert redacted("http://u:p@h/x and rtsp://only@host") == f"http://{HIDDEN}@h/x and rtsp://{HIDDEN}@host"
    assert redacted("mail me@example.org, http://host/a@b") == "mail me@example.org, http://host/a@b"


def test_the_journal_is_found_by_its_stream_and_gets_native_entries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = str(tmp_path / "journal")
    with (tmp_path / "err").open("w") as stream, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journald:
        journald.bind(address)
        found = os.fstat(stream.fileno())
        assert not under_journal(stream, {})
        assert not under_journal(io.StringIO(), {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"})
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        assert under_journal(stream)
        assert isinstance(teller_for("auto", stream), Journal)
        tell = Journal(to_stream(stream, lambda fact: fact.message, True), address)
        tell(fact_of(record("plugin mqtt: connected")))
        assert fields(journald.recv(65536))["EDGEWARDEN_PLUGIN"] == "mqtt"
        tell(fact_of(record("much: %s", "x" * 1_000_000)))
        teller_for("json", stream)(fact_of(record("as json")))
    lines = (tmp_path / "err").read_text().splitlines()
    assert lines[0].startswith("<4>much: xxx"), "what is too large for a datagram goes by the stream"
    assert json.loads(lines[1].removeprefix("<4>"))["message"] == "as json"
