"""A recording plays at its own pace, a camera at no more than its configured rate."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.sources.pacing import Pacer, Positions, RateLimit, Sparing

steps = st.lists(st.floats(0.01, 1.0), min_size=1, max_size=60)


@given(steps, st.floats(0, 1e6))
def test_a_reader_in_time_sees_every_picture_at_its_position(steps: list[float], start: float) -> None:
    pacer, now, position = Pacer(), start, 0.0
    assert pacer.delay(0.0, now) == 0
    for step in steps:
        position += step
        now += pacer.delay(position, now)
        assert now == pytest.approx(start + position, abs=1e-6)


@given(steps, st.lists(st.floats(0, 3.0), min_size=60, max_size=60))
def test_no_picture_comes_before_its_time_nor_in_a_burst(steps: list[float], busy: list[float]) -> None:
    pacer, now, position = Pacer(), 0.0, 0.0
    pacer.delay(0.0, now)
    shown = now
    for step, wait in zip(steps, busy, strict=False):
        position += step
        now += wait
        now += pacer.delay(position, now)
        assert now >= position - 1e-6
        assert now - shown >= step / 2 - 1e-6
        shown = now


def test_a_late_reader_catches_up() -> None:
    pacer, now = Pacer(), 0.0
    pacer.delay(0.0, now)
    now = 1.0
    for index in range(1, 40):
        now += pacer.delay(index * 0.1, now)
    assert now == pytest.approx(3.9)


def test_after_a_long_sleep_the_recording_goes_on_from_where_it_was() -> None:
    pacer = Pacer()
    pacer.delay(0.0, 0.0)
    assert pacer.delay(0.1, 3600.0) == 0
    assert pacer.delay(0.2, 3600.0) == pytest.approx(0.1)


@given(st.floats(0.2, 60), st.lists(st.floats(0.001, 0.5), min_size=2, max_size=300))
def test_a_rate_limit_holds_over_any_stretch(fps: float, gaps: list[float]) -> None:
    limit, now, admitted = RateLimit(fps), 0.0, []
    for gap in gaps:
        now += gap
        if limit.admit(now):
            admitted.append(now)
    for first, last, count in ((admitted[0], at, index) for index, at in enumerate(admitted)):
        assert count <= (last - first) * fps + 2.1


@pytest.mark.parametrize(("camera", "wanted"), [(30, 10), (30, 25), (25, 10), (10, 10), (9, 10), (60, 1)])
def test_a_rate_limit_lets_through_as_many_as_were_asked_for(camera: int, wanted: int) -> None:
    limit = RateLimit(wanted)
    admitted = sum(limit.admit(index / camera) for index in range(camera * 20))
    assert admitted == pytest.approx(min(camera, wanted) * 20, abs=2)


def test_positions_are_the_containers_from_the_first_picture_on() -> None:
    positions = Positions(25)
    assert [positions.next(at) for at in (1.4, 1.5, 1.7)] == pytest.approx([0, 0.1, 0.3])


@pytest.mark.parametrize("reported", [0.0, -1.0, math.nan, math.inf])
def test_where_the_containers_are_useless_positions_are_counted(reported: float) -> None:
    positions = Positions(10)
    assert [positions.next(reported) for _ in range(4)] == pytest.approx([0, 0.1, 0.2, 0.3])
    assert positions.end == pytest.approx(0.4)


@given(st.floats(), st.lists(st.floats(), min_size=1))
def test_positions_always_go_forward(fps: float, reported: list[float]) -> None:
    positions = Positions(fps)
    found = [positions.next(at) for at in reported if not math.isfinite(at) or abs(at) < 1e9]
    assert all(later > earlier for earlier, later in itertools.pairwise(found))


@given(st.floats(5, 120), st.floats(0.3, 10), st.floats(0, 0.2))
def test_what_goes_by_is_not_missed_when_the_next_picture_is_asked_for(fps: float, rate: float, jitter: float) -> None:
    sparing, due, fetched, newest, ages = Sparing(), -math.inf, 0, -math.inf, []
    count = int(20 * fps)
    for index in range(count):
        now = (index + jitter * math.sin(index * 7.3)) / fps
        while due <= now:
            if newest > due - 1.0 and math.isfinite(due):
                ages.append(due - newest)
            due = max(due, now - 1 / rate) + 1 / rate
            sparing.until = due
        if not sparing.skips(now):
            fetched, newest = fetched + 1, now
    assert not ages or max(ages[2:], default=0.0) <= 2.8 * (1 + 2 * jitter) / fps, "as young as the camera gives them"
    assert fetched <= min(count, 20 * rate * 4 + 25)


def test_without_a_word_nothing_goes_by_and_with_it_one_a_second_is_fetched_all_the_same() -> None:
    sparing = Sparing()
    assert not any(sparing.skips(index / 30) for index in range(90))
    sparing.until = math.inf
    fetched = [index for index in range(90, 240) if not sparing.skips(index / 30)]
    assert len(fetched) == 5
    sparing.until = -math.inf
    assert not sparing.skips(8.0)
