"""Newest only, and every frame accounted for."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agent.data import Frame
from agent.sources.camera_state import CameraWatch, Complaints
from agent.sources.slot import NewestFrame


def frame(seq: int) -> Frame:
    return Frame("door", seq, np.zeros((1, 1, 3), np.uint8), 0.0, 0.0)


@given(st.lists(st.sampled_from(["offer", "take", "withhold", "withdraw", "pass"])))
def test_what_was_captured_was_taken_or_dropped_or_is_pending(actions: list[str]) -> None:
    slot, last_taken, newest_seq = NewestFrame(), -1, -1
    for action in actions:
        newest = slot.captured
        if action == "offer":
            slot.offer(frame(newest))
            assert slot.pending is not None
            assert slot.pending.seq == newest
        elif action == "withhold":
            slot.withhold(frame(newest))
            assert slot.pending is None
        elif action == "withdraw":
            slot.withdraw()
        elif action == "pass":
            slot.pass_by()
        elif (taken := slot.take()) is not None:
            assert taken.seq > last_taken
            assert taken.seq == newest_seq
            last_taken = taken.seq
        assert slot.captured == slot.taken + slot.dropped + (slot.pending is not None)
        if action in ("offer", "withhold"):
            newest_seq = newest
        assert (slot.latest.seq if slot.latest else -1) == newest_seq


def test_a_camera_is_starting_then_up_then_down_when_nothing_comes() -> None:
    watch = CameraWatch(live=True, stall_after=5)
    watch.start(0.0)
    assert watch.state(4.0) == ("starting", "")
    watch.picture("up", 4.5)
    assert watch.state(9.0) == ("up", "")
    assert watch.state(9.6) == ("down", "no new frame for 5 s")


def test_a_camera_that_gives_nothing_from_the_start_is_down() -> None:
    watch = CameraWatch(live=True, stall_after=5)
    watch.start(0.0)
    assert watch.state(5.5)[0] == "down"


def test_a_lost_camera_is_down_until_its_next_picture() -> None:
    watch = CameraWatch(live=True, stall_after=5)
    watch.picture("up", 1.0)
    watch.lose("the cable is out")
    assert watch.state(1.1) == ("down", "the cable is out")
    watch.picture("up", 2.0)
    assert watch.state(2.0) == ("up", "")


def test_a_recording_is_never_down() -> None:
    watch = CameraWatch(live=False, stall_after=5)
    watch.start(0.0)
    watch.picture("up", 1.0)
    assert watch.state(1000.0) == ("up", "")
    watch.end("cut short")
    assert watch.state(1000.0) == ("ended", "cut short")


def test_a_reason_is_told_once_until_the_camera_has_recovered() -> None:
    complaints = Complaints()
    told = [complaints.worth_telling(reason) for reason in ("a", "a", "b", "a", "b")]
    assert told == [True, False, True, False, False]
    assert complaints.recovered()
    assert not complaints.recovered()
    assert complaints.worth_telling("a")


def test_a_camera_with_ever_new_reasons_does_not_fill_the_log() -> None:
    complaints = Complaints()
    assert sum(complaints.worth_telling(f"reason {index}") for index in range(1000)) < 50
