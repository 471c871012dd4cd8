"""What a killed daemon had begun is ended by the next one, once, whenever it was killed."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from event_logs import everything, opened
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.data import Event, to_json
from agent.host.log import EVENTS, EventLog
from agent.host.store import Entry
from agent.host.unfinished import Unfinished
from agent.testing import make_event

NOW = 2e9


def tell(log: EventLog, unfinished: Unfinished, *events: Event) -> None:
    accepted = log.append([Entry(EVENTS, to_json(event)) for event in events])
    unfinished.note(events, accepted)
    accepted.result(30)


def recovered(folder: Path) -> list[Event]:
    """As a start does it: the ends are told."""
    with opened(folder / "events.db") as log:
        unfinished = Unfinished(folder / "open.json", log)
        ends = unfinished.recover(NOW)
        if ends:
            tell(log, unfinished, *ends)
        unfinished.save()
        return ends


def told(folder: Path) -> dict[str, list[tuple[str, int]]]:
    """What the log holds, by occurrence."""
    found: dict[str, list[tuple[str, int]]] = {}
    with opened(folder / "events.db") as log:
        for payload in everything(log):
            event = json.loads(payload)
            found.setdefault(event["id"], []).append((event["kind"], event["seq"]))
    return found


def test_what_was_open_is_ended_when_it_was_last_seen_and_says_that_it_is_late(tmp_path: Path) -> None:
    start = make_event(id="one", updated_at=100.0, captured_at=101.0)
    with opened(tmp_path / "events.db") as log:
        tell(log, Unfinished(tmp_path / "open.json", log), start)
    (end,) = recovered(tmp_path)
    assert (end.id, end.seq, end.kind, end.ended_by) == ("one", 1, "end", "restart")
    assert (end.ended_at, end.late, end.queued_at) == (100.0, True, 100.0)
    assert recovered(tmp_path) == []


def test_what_had_ended_is_left_alone(tmp_path: Path) -> None:
    with opened(tmp_path / "events.db") as log:
        tell(
            log, Unfinished(tmp_path / "open.json", log), make_event(id="one"), make_event(id="one", seq=1, kind="end")
        )
    assert recovered(tmp_path) == []


def test_only_what_came_after_the_saved_state_is_read_again(tmp_path: Path) -> None:
    with opened(tmp_path / "events.db") as log:
        unfinished = Unfinished(tmp_path / "open.json", log)
        tell(log, unfinished, make_event(id="one"), make_event(id="two"))
        unfinished.save()
        tell(log, unfinished, make_event(id="two", seq=1, kind="end"), make_event(id="three"))
    saved = json.loads((tmp_path / "open.json").read_bytes())
    assert (saved["position"], len(saved["open"])) == (2, 2)
    assert sorted(end.id for end in recovered(tmp_path)) == ["one", "three"]


@pytest.mark.parametrize("content", [b"", b"{", b'{"position": "x"}', b"\xff\xfe"])
def test_a_damaged_file_costs_nothing_but_a_longer_start(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(tmp_path / "events.db") as log:
        tell(log, Unfinished(tmp_path / "open.json", log), make_event(id="one"))
    (tmp_path / "open.json").write_bytes(content)
    assert [end.id for end in recovered(tmp_path)] == ["one"]
    assert "not usable" in caplog.text


def test_a_log_that_was_made_anew_is_read_from_its_beginning(tmp_path: Path) -> None:
    with opened(tmp_path / "events.db") as log:
        unfinished = Unfinished(tmp_path / "open.json", log)
        tell(log, unfinished, *(make_event(id=f"old-{number}") for number in range(5)))
        unfinished.save()
    for path in tmp_path.glob("events.db*"):
        path.unlink()
    with opened(tmp_path / "events.db") as log:
        tell(log, Unfinished(tmp_path / "open.json", log), make_event(id="new"))
    assert sorted(end.id for end in recovered(tmp_path)) == ["new", *(f"old-{number}" for number in range(5))]


def test_a_folder_that_cannot_be_written_is_told_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with opened(tmp_path / "events.db") as log:
        unfinished = Unfinished(tmp_path / "nowhere" / "open.json", log)
        for number in range(3):
            tell(log, unfinished, make_event(id=str(number)))
            unfinished.save()
    assert caplog.text.count("cannot be written") == 1


steps = st.lists(
    st.one_of(st.tuples(st.just("tell"), st.integers(0, 4)), st.just(("save", 0)), st.just(("kill", 0))), max_size=40
)


@settings(max_examples=40, deadline=None)
@given(steps)
def test_whatever_happens_and_whenever_it_is_killed_every_event_has_one_end(steps: list[tuple[str, int]]) -> None:
    """Five things come and go; the daemon saves now and then and is killed now and then."""
    with tempfile.TemporaryDirectory() as name:
        folder, life, seq = Path(name), 0, dict.fromkeys(range(5), 0)
        log_context = opened(folder / "events.db")
        log = log_context.__enter__()
        unfinished = Unfinished(folder / "open.json", log)
        for action, thing in [*steps, ("kill", 0)]:
            if action == "save":
                unfinished.save()
            elif action == "tell":
                occurrence, number = divmod(seq[thing], 3)
                kind = ("start", "update", "end")[number]
                tell(log, unfinished, make_event(id=f"{life}-{thing}-{occurrence}", seq=number, kind=kind))
                seq[thing] += 1
            else:
                log_context.__exit__(None, None, None)
                recovered(folder)
                life, seq = life + 1, dict.fromkeys(range(5), 0)
                log_context = opened(folder / "events.db")
                log = log_context.__enter__()
                unfinished = Unfinished(folder / "open.json", log)
                assert unfinished.recover(NOW) == []
        log_context.__exit__(None, None, None)
        for messages in told(folder).values():
            assert [kind for kind, _ in messages].count("end") == 1
            assert messages[-1][0] == "end"
            assert [number for _, number in messages] == list(range(len(messages)))
