"""An event has one start, updates where something changed, and one end, numbered without a gap."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tracking_scenes import SIZE, Found, Scene, detections, frame, person, ticks

from agent.data import Event, Frame, Track
from agent.tracking.events import EventMessage, Events, quality
from agent.tracking.tracker import Tracker

LAG = 0.05


def play(scene: Scene, times: list[float], events: Events, tracker: Tracker | None = None) -> list[EventMessage]:
    """All messages of a scene, its open events finished."""
    tracker = tracker or Tracker()
    told: list[EventMessage] = []
    for seq, at in enumerate(times):
        told += events.update(tracker.update(detections(scene(at), seq, at), at), frame(seq, at), at + LAG)
    return told + events.finish(times[-1] + LAG)


def events_of(told: list[EventMessage]) -> list[tuple[str, int]]:
    return [(message.event.kind, message.event.seq) for message in told]


def one_track(**changes: Any) -> Track:
    values: dict[str, Any] = {
        "id": 1,
        "label": "person",
        "class_id": 0,
        "score": 0.8,
        "box": person(400).box,
        "hits": 3,
        "first_seen": 0.0,
        "last_seen": 0.0,
    }
    return Track(**(values | changes))


def test_someone_who_comes_and_goes_is_one_start_and_one_end() -> None:
    told = play(lambda at: [person(400)] if 1 <= at <= 4 else [], ticks(10, 10), Events("door", "node"))
    assert events_of(told) == [("start", 0), ("end", 1)]
    start, end = (message.event for message in told)
    assert start.id == end.id
    assert (start.camera, start.node, start.label, start.size) == ("door", "node", "person", SIZE)
    assert start.started_at == pytest.approx(1.7e9 + 1.0)
    assert start.captured_at == pytest.approx(1.7e9 + 1.2)
    assert start.frame_age_ms == pytest.approx(LAG * 1e3)
    assert start.ended_at is None
    assert end.ended_at == pytest.approx(1.7e9 + 4.0)
    assert end.captured_at == pytest.approx(1.7e9 + 6.1)


def test_what_is_never_confirmed_makes_no_event() -> None:
    assert play(lambda at: [person(400)] if at < 0.05 else [], ticks(3, 10), Events("door", "node")) == []


def test_what_is_still_there_at_the_end_of_the_recording_gets_its_end() -> None:
    told = play(lambda at: [person(400), person(900)], ticks(2, 10), Events("door", "node"))
    assert sorted(message.event.kind for message in told) == ["end", "end", "start", "start"]


def test_the_end_is_told_when_the_camera_delivers_nothing_more() -> None:
    events, tracker = Events("door", "node"), Tracker(patience=2.0)
    for seq, at in enumerate(ticks(1, 10)):
        events.update(tracker.update(detections([person(400)], seq, at), at), frame(seq, at), at)
    assert events.update(tracker.expire(2.5), None, 2.5) == []
    (end,) = events.update(tracker.expire(3.5), None, 3.5)
    assert end.event.kind == "end"
    assert end.event.frame_age_ms == pytest.approx(2500.0)
    assert events.finish(4.0) == []


def test_who_stands_still_is_told_once_that_he_does_and_not_again() -> None:
    told = play(lambda at: [person(400)], ticks(60, 10), Events("door", "node"))
    assert events_of(told) == [("start", 0), ("update", 1), ("end", 2)]
    assert [message.event.stationary for message in told] == [False, True, True]


def test_a_better_picture_is_an_update_but_not_more_often_than_the_interval() -> None:
    told = play(
        lambda at: [person(400, score=min(0.6 + 0.1 * at, 0.95))],
        ticks(6, 10),
        Events("door", "node", min_interval=1.5),
    )
    times = [message.event.captured_at for message in told[:-1]]
    assert [message.event.kind for message in told[1:-1]] == ["update"] * (len(told) - 2)
    assert 1 <= len(told) - 2 <= 3
    assert min(later - earlier for earlier, later in itertools.pairwise(times)) >= 1.5 - 1e-6
    assert told[-1].event.top_score == pytest.approx(0.95)


def test_a_slightly_better_score_is_no_update() -> None:
    told = play(lambda at: [person(400 + 20 * at, score=0.85 + 0.002 * at)], ticks(20, 10), Events("door", "node"))
    assert events_of(told) == [("start", 0), ("end", 1)]


def test_a_corrected_label_is_an_update() -> None:
    told = play(lambda at: [person(400, class_id=16 if at < 0.35 else 0)], ticks(4, 10), Events("door", "node"))
    assert [(message.event.kind, message.event.label) for message in told] == [
        ("start", "dog"),
        ("update", "person"),
        ("end", "person"),
    ]


def test_a_new_zone_is_an_update() -> None:
    events = Events("door", "node", min_interval=0.0)
    events.update([one_track()], frame(0, 0.0), 0.0)
    assert events.update([one_track(last_seen=0.5)], frame(1, 0.5), 0.5) == []
    (update,) = events.update([one_track(last_seen=1.0, zones=("gate",))], frame(2, 1.0), 1.0)
    assert (update.event.kind, update.event.zones) == ("update", ("gate",))


def test_the_best_picture_is_the_one_that_shows_the_whole_person() -> None:
    def scene(at: float) -> list[Found]:
        x1, y1, x2, y2 = person(-20 + 200 * at).box
        return [Found((max(x1, 0.0), y1, x2, y2), 0.9)]

    told = play(scene, ticks(3, 10), Events("door", "node"))
    end = told[-1]
    assert end.frame is not None
    assert end.event.best_box[0] > 1.0
    assert end.frame.captured_at == pytest.approx(1.7e9 + (end.event.best_box[0] + 40 + 20) / 200.0, abs=0.11)


def test_a_cut_off_or_small_sight_is_worth_less() -> None:
    whole = quality(one_track(), SIZE)
    assert quality(one_track(box=(0.0, *person(400).box[1:])), SIZE) < whole
    assert quality(one_track(box=person(400, height=40).box), SIZE) < whole
    assert quality(one_track(score=0.5), SIZE) < whole


def test_an_event_nobody_wants_is_silent_to_its_end_and_asked_about_once() -> None:
    asked: list[Event] = []

    def keep(event: Event) -> bool:
        asked.append(event)
        return event.box[0] > 600

    told = play(
        lambda at: [person(400, score=min(0.6 + at, 0.95)), person(900)],
        ticks(4, 10),
        Events("door", "node", keep=keep),
    )
    assert [event.kind for event in asked] == ["start", "start"]
    assert {message.event.track for message in told} == {event.track for event in asked if event.box[0] > 600}
    assert events_of(told) == [("start", 0), ("end", 1)]


def test_attributes_are_merged_over_the_life_of_the_event() -> None:
    def attributes(event: Event, picture: Frame | None) -> Mapping[str, Any]:
        return {event.kind: event.seq, "last": event.kind}

    told = play(lambda at: [person(400)], ticks(2, 10), Events("door", "node", attributes=attributes))
    assert told[0].event.attributes == {"start": 0, "last": "start"}
    assert told[-1].event.attributes == {"start": 0, "end": 1, "last": "end"}


def test_a_step_of_the_wall_clock_makes_no_event_longer() -> None:
    events, tracker, told = Events("door", "node", clock_synced=lambda: False), Tracker(), []
    for seq, at in enumerate(ticks(8, 10)):
        found = [person(400)] if at <= 4 else []
        picture = frame(seq, at, wall=0.0 if at < 2 else 1.7e9)
        told += events.update(tracker.update(detections(found, seq, at), at), picture, at)
    end = told[-1].event
    assert end.ended_at is not None
    assert end.ended_at - end.started_at == pytest.approx(4.0)
    assert end.captured_at > 1.7e9
    assert not end.clock_synced


def test_a_recording_is_timed_by_its_own_clock() -> None:
    events, tracker = Events("door", "node"), Tracker()
    told: list[EventMessage] = []
    for seq, media in enumerate(ticks(2, 10)):
        mono = media / 20.0
        tracks = tracker.update(detections([person(400)], seq, media), media)
        told += events.update(tracks, frame(seq, mono), mono + LAG, at=media)
    assert told[0].event.started_at == pytest.approx(told[0].event.captured_at - 0.2)
    assert told[0].event.frame_age_ms == pytest.approx(LAG * 1e3)


lives = st.lists(
    st.tuples(st.floats(0.0, 6.0), st.floats(0.0, 6.0), st.sampled_from([200.0, 600.0, 1000.0]), st.floats(0.3, 1.0)),
    max_size=6,
)


@settings(max_examples=60, deadline=None)
@given(lives, st.sampled_from([2.0, 5.0, 12.0]), st.floats(0.3, 3.0), st.integers(0, 7))
def test_any_course_of_things_gives_well_formed_events(
    lives: list[tuple[float, float, float, float]], fps: float, patience: float, silenced: int
) -> None:
    def scene(at: float) -> list[Found]:
        here = {x: score for begin, length, x, score in lives if begin <= at <= begin + length}
        return [person(x + 20 * at, score=score) for x, score in here.items()]

    events = Events("door", "node", keep=lambda event: event.track % 8 != silenced)
    by_id: dict[str, list[Event]] = {}
    for event, _ in play(scene, ticks(12, fps), events, Tracker(patience=patience)):
        by_id.setdefault(event.id, []).append(event)
    assert len(events) == 0
    for messages in by_id.values():
        assert [message.seq for message in messages] == list(range(len(messages)))
        kinds = [message.kind for message in messages]
        assert kinds == ["start", *["update"] * (len(messages) - 2), "end"]
        for message in messages:
            assert message.started_at <= message.updated_at <= message.captured_at + 1e-6
            assert message.top_score >= message.score
            assert (message.ended_at is not None) == (message.kind == "end")
            assert message.track % 8 != silenced
    assert len({messages[0].track for messages in by_id.values()}) == len(by_id)
