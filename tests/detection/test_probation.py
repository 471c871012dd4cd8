"""What counts as worse than the old model, and what does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.detection.probation import Observed, Observer, judge, together

OLD = Observed(seconds=600.0, frames=6000, detections=1200, age_ms=50.0)
counts = st.integers(0, 10_000)
observed = st.builds(
    Observed,
    seconds=st.floats(0, 1e5),
    frames=counts,
    detections=counts,
    age_ms=st.none() | st.floats(0, 1e5),
)


def seen(seconds: float = 60.0, *, detections: int = 120, frames: int = 600, age_ms: float | None = 50.0) -> Observed:
    return Observed(seconds=seconds, frames=frames, detections=detections, age_ms=age_ms)


def test_one_that_does_as_much_is_accepted_at_the_end_and_not_before() -> None:
    assert judge(seen(59.0), OLD, 60.0).word == "goes on"
    assert judge(seen(60.0), OLD, 60.0) == ("accepted", "120.0 detections a minute for 120.0, frames 50 for 50 ms old")


def test_without_a_trial_it_is_accepted_whatever_was_seen() -> None:
    assert judge(Observed(), OLD, 0.0) == ("accepted", "without a trial")


def test_one_that_finds_nothing_is_worse_as_soon_as_that_is_plain() -> None:
    assert judge(seen(5.0, detections=0, frames=50), OLD, 60.0).word == "goes on"
    verdict = judge(seen(12.0, detections=0, frames=120), OLD, 60.0)
    assert verdict == ("worse", "0.0 detections a minute, 120.0 by the old one")


def test_a_short_trial_says_nothing_in_its_first_seconds() -> None:
    assert judge(seen(1.0, detections=0, frames=0), OLD, 10.0).word == "goes on"
    assert judge(seen(5.0, detections=0, frames=0), OLD, 10.0).word == "worse"
    assert judge(seen(2.0, detections=0, frames=0), OLD, 2.0).word == "worse"


def test_one_that_finds_far_less_or_absurdly_much_is_worse_at_the_end() -> None:
    assert judge(seen(30.0, detections=5), OLD, 60.0).word == "goes on"
    assert judge(seen(detections=30), OLD, 60.0).word == "worse"
    assert judge(seen(detections=60), OLD, 60.0).word == "accepted"
    assert judge(seen(detections=500), OLD, 60.0).word == "accepted"
    assert judge(seen(detections=700), OLD, 60.0).word == "worse"


def test_a_quiet_place_says_nothing_against_one_that_finds_nothing() -> None:
    quiet = Observed(seconds=600.0, frames=6000, detections=10, age_ms=50.0)
    assert judge(seen(detections=0), quiet, 60.0).word == "accepted"


def test_fewer_frames_are_no_fewer_finds() -> None:
    assert judge(seen(detections=12, frames=60), OLD, 60.0).word == "accepted"


def test_one_that_infers_nothing_is_worse() -> None:
    assert judge(seen(12.0, detections=0, frames=0, age_ms=None), OLD, 60.0) == (
        "worse",
        "nothing was inferred in 12 s",
    )


@pytest.mark.parametrize(("age_ms", "word"), [(299.0, "accepted"), (301.0, "worse")])
def test_frames_that_grow_old_are_worse(age_ms: float, word: str) -> None:
    assert judge(seen(age_ms=age_ms), OLD, 60.0).word == word


def test_without_anything_to_compare_with_it_is_accepted_at_the_end() -> None:
    assert judge(seen(59.0, detections=0), None, 60.0).word == "goes on"
    assert judge(seen(60.0, detections=0), None, 60.0) == ("accepted", "there was nothing to compare it with")


@given(observed, st.none() | observed, st.floats(1, 1e5))
def test_every_verdict_but_to_go_on_has_a_reason_and_comes_by_the_end(
    now: Observed, old: Observed | None, seconds: float
) -> None:
    verdict = judge(now, old, seconds)
    assert bool(verdict.reason) == (verdict.word != "goes on")
    assert verdict.word != "goes on" or now.seconds < seconds


@given(observed, observed)
def test_what_was_seen_before_and_after_a_restart_adds_up(one: Observed, two: Observed) -> None:
    both = together(one, two)
    assert both.frames == one.frames + two.frames
    assert both.detections == one.detections + two.detections
    ages = [part.age_ms for part in (one, two) if part.age_ms is not None and part.frames]
    assert (both.age_ms is None) == (not ages)
    assert both.age_ms is None or min(ages) * 0.999 - 1e-9 <= both.age_ms <= max(ages) * 1.001 + 1e-9


def test_time_without_a_camera_does_not_count() -> None:
    observer = Observer()
    for now, working in ((0.0, True), (1.0, True), (2.0, False), (3.0, True)):
        observer.look(now, int(now) * 10, int(now), 40.0, working=working)
    assert observer.observed == Observed(seconds=2.0, frames=20, detections=2, age_ms=40.0)


def test_a_window_forgets_what_was_long_ago() -> None:
    observer = Observer(Observed(seconds=100.0, frames=1000, detections=1000, age_ms=10.0), window=5)
    for now in range(4):
        observer.look(float(now), now * 10, 0, 20.0, working=True)
    assert observer.observed.detections == 1000
    for now in range(4, 20):
        observer.look(float(now), now * 10, 0, 20.0, working=True)
    assert observer.observed == Observed(seconds=5.0, frames=50, detections=0, age_ms=20.0)
