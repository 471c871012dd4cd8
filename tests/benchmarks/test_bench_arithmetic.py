"""What the benchmark does with its figures: ratios, promises, and the naming of what became worse."""

from __future__ import annotations

import contextlib
import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import REPOSITORY
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(REPOSITORY / "benchmarks"))

import bench as bench_all
import bench_host
from bench_cameras import grown
from bench_daemon import per_frame
from bench_host import Host
from bench_page import promises, replaced
from bench_parts import scaled_row
from bench_process import Contestant, ContestantError
from bench_race import Calm, FloorError, floored, race
from bench_rooms import Bench
from bench_rows import (
    Row,
    committed_text,
    median_ratio,
    read_committed,
    regressions,
    slope,
    spread,
)
from soak import Sample, verdict

durations = st.floats(0.01, 1e4)


@given(st.lists(st.tuples(durations, durations), min_size=1, max_size=9))
def test_a_machine_that_is_slow_for_a_round_does_not_change_its_ratio(rounds: list[tuple[float, float]]) -> None:
    values, floors = zip(*rounds, strict=True)
    slower = [(value * 3, floor * 3) for value, floor in rounds]
    assert median_ratio(*zip(*slower, strict=True)) == pytest.approx(median_ratio(values, floors))


def test_rounds_without_a_floor_are_no_ratio() -> None:
    with pytest.raises(ValueError, match="2 values and 1 floors"):
        median_ratio([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="no duration"):
        median_ratio([1.0], [0.0])


def test_a_promise_is_met_at_its_figure_on_either_side() -> None:
    assert Row("a", "a", 0.95, target=0.95).met is True
    assert Row("a", "a", 0.951, target=0.95).met is False
    assert Row("a", "a", 1.5, target=1.5, better="higher").met is True
    assert Row("a", "a", 1.0).met is None
    assert "NOT MET" in Row("a", "a", 0.96, target=0.95).line()


def test_what_became_more_than_ten_per_cent_worse_is_named_and_nothing_else_is() -> None:
    rows = [
        Row("slower", "", 1.2),
        Row("a little slower", "", 1.09),
        Row("faster", "", 0.5),
        Row("no longer that far ahead", "", 1.3, better="higher"),
        Row("of this machine", "", 9.0, kept=False),
        Row("new", "", 9.0),
    ]
    committed = dict.fromkeys(("slower", "a little slower", "faster", "of this machine"), 1.0)
    named = regressions(rows, {**committed, "no longer that far ahead": 1.5})
    assert [line.partition(":")[0] for line in named] == ["slower", "no longer that far ahead"]
    assert "worse by 20 %" in named[0]


def test_what_was_not_measured_stays_as_it_was_committed(tmp_path: Path) -> None:
    path = tmp_path / "ratios.json"
    assert read_committed(path) == {}
    path.write_text(committed_text([Row("a", "", 2.0), Row("b", "", 3.0, kept=False)], {"a": 1.0, "c": 4.0}, "here"))
    assert read_committed(path) == {"a": 2.0, "c": 4.0}
    path.write_text("[1, 2]")
    with pytest.raises(ValueError, match=r"ratios\.json: not what --update writes"):
        read_committed(path)


def test_the_committed_ratios_can_be_read() -> None:
    assert all(value > 0 for value in read_committed(REPOSITORY / "benchmarks" / "ratios.json").values())


def test_a_slope_is_that_of_the_line_and_none_without_two_moments() -> None:
    assert slope([0.0, 1.0, 2.0], [5.0, 7.0, 9.0]) == pytest.approx(2.0)
    assert slope([1.0], [5.0]) == 0.0
    assert slope([1.0, 1.0], [5.0, 6.0]) == 0.0


def test_the_spread_is_that_of_the_share_furthest_from_the_mean() -> None:
    assert spread([100, 100, 100, 100]) == 0
    assert spread([95, 105]) == pytest.approx(0.05)


def test_starting_and_stopping_the_daemon_is_not_in_its_time_a_frame() -> None:
    whole = {"seconds": 6.0, "cameras": {"a": {"inferred": 600}}}
    part = {"seconds": 2.0, "cameras": {"a": {"inferred": 100}}}
    assert per_frame(whole, part) == {"ms": pytest.approx(8.0), "frames": 500}
    with pytest.raises(ContestantError, match="the longer run was not longer"):
        per_frame(part, whole)


def test_each_contestant_is_measured_against_the_floors_beside_it() -> None:
    floors = iter([{"ms": 10.0}, {"ms": 20.0}, {"ms": 40.0}])
    laps = race(lambda: next(floors), {"a": lambda: {"ms": 30.0}, "b": lambda: {"ms": 30.0}}, 1, failed=lambda *_: None)
    assert laps["a"].ratio == [2.0]
    assert laps["b"].ratio == [1.0]
    assert laps["floor"].ratio == [1.0]


def test_a_round_without_a_rival_has_the_floors_beside_it() -> None:
    floors = iter([{"ms": 1.0, "cpu_ms": 10.0}, {"ms": 1.0, "cpu_ms": 20.0}, {"ms": 1.0, "cpu_ms": 40.0}])
    told = iter([{"parts": 1}, {"parts": 2}])
    first, second = floored(lambda: next(floors), lambda: next(told), 2)
    assert first == ({"parts": 1}, {"ms": 1.0, "cpu_ms": 15.0})
    assert second == ({"parts": 2}, {"ms": 1.0, "cpu_ms": 30.0})


def test_milliseconds_are_told_as_of_a_machine_on_which_the_engine_takes_what_it_took_when_they_were_promised() -> None:
    row = scaled_row("tracker", "tracker", [(0.5, 9.8), (1.0, 19.6), (0.9, 14.7)], 0.5)
    assert row.value == pytest.approx(0.5)
    assert (row.unit, row.target) == ("ms", 0.5)
    assert row.what == "tracker (0.900 ms, session.run 14.7), where that takes 9.8"


def test_a_contestant_that_fails_is_left_out_and_the_others_go_on() -> None:
    def fails() -> dict[str, float]:
        raise ContestantError("it broke")

    told: list[tuple[str, str]] = []
    laps = race(
        lambda: {"ms": 1.0}, {"bad": fails, "good": lambda: {"ms": 2.0}}, 3, failed=lambda *what: told.append(what)
    )
    assert told == [("bad", "it broke")]
    assert set(laps) == {"floor", "good"}
    assert laps["good"].ratio == [2.0, 2.0, 2.0]


def test_a_turn_that_was_disturbed_is_taken_once_more_and_the_calmer_counts_while_there_is_time() -> None:
    stolen = iter([0.0, 0.3, 0.1, 0.0, 0.1, 0.4, 0.0, 0.02, 0.0, 0.2])
    clock = iter([0.0, 6.0, 10.0, 13.0, 20.0, 20.5, 30.0, 32.0])
    turns = iter("abcdefg")
    calm = Calm(10.0, stolen=lambda: next(stolen), clock=lambda: next(clock))
    assert calm(lambda: next(turns)) == "b", "the second was calmer"
    assert calm(lambda: next(turns)) == "c", "the second was worse"
    assert calm(lambda: next(turns)) == "e", "the first was calm"
    assert calm(lambda: next(turns)) == "f", "a turn of two seconds does not fit into the one that is left"


def test_a_turn_that_fails_when_it_is_taken_once_more_takes_nothing_back() -> None:
    turns = iter(["good"])

    def turn() -> str:
        for told in turns:
            return told
        raise ContestantError("it broke")

    said: list[str] = []
    assert Calm(10.0, stolen=lambda: 0.5, clock=lambda: 0.0, say=said.append)(turn) == "good"
    assert said == ["a turn that was taken once more failed: it broke"]


def test_a_floor_that_fails_is_no_fault_of_who_is_compared_with_it() -> None:
    def dies() -> dict[str, float]:
        raise ContestantError("killed")

    told: list[tuple[str, str]] = []
    with pytest.raises(FloorError, match="the floor: killed"):
        race(dies, {"good": lambda: {"ms": 2.0}}, 1, failed=lambda *what: told.append(what))
    assert not told


def test_a_late_race_makes_do_with_three_rounds() -> None:
    laps = race(lambda: {"ms": 1.0}, {"a": lambda: {"ms": 1.0}}, 9, failed=lambda *_: None, late=lambda: True)
    assert len(laps["a"].ms) == 3


def test_a_contestant_that_cannot_start_says_why_in_one_line(tmp_path: Path) -> None:
    words = ["--model", "none.onnx", "--family", "yolox", "--side", "416", "--clip", "none.mp4"]
    with (
        pytest.raises(ContestantError, match=r"^floor: .*none\.onnx"),
        Contestant("floor", "floor.py", *words, "--threads", "1", "--frames", "1", folder=tmp_path),
    ):
        pass


def test_every_committed_row_has_a_name_and_nothing_of_a_machine_s_speed() -> None:
    document = json.loads((REPOSITORY / "benchmarks" / "ratios.json").read_text(encoding="utf-8"))
    assert set(document) == {"machine", "rows"}


def test_the_soak_judges_what_comes_after_the_warm_up_with_every_camera_there() -> None:
    def one(at: float, whole: bool = True, **more: float) -> Sample:
        held = {"rss_mb": 200.0 + min(at, 100) / 10, "threads": 20.0, "descriptors": 21.0, "age_ms": 30.0, **more}
        return Sample(at=at, inferred=int(at), whole=whole, **held)

    calm = [one(5.0 * number) for number in range(1, 120)]
    assert all(row.met for row in verdict(calm))
    away = [*calm[:60], one(302.0, whole=False, descriptors=20.0), *calm[60:]]
    assert all(row.met for row in verdict(away))
    leaks = [one(5.0 * number, rss_mb=200.0 + number, descriptors=21.0 + number // 40) for number in range(1, 120)]
    assert [row.key for row in verdict(leaks) if not row.met] == ["soak: memory slope", "soak: descriptors"]
    with pytest.raises(ContestantError, match="too few to say anything"):
        verdict(calm[:3])


def test_what_the_host_of_a_machine_took_is_a_share_of_all_processors_time(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu  100 0 100 700 0 0 0 100 0 0\ncpu0 1 1 1 1\n", encoding="ascii")
    host = Host(stat)
    assert (host.lap(), host.whole()) == (0.0, 0.0)
    stat.write_text("cpu  200 0 100 700 0 0 0 200 50 0\n", encoding="ascii")
    assert host.lap() == 0.5, "guests' time is in the users' already"
    stat.write_text("cpu  500 0 100 700 0 0 0 200 50 0\n", encoding="ascii")
    assert (host.lap(), host.whole()) == (0.0, 0.2)
    for nothing in ("", "cpu  1 2 3\n", "cpu  a b c d e f g h\n"):
        stat.write_text(nothing, encoding="ascii")
        assert Host(stat).whole() == 0.0
    assert Host(tmp_path / "none").lap() == 0.0


def _measured(
    monkeypatch: pytest.MonkeyPatch, stolen: Sequence[float], paces: Sequence[float], spare: float = 60.0
) -> list[int]:
    """How many attempts of a group were made while the host took these shares and a piece of work took so long, before
    and after each; and which of them counts."""
    shares, took, made = iter(stolen), iter(paces), list[int]()

    def group(bench: Bench) -> None:
        made.append(len(made))
        bench.add(Row("a", "a", float(made[-1])))
        bench.groups["a"] = made[-1]

    monkeypatch.setattr(bench_all, "Host", lambda: SimpleNamespace(whole=lambda: next(shares)))
    monkeypatch.setattr(bench_all, "pace", lambda: next(took))
    monkeypatch.setitem(bench_all.GROUPS, "parts", group)
    bench = _bench(5)
    attempts = {"parts": [bench_all.attempt(bench, "parts")]}
    bench_all.again(bench, attempts, spare)
    counts = bench_all.calmest(attempts["parts"], bench_all.best_pace(attempts))
    assert counts.groups == {"a": counts.rows[0].value}
    assert bench.rows == []
    return [len(made), int(counts.rows[0].value)]


def test_what_was_disturbed_is_measured_again_and_what_was_calmest_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    even, calm = [10.0] * 6, [0.0] * 3
    assert _measured(monkeypatch, [0.01], even) == [1, 0]
    assert _measured(monkeypatch, [0.3, 0.0], even) == [2, 1]
    assert _measured(monkeypatch, [0.3, 0.1, 0.2], even) == [3, 1]
    assert _measured(monkeypatch, [0.3, 0.4, 0.5], even) == [3, 0]
    assert _measured(monkeypatch, [0.3], even, -1.0) == [1, 0], "no time is left"
    assert _measured(monkeypatch, calm, [11.0, 10.0]) == [1, 0]
    assert _measured(monkeypatch, calm, [10.0, 16.0, 10.0, 10.0]) == [2, 1], "a slow machine"
    best_is_remembered = [10.0, 20.0, 14.0, 14.0, 13.0, 13.0]
    assert _measured(monkeypatch, calm, best_is_remembered) == [3, 2]


def test_a_repetition_that_fails_takes_nothing_back(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def fails_later(bench: Bench) -> None:
        if made:
            raise ContestantError("gone")
        made.append(1)
        bench.add(Row("a", "a", 1.0))

    monkeypatch.setattr(bench_all, "Host", lambda: SimpleNamespace(whole=lambda: 0.9))
    monkeypatch.setattr(bench_all, "opened", lambda rounds: contextlib.nullcontext(_bench(rounds)))
    monkeypatch.setitem(bench_all.GROUPS, "parts", fails_later)
    bench, _ = bench_all.measure(["parts"], 5, 9.0)
    assert ([row.value for row in bench.rows], bench.skipped) == ([1.0], {})


def test_what_the_page_says_of_the_machine_is_the_slowest_of_what_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    paces = iter([10.0, 11.0, 10.0, 14.0, 10.5, 10.5])
    monkeypatch.setattr(bench_all, "Host", lambda: SimpleNamespace(whole=lambda: 0.0))
    monkeypatch.setattr(bench_all, "pace", lambda: next(paces))
    monkeypatch.setattr(bench_all, "opened", lambda rounds: contextlib.nullcontext(_bench(rounds)))
    for name in ("parts", "tracker"):
        monkeypatch.setitem(bench_all.GROUPS, name, lambda bench: bench.add(Row("a", "a", 1.0)))
    bench, slower = bench_all.measure(["parts", "tracker"], 5, 9.0)
    assert (len(bench.rows), slower) == (2, 1.1), "the second group was slow, and was measured again"


def _bench(rounds: int) -> Bench:
    return Bench(Path(), rounds, None, contextlib.ExitStack())


def test_the_pace_of_a_machine_is_the_median_of_pieces_of_work(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.accumulate(itertools.cycle([1.0, 0.002, 1.0, 0.003, 1.0, 0.007]))
    monkeypatch.setattr(bench_host, "PIECES", 3)
    monkeypatch.setattr("bench_host.time.perf_counter", lambda: next(clock))
    assert bench_host.pace() == pytest.approx(3.0)


def test_a_group_that_fails_is_told_of_once_and_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def fails(_bench: Bench) -> None:
        made.append(1)
        raise ContestantError("no clip")

    monkeypatch.setattr(bench_all, "Host", lambda: SimpleNamespace(whole=lambda: 0.9))
    monkeypatch.setattr(bench_all, "opened", lambda rounds: contextlib.nullcontext(_bench(rounds)))
    monkeypatch.setitem(bench_all.GROUPS, "parts", fails)
    bench, _ = bench_all.measure(["parts"], 5, 9.0)
    assert (bench.rows, bench.skipped, made) == ([], {"parts": "no clip"}, [1])


def test_frames_that_grow_older_are_seen() -> None:
    assert grown([10.0, 10.0, 11.0, 12.0, 20.0, 20.0]) == 2.0
    assert grown([10.0]) == 1.0


def test_a_page_gets_the_table_between_its_marks_and_keeps_the_rest() -> None:
    page = "before\n<!-- soak -->\nold\n<!-- /soak -->\nafter\n"
    rows = [Row("a", "memory", 0.5, "MB/h", 1.0), Row("b", "ahead", 3.0, "x", 4.0, "higher"), Row("c", "plain", 2.0)]
    told = replaced(page, "soak", promises(rows))
    assert told.startswith("before\n<!-- soak -->\n\n| | measured")
    assert told.endswith("<!-- /soak -->\nafter\n")
    assert "| memory | 0.5 MB/h | at most 1 | met |" in told
    assert "| ahead | 3 x | at least 4 | **not met** |" in told
    assert "| plain | 2 x |  |  |" in told
    assert "old" not in told
    with pytest.raises(ValueError, match="no <!-- figures -->"):
        replaced(page, "figures", "")


def test_the_page_of_the_documentation_has_a_place_for_both_tables() -> None:
    page = (REPOSITORY / "docs" / "performance.md").read_text(encoding="utf-8")
    for part in ("figures", "soak"):
        replaced(page, part, "")
