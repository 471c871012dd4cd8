"""Zones, lines, dwell, loitering, things left and taken: what people would say that they saw."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tracking_scenes import SIZE, Found, Scene, detections, frame, person, ticks

from agent.config import LimitConfig, LineConfig, MaskConfig, ZoneConfig
from agent.data import Event
from agent.errors import ConfigError
from agent.tracking.events import Events
from agent.tracking.presence import PATH_POINTS, Presence
from agent.tracking.sieve import Sieve
from agent.tracking.tracker import Tracker

LEFT_HALF = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
RATES = [1, 2, 5, 10, 30]


def zone(**changes: Any) -> ZoneConfig:
    return ZoneConfig(**({"camera": "door", "name": "left", "polygon": LEFT_HALF} | changes))


def line(**changes: Any) -> LineConfig:
    """Down the middle of the picture: walking down it, the left hand is on the right of the picture."""
    return LineConfig(**({"camera": "door", "name": "middle", "points": ((0.5, 0.0), (0.5, 1.0))} | changes))


def play(
    scene: Scene, times: Sequence[float], presence: Presence, tracker: Tracker | None = None, **options: Any
) -> list[Event]:
    tracker, events = tracker or Tracker(), Events("door", "node", presence=presence, **options)
    told: list[Event] = []
    for seq, at in enumerate(times):
        tracks = tracker.update(detections(scene(at), seq, at), at)
        told += [message.event for message in events.update(tracks, frame(seq, at), at)]
    return told + [message.event for message in events.finish(times[-1])]


def across(at: float) -> list[Found]:
    """From the left to the right in six seconds: over the middle at 3.0 s."""
    return [person(160 + 160 * at)]


@pytest.mark.parametrize("fps", RATES)
def test_who_walks_through_enters_leaves_and_crosses_once_at_any_rate(fps: int) -> None:
    presence = Presence([zone(), zone(name="right", polygon=tuple((1 - x, y) for x, y in LEFT_HALF))], [line()])
    end = play(across, ticks(6, fps), presence)[-1]
    assert end.zones_entered == ("left", "right")
    assert (end.zones, end.zones_left) == (("right",), ("left",))
    assert end.dwell["left"] == pytest.approx(3.0, abs=1.2 / fps + 0.2)
    assert [(crossing.line, crossing.direction, crossing.count) for crossing in end.crossings] == [("middle", "out", 1)]
    assert end.crossings[0].at == pytest.approx(1.7e9 + 3.0, abs=1.2 / fps + 0.2)


def test_each_entry_exit_and_crossing_is_told_by_an_update() -> None:
    told = play(across, ticks(6, 10), Presence([zone()], [line()]), min_interval=0.0)
    assert [event.kind for event in told][0::4] == ["start", "end"][: len(told[0::4])]
    assert told[0].zones == ("left",)
    changed = [event for event in told if event.kind == "update" and not event.zones]
    assert changed[0].zones_left == ("left",)
    assert any(event.crossings for event in told if event.kind == "update")


def test_there_and_back_counts_once_in_each_direction() -> None:
    presence = Presence(lines=[line(directions=("west", "east"))])
    scene: Scene = lambda at: [person(160 + 160 * at if at < 6 else 1120 - 160 * (at - 6))]  # noqa: E731
    end = play(scene, ticks(12, 10), presence)[-1]
    assert [crossing.direction for crossing in end.crossings] == ["east", "west"]
    assert dict(presence.counts) == {("middle", "east"): 1, ("middle", "west"): 1}


def test_counts_go_on_from_one_object_to_the_next() -> None:
    presence = Presence(lines=[line()])
    told = play(lambda at: across(at % 9) if at % 9 < 6 else [], ticks(26, 10), presence)
    ends = [event for event in told if event.kind == "end"]
    assert [crossing.count for event in ends for crossing in event.crossings] == [1, 2, 3]


def test_who_trembles_on_a_line_or_an_edge_neither_crosses_nor_leaves() -> None:
    shake = np.random.default_rng(7).normal(0.0, 4.0, 1200).tolist()
    presence = Presence([zone()], [line()])
    told = play(lambda at: [person(638 + shake[round(at * 10)])], ticks(100, 10), presence)
    assert [event.kind for event in told if event.crossings] == []
    assert len(told) <= 4


def test_a_line_that_ends_before_the_path_is_not_crossed() -> None:
    presence = Presence(lines=[line(points=((0.5, 0.0), (0.5, 0.3)))])
    assert play(across, ticks(6, 10), presence)[-1].crossings == ()


def test_the_centre_may_count_instead_of_the_foot() -> None:
    upper = ((0.0, 0.0), (1.0, 0.0), (1.0, 0.55), (0.0, 0.55))
    presence = Presence([zone(polygon=upper), zone(name="middle", polygon=upper, anchor="centre")])
    assert play(across, ticks(2, 10), presence)[-1].zones == ("middle",)


def test_a_zone_for_cars_does_not_know_people() -> None:
    assert play(across, ticks(2, 10), Presence([zone(labels=("car",))]))[-1].zones_entered == ()


def test_who_stays_too_long_is_loitering_and_that_is_told_once() -> None:
    told = play(lambda at: [person(300 + 20 * np.sin(at))], ticks(60, 5), Presence([zone(loiter_after=20.0)]))
    first = next(event for event in told if event.loitering)
    assert first.kind == "update"
    assert first.updated_at - first.started_at == pytest.approx(20.0, abs=0.4)
    assert len([event for event in told if event.kind == "update" and event.loitering]) <= 3


def test_who_passes_is_not_loitering() -> None:
    assert play(across, ticks(6, 5), Presence([zone(loiter_after=20.0)]))[-1].loitering == ()


def test_dwell_adds_up_over_several_stays() -> None:
    scene: Scene = lambda at: [person(400 if at % 20 < 10 else 900)]  # noqa: E731
    glide: Scene = lambda at: [person(640 + 300 * np.cos(at * 2 * np.pi / 20))]  # noqa: E731
    end = play(glide, ticks(40, 10), Presence([zone()]))[-1]
    assert end.dwell["left"] == pytest.approx(20.0, abs=1.5)
    assert scene(0)


def bag(x: float = 500.0) -> Found:
    return person(x, 420, 60, class_id=24)


def someone_leaves_a_bag(at: float) -> list[Found]:
    """Both come in from the left together; at 4 s the person goes on alone."""
    x = 100 + 100 * min(at, 4.0)
    carrier = person(x if at < 6 else x + 150 * (at - 6), 360, 200)
    return [carrier, bag(x + 60)] if carrier.box[0] < 1280 else [bag(x + 60)]


def test_a_thing_that_is_put_down_and_alone_is_left_behind() -> None:
    presence = Presence([zone(polygon=((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)), left_after=10.0)])
    told = play(someone_leaves_a_bag, ticks(40, 5), presence)
    bags = [event for event in told if event.label == "class 24"]
    first = next(event for event in bags if event.left_behind)
    assert first.updated_at - 1.7e9 == pytest.approx(8.0 + 10.0, abs=3.0)
    assert not any(event.left_behind for event in told if event.label == "person")


def test_a_thing_with_its_owner_beside_is_not_left_behind() -> None:
    presence = Presence([zone(polygon=((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)), left_after=10.0)])
    scene: Scene = lambda at: [person(100 + 100 * min(at, 4.0)), bag(160 + 100 * min(at, 4.0))]  # noqa: E731
    assert not any(event.left_behind for event in play(scene, ticks(40, 5), presence))


def test_a_thing_that_was_always_there_is_not_left_behind() -> None:
    presence = Presence([zone(left_after=10.0)])
    assert not any(event.left_behind for event in play(lambda at: [bag()], ticks(40, 5), presence))


@pytest.mark.parametrize("carried", [False, True])
def test_a_thing_that_is_taken_from_its_place_is_removed(carried: bool) -> None:
    presence = Presence([zone(removed=True)])

    def scene(at: float) -> list[Found]:
        if at < 20:
            return [bag()]
        return [bag(500 + 60 * (at - 20))] if carried and at < 26 else []

    told = play(scene, ticks(100, 5), presence)
    assert (told[-1].kind, told[-1].ended_by, told[-1].removed) == ("end", "gone", True)
    assert not any(event.removed for event in told if event.updated_at < 1.7e9 + 19)


def test_what_lies_there_when_the_recording_ends_was_not_removed() -> None:
    end = play(lambda at: [bag()], ticks(30, 5), Presence([zone(removed=True)]))[-1]
    assert (end.ended_by, end.removed) == ("source", False)


def test_occupancy_is_how_many_are_in_each_zone_now() -> None:
    presence = Presence([zone(), zone(name="all", polygon=((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)))])
    tracker = Tracker()
    for seq, at in enumerate(ticks(1, 10)):
        presence.look(tracker.update(detections([person(300), person(500), person(900)], seq, at), at), SIZE, at)
    assert presence.occupancy() == {"left": 2, "all": 3}


def test_a_mask_hides_what_stands_in_it_and_nothing_else() -> None:
    sieve = Sieve([MaskConfig(polygon=LEFT_HALF)])
    found = sieve(detections([person(300), person(900), person(500)]))
    assert (len(found), len(found.labels), found.boxes[0, 0]) == (1, 1, pytest.approx(860))
    assert len(sieve(detections([]))) == 0


def test_limits_are_for_their_labels() -> None:
    sieve = Sieve(limits=[LimitConfig(labels=("person",), min_height=0.2, max_area=0.1, min_score=0.5)])
    things = [
        person(100),
        person(200, height=100),
        person(300, score=0.3),
        person(400, height=100, class_id=2),
        Found((0, 0, 700, 700)),
    ]
    assert sieve(detections(things)).boxes[:, 0].tolist() == pytest.approx([60.0, 380.0])


def test_what_never_moves_under_a_mask_for_what_is_still_makes_no_event() -> None:
    presence = Presence(masks=[MaskConfig(polygon=LEFT_HALF, hides="still")])
    scene: Scene = lambda at: [person(200), person(800)] + ([person(300 + 80 * at)] if at > 3 else [])  # noqa: E731
    starts = [event for event in play(scene, ticks(8, 10), presence) if event.kind == "start"]
    assert len(starts) == 2
    assert all(event.box[0] > 300 for event in starts)


def test_what_moves_under_a_mask_for_what_moves_is_told_when_it_stands() -> None:
    presence = Presence(masks=[MaskConfig(polygon=LEFT_HALF, hides="moving")])
    scene: Scene = lambda at: [person(100 + 100 * min(at, 4.0))]  # noqa: E731
    (start, *_rest) = play(scene, ticks(30, 5), presence)
    assert start.captured_at - 1.7e9 > 8.0
    assert play(lambda at: [person(100 + 80 * at)], ticks(5, 5), presence) == []


@pytest.mark.parametrize("polygon", [((0.0, 0.0), (1.0, 1.0), (1.0, 0.0), (0.0, 1.0)), ((0.1, 0.1),) * 3])
def test_a_polygon_that_is_none_is_refused_by_name(polygon: tuple[tuple[float, float], ...]) -> None:
    with pytest.raises(ConfigError, match="zone left"):
        Presence([zone(polygon=polygon)])
    with pytest.raises(ConfigError, match=r"mask\[0\]"):
        Sieve([MaskConfig(polygon=polygon)])


def test_a_path_tells_the_way_and_never_grows_without_bound() -> None:
    end = play(across, ticks(6, 10), Presence())[-1]
    assert end.path[0][1] < 300
    assert end.path[-1][1] > 1000
    assert [step[0] for step in end.path] == sorted(step[0] for step in end.path)
    scene: Scene = lambda at: [person(640 + 500 * np.cos(at), 360, 100)]  # noqa: E731
    long = play(scene, ticks(120, 10), Presence())[-1]
    assert 8 <= len(long.path) <= PATH_POINTS
    assert long.path[0][0] < 1.0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1280), st.floats(0, 720)), min_size=3, max_size=40),
    st.sampled_from([1.0, 0.2, 0.05]),
)
def test_any_walk_gives_consistent_stays(walk: list[tuple[float, float]], step: float) -> None:
    from agent.data import Track

    presence, total = Presence([zone(loiter_after=3.0)], [line()]), 0.0
    for index, (x, y) in enumerate(walk):
        box = (x - 20, y - 100, x + 20, y)
        at = index * step
        track = Track(id=1, label="person", class_id=0, score=0.9, box=box, hits=3, first_seen=0.0, last_seen=at)
        presence.look([track], SIZE, at)
        course, total = presence[1], at
        assert set(course.zones) | set(course.left) == set(course.entered)
        assert set(course.loitering) <= set(course.entered)
        assert sum(course.dwell().values()) <= total + 0.02
        assert bool(course.loitering) == (course.dwell().get("left", 0.0) >= 3.0) or course.dwell()["left"] >= 2.98
    ways = [crossing.direction for crossing in presence[1].crossings]
    assert all(first != second for first, second in itertools.pairwise(ways)), "twice over in one direction"


def test_whoever_paces_at_the_edge_of_a_zone_is_told_ever_more_seldom_and_nothing_is_lost() -> None:
    scene: Scene = lambda at: [person(640 + 120 * np.sin(2 * np.pi * at / 3.0))]  # noqa: E731
    told = play(scene, ticks(600, 5), Presence([zone()], [line()]))
    assert len(told) < 100
    gaps = [later.captured_at - earlier.captured_at for earlier, later in itertools.pairwise(told[:-1])]
    assert min(gaps) >= 1.0 - 1e-6
    assert max(gaps) <= 33.0
    assert told[-1].crossings[-1].count == pytest.approx(200, abs=3)
