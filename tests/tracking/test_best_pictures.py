"""The pictures of open events never take more than their budget, and a shared one counts once."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tracking_scenes import Found, detections, frame, person, ticks

from agent.data import Frame
from agent.tracking.events import EventMessage, Events
from agent.tracking.pictures import BestPictures
from agent.tracking.tracker import Tracker

VGA = 640 * 480 * 3


def vga(seq: int) -> Frame:
    return frame(seq, float(seq), (640, 480))


def test_a_picture_that_two_events_share_is_counted_once() -> None:
    pictures, shared = BestPictures(), vga(0)
    pictures.put("a", shared)
    pictures.put("b", shared)
    assert pictures.nbytes == VGA
    pictures.drop("a")
    assert pictures.nbytes == VGA
    pictures.drop("b")
    assert pictures.nbytes == 0


def test_over_the_budget_the_oldest_picture_is_let_go() -> None:
    pictures = BestPictures(2 * VGA)
    for seq, key in enumerate("abc"):
        pictures.put(key, vga(seq))
    assert pictures.get("a") is None
    assert pictures.get("b") is not None
    assert pictures.nbytes == 2 * VGA
    assert pictures.released == 1


def test_a_better_picture_takes_the_place_of_the_old_one() -> None:
    pictures = BestPictures()
    pictures.put("a", vga(0))
    pictures.put("a", vga(1))
    assert pictures.nbytes == VGA
    held = pictures.get("a")
    assert held is not None
    assert held.seq == 1


steps = st.lists(st.tuples(st.sampled_from("abcd"), st.one_of(st.none(), st.integers(0, 5))), max_size=40)


@given(steps, st.integers(0, 6))
def test_the_budget_holds_and_the_bytes_are_those_of_the_pictures_held(
    steps: list[tuple[str, int | None]], budget: int
) -> None:
    frames = [Frame("door", seq, np.zeros((1, 1, 3 if seq % 2 else 6), dtype=np.uint8), 0.0, 0.0) for seq in range(6)]
    pictures = BestPictures(3 * budget)
    for key, seq in steps:
        if seq is None:
            pictures.drop(key)
        else:
            pictures.put(key, frames[seq])
        held = {id(picture): picture.nbytes for name in "abcd" if (picture := pictures.get(name)) is not None}
        assert pictures.nbytes == sum(held.values()) <= 3 * budget


def play(budget: int) -> tuple[list[EventMessage], BestPictures]:
    pictures = BestPictures(budget)
    events, tracker, told = Events("door", "node", pictures=pictures), Tracker(), list[EventMessage]()

    def scene(at: float) -> list[Found]:
        return [person(200 + 300 * index) for index in range(4) if at >= index]

    for seq, at in enumerate(ticks(6, 10)):
        tracks = tracker.update(detections(scene(at), seq, at), at)
        told += events.update(tracks, frame(seq, at), at)
        assert pictures.nbytes <= budget
    return told + events.finish(6.0), pictures


def test_events_go_on_without_the_pictures_that_the_budget_took() -> None:
    told, pictures = play(2 * 1280 * 720 * 3)
    ends = [message for message in told if message.event.kind == "end"]
    assert [message.frame is not None for message in ends] == [False, False, True, True]
    assert pictures.nbytes == 0


def test_a_start_has_its_picture_even_when_the_budget_holds_none() -> None:
    told, _ = play(0)
    assert all(message.frame is not None for message in told if message.event.kind == "start")
    assert all(message.frame is None for message in told if message.event.kind == "end")
