"""One object keeps one number: at any rate, through misses, flicker, doubles and crossings."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tracking_scenes import Found, detections, ids, person, ticks, watch

from agent.tracking.tracker import Tracker

RATES = [1, 2, 5, 10, 30, 60]


@pytest.mark.parametrize("fps", RATES)
def test_a_walker_is_one_track_at_any_rate(fps: int) -> None:
    seen = watch(lambda at: [person(100 + 160 * at)], ticks(6, fps), Tracker())
    assert ids(seen) == {1}
    assert seen[-1][1][0].hits == len(seen)


def test_a_walker_is_one_track_while_the_rate_changes() -> None:
    times = np.cumsum([1 / 30] * 20 + [0.5] * 4 + [0.2] * 8 + [1.0] * 3 + [1 / 30] * 30).tolist()
    assert ids(watch(lambda at: [person(100 + 120 * at)], times, Tracker())) == {1}


def test_a_camera_slower_than_the_patience_still_has_tracks() -> None:
    seen = watch(lambda at: [person(400), person(900)], ticks(40, 0.3), Tracker(patience=2.0))
    assert ids(seen) == {1, 2}


@pytest.mark.parametrize("fps", [5, 10, 30])
def test_two_who_cross_keep_their_numbers(fps: int) -> None:
    def scene(at: float) -> list[Found]:
        return [person(100 + 160 * at, 340), person(1060 - 160 * at, 400)]

    seen = watch(scene, ticks(6, fps), Tracker())
    assert ids(seen) == {1, 2}
    first = {track.id: track.box[0] for track in seen[max(fps, 4)][1]}
    last = {track.id: track.box[0] for track in seen[-1][1]}
    assert (first[1] < first[2]) != (last[1] < last[2])


@pytest.mark.parametrize(("hidden", "numbers"), [(1.5, 1), (2.5, 2)])
@pytest.mark.parametrize("fps", [5, 30])
def test_who_is_hidden_keeps_the_number_for_the_patience_and_no_longer(fps: int, hidden: float, numbers: int) -> None:
    def scene(at: float) -> list[Found]:
        return [] if 2.0 < at < 2.0 + hidden else [person(100 + 100 * at)]

    assert len(ids(watch(scene, ticks(8, fps), Tracker(patience=2.0)))) == numbers


def test_an_unseen_track_is_told_until_its_patience_ends() -> None:
    tracker = Tracker(patience=2.0)
    watch(lambda at: [person(400)], ticks(1, 10), tracker)
    assert [track.last_seen for track in tracker.expire(2.9)] == [1.0]
    assert tracker.expire(3.1) == []


def test_a_frame_captured_before_the_last_look_at_the_clock_still_counts() -> None:
    tracker = Tracker()
    watch(lambda at: [person(400)], ticks(1, 10), tracker)
    tracker.expire(1.3)
    (track,) = tracker.update(detections([person(400)]), 1.1)
    assert (track.id, track.last_seen) == (1, 1.1)


def test_too_few_hits_make_no_track() -> None:
    seen = watch(lambda at: [person(400)] if at < 0.15 else [], ticks(3, 10), Tracker(min_hits=3))
    assert ids(seen) == set()


def test_a_look_alike_that_is_never_surely_seen_makes_no_track() -> None:
    assert ids(watch(lambda at: [person(400, score=0.5)], ticks(10, 10), Tracker())) == set()
    assert ids(watch(lambda at: [person(400, score=0.5)], ticks(10, 10), Tracker(confirm_score=0.5))) == {1}


def test_a_doubtful_detection_carries_a_track_on_but_begins_none() -> None:
    seen = watch(lambda at: [person(400, score=0.9 if at < 1 else 0.2)], ticks(9, 10), Tracker())
    assert ids(seen) == {1}
    assert seen[-1][1][0].last_seen == 9.0
    assert ids(watch(lambda at: [person(400, score=0.3)], ticks(9, 10), Tracker())) == set()


def test_a_person_called_dog_for_a_moment_stays_one_person() -> None:
    def scene(at: float) -> list[Found]:
        return [person(100 + 100 * at, class_id=16 if 1.0 <= at <= 1.3 else 0)]

    seen = watch(scene, ticks(4, 10), Tracker())
    assert ids(seen) == {1}
    assert {track.label for _, tracks in seen for track in tracks} == {"person"}


def test_a_person_first_called_dog_becomes_a_person_once() -> None:
    seen = watch(lambda at: [person(400, class_id=16 if at < 0.35 else 0)], ticks(4, 10), Tracker())
    labels = [track.label for _, tracks in seen for track in tracks]
    assert ids(seen) == {1}
    assert labels == sorted(labels)
    assert set(labels) == {"dog", "person"}


def test_a_person_and_the_dog_beside_are_two() -> None:
    def scene(at: float) -> list[Found]:
        return [person(200 + 80 * at), person(300 + 80 * at, 420, 80, class_id=16)]

    assert {track.label for _, tracks in watch(scene, ticks(4, 10), Tracker()) for track in tracks} == {"person", "dog"}


def test_one_thing_found_as_car_and_as_truck_is_one_track() -> None:
    box = (200.0, 200.0, 500.0, 400.0)
    seen = watch(lambda at: [Found(box, 0.8, 2), Found(box, 0.7, 7)], ticks(3, 10), Tracker())
    assert {track.label for _, tracks in seen for track in tracks} == {"car"}
    assert ids(seen) == {1}


def test_a_second_name_that_comes_later_makes_no_second_track() -> None:
    box = (200.0, 200.0, 500.0, 400.0)

    def scene(at: float) -> list[Found]:
        return [Found(box, 0.8, 2), *([Found(box, 0.9, 7)] if at > 1 else [])]

    assert len(ids(watch(scene, ticks(4, 10), Tracker()))) == 1


def test_a_box_without_area_or_number_is_passed_over() -> None:
    bad = [Found((10.0, 10.0, 10.0, 50.0)), Found((float("nan"), 0.0, 5.0, 5.0)), Found((50.0, 50.0, 20.0, 60.0))]
    seen = watch(lambda at: [*bad, person(400)], ticks(2, 10), Tracker())
    assert ids(seen) == {1}
    assert seen[-1][1][0].box == pytest.approx(person(400).box)


spots = st.sampled_from([150.0, 420.0, 700.0, 980.0])


@settings(max_examples=40, deadline=None)
@given(
    st.sets(spots, min_size=1),
    st.floats(-60.0, 60.0),
    st.integers(0, 2**16),
)
def test_the_number_of_tracks_does_not_depend_on_the_rate(places: set[float], speed: float, seed: int) -> None:
    def scene(at: float) -> list[Found]:
        shake = np.random.default_rng([seed, round(at * 1e3)]).normal(0.0, 3.0, len(places))
        return [person(x + speed * at + move) for x, move in zip(sorted(places), shake, strict=True)]

    for fps in (5, 10, 30):
        assert len(ids(watch(scene, ticks(4, fps), Tracker()))) == len(places)


found = st.builds(
    lambda x, y, width, height, score, class_id: Found((x, y, x + width, y + height), score, class_id),
    st.floats(-50.0, 1280.0),
    st.floats(-50.0, 720.0),
    st.floats(0.0, 500.0),
    st.floats(0.0, 500.0),
    st.floats(0.0, 1.0),
    st.integers(0, 3),
)
streams = st.lists(st.tuples(st.floats(-0.1, 3.0), st.lists(found, max_size=8)), max_size=25)


@settings(max_examples=150, deadline=None)
@given(streams, st.integers(1, 4), st.floats(0.1, 4.0))
def test_any_stream_of_detections_keeps_the_rules(
    stream: list[tuple[float, list[Found]]], min_hits: int, patience: float
) -> None:
    tracker, now, latest, gone = Tracker(min_hits=min_hits, patience=patience), 0.0, 0.0, set[int]()
    before: set[int] = set()
    for seq, (dt, things) in enumerate(stream):
        now += dt
        fresh = not seq or now > latest
        latest = max(latest, now) if seq else now
        tracks = tracker.update(detections(things, seq, now), now)
        alive = {track.id for track in tracks}
        gone |= before - alive
        before = alive
        assert len(alive) == len(tracks), "two tracks share an id"
        assert not alive & gone, "an ended track came back"
        sights = Counter(track.box for track in tracks if track.last_seen == latest)
        given_boxes = Counter(tuple(box) for box in detections(things).boxes.tolist())
        if fresh:
            assert sights <= given_boxes, "one detection belongs to two tracks"
        for track in tracks:
            assert track.hits >= min_hits
            assert track.first_seen <= track.last_seen <= latest
            assert np.isfinite(track.box).all()


@given(st.lists(st.floats(1e-4, 0.4), min_size=5, max_size=40), st.floats(0.0, 1e7))
def test_what_is_seen_now_is_last_seen_exactly_now(steps: list[float], start: float) -> None:
    times = np.cumsum([start, *steps]).tolist()
    for at, tracks in watch(lambda at: [person(400)], times, Tracker(min_hits=1)):
        assert [track.last_seen for track in tracks] == [at]
