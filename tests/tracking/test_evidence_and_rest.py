"""When a track is believed, when it is at rest, and what a camera that moves does to it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tracking_scenes import Found, Scene, ids, person, ticks, watch

from agent.tracking.evidence import Evidence
from agent.tracking.stillness import Stillness
from agent.tracking.tracker import Tracker

RATES = [1, 2, 5, 10, 30, 60]


def first_told(scene: Scene, fps: float) -> float:
    return next(at for at, tracks in watch(scene, ticks(10, fps), Tracker()) if tracks)


@pytest.mark.parametrize("fps", RATES)
def test_the_surer_the_sights_the_sooner_a_track_is_told(fps: int) -> None:
    sure = first_told(lambda at: [person(400, score=0.9)], fps)
    doubtful = first_told(lambda at: [person(400, score=0.62)], fps)
    assert sure == pytest.approx(max(1 / fps, 0.05), abs=0.02)
    assert doubtful > sure


@pytest.mark.parametrize("fps", [15, 30, 60])
def test_a_flash_of_a_tenth_of_a_second_makes_no_track_however_fast_the_camera(fps: int) -> None:
    scene: Scene = lambda at: [person(400, score=0.62)] if at < 0.1 else []  # noqa: E731
    assert ids(watch(scene, ticks(3, fps), Tracker())) == set()


def test_what_is_found_in_one_frame_of_four_is_a_look_alike_however_surely() -> None:
    scene: Scene = lambda at: [person(400, score=0.75)] if round(at * 30) % 4 == 0 else []  # noqa: E731
    assert ids(watch(scene, ticks(10, 30), Tracker())) == set()


def test_who_is_found_in_three_frames_of_four_is_there() -> None:
    scene: Scene = lambda at: [person(400, score=0.75)] if round(at * 30) % 4 else []  # noqa: E731
    assert len(ids(watch(scene, ticks(3, 30), Tracker()))) == 1


@given(st.lists(st.floats(0.0, 0.59), min_size=1, max_size=60), st.sampled_from([1.0, 0.1, 1 / 30]))
def test_no_number_of_sights_below_the_confirming_score_proves_anything(scores: list[float], step: float) -> None:
    evidence = Evidence(2, 0.6)
    evidence.add(np.array(scores[:1]), 0.0)
    for index, score in enumerate(scores[1:], start=1):
        evidence.fade(step)
        evidence.see(np.array([0]), np.array([score]), index * step)
        assert not evidence.proven(np.array([0]))[0]


@pytest.mark.parametrize("fps", [1, 5, 30])
def test_who_stays_is_stationary_after_a_while_and_moving_again_when_gone_on(fps: int) -> None:
    shake = np.random.default_rng(3).normal(0.0, 3.0, 2000).tolist()
    scene: Scene = lambda at: [person(400 + shake[round(at * 30)] + 60 * max(0.0, at - 12))]  # noqa: E731
    seen = watch(scene, ticks(18, fps), Tracker(still_after=5.0))
    still = {round(at, 3): tracks[0].stationary for at, tracks in seen if tracks}
    assert not any(value for at, value in still.items() if at < 4.9)
    assert all(value for at, value in still.items() if 7.1 <= at <= 12)
    assert not any(value for at, value in still.items() if at >= 16.1)
    assert ids(seen) == {1}


def test_one_who_passes_in_front_does_not_make_a_parked_car_move() -> None:
    whole, cut = Found((200, 300, 500, 420), 0.9, 2), Found((200, 300, 330, 420), 0.7, 2)
    seen = watch(lambda at: [cut if 20 < at < 20.8 else whole], ticks(30, 10), Tracker())
    assert ids(seen) == {1}
    assert all(tracks[0].stationary for at, tracks in seen if at > 6)


@pytest.mark.parametrize(("stood", "numbers"), [(60.0, 1), (6.0, 2)])
def test_a_parked_car_that_is_overlooked_is_kept_as_long_as_it_stood(stood: float, numbers: int) -> None:
    scene: Scene = lambda at: [] if stood < at < stood + 40 else [Found((200, 300, 500, 420), 0.9, 2)]  # noqa: E731
    assert len(ids(watch(scene, ticks(stood + 50, 5), Tracker()))) == numbers


def test_even_who_stood_for_long_is_gone_after_the_usual_patience_once_walking() -> None:
    tracker = Tracker(patience=2.0)
    scene: Scene = lambda at: [person(400 + 100 * max(0.0, at - 60))] if at < 64 else []  # noqa: E731
    seen = watch(scene, ticks(70, 5), tracker)
    assert [at for at, tracks in seen if tracks][-1] == pytest.approx(65.8, abs=0.21)


def test_who_steps_out_of_the_picture_and_back_is_the_same() -> None:
    def scene(at: float) -> list[Found]:
        x = 900 + 250 * at if at < 2.0 else 1400 - 250 * (at - 2.0)
        return [person(x)] if x < 1280 else []

    assert ids(watch(scene, ticks(4, 10), Tracker())) == {1}


@pytest.mark.parametrize("fps", [5, 30])
def test_a_knock_at_the_camera_changes_no_numbers(fps: int) -> None:
    places = [(150 + 90 * index, 200 + 60 * (index % 4)) for index in range(12)]

    def scene(at: float) -> list[Found]:
        knock = 55 if 2.0 <= at < 2.6 else 0
        return [person(x + knock, y - knock, 100) for x, y in places]

    before = after = None
    for at, tracks in watch(scene, ticks(5, fps), Tracker()):
        where = {track.id: track.box for track in tracks}
        before = where if at < 1.9 else before
        after = where
    assert before is not None
    assert before == after


@given(st.lists(st.tuples(st.floats(-50, 50), st.floats(0.05, 2.0)), min_size=1, max_size=40))
def test_a_box_is_never_still_sooner_than_after_its_time(steps: list[tuple[float, float]]) -> None:
    stillness, now, x, moved = Stillness(5.0), 0.0, 0.0, 0.0
    stillness.add(np.array([[0.0], [0.0]]), now)
    for move, dt in steps:
        now, x = now + dt, x + move
        stillness.see(np.array([0]), np.array([[x], [0.0]]), np.array([20.0]), now)
        moved = now if abs(move) > 2 * 0.35 * 20.0 and not stillness.still(np.array([now]))[0] else moved
        if stillness.still(np.array([now]))[0]:
            assert now - moved >= 4.99 or now >= 5.0
        assert 0.0 <= stillness.lasted(np.array([now]))[0] <= now
