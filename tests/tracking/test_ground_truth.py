"""Three clips watched by eye, frame by frame: who came and went when, who crossed which line. Our events say the same,
at the clip's rate and at five frames a second.

Entries are the first frames in which any of a person or car is to be seen, exits the last, crossings the frames in
which its middle passes the line.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from recordings import Recording, occurrences, recording

from agent.config import LineConfig, ZoneConfig
from agent.data import Event
from agent.tracking.presence import Presence

RATES = [(None, 0.0), (5.0, 0.0), (5.0, 0.07), (5.0, 0.14)]


class Seen(NamedTuple):
    """By eye, in frames. ``stood``: from when to when at the table. ``crossed``: which direction, and when."""

    entry: int
    exit: int
    direction: str
    crossed: int
    stood: tuple[int, int] | None = None


PEOPLE = (
    Seen(60, 197, "gone", 189, (76, 184)),
    Seen(227, 449, "gone", 440, (244, 434)),
    Seen(502, 700, "gone", 688, (520, 682)),
    Seen(744, 868, "gone", 858, (762, 850)),
    Seen(921, 1198, "gone", 1186, (943, 1180)),
    Seen(1234, 1359, "gone", 1348, (1256, 1341)),
)
CARS = (
    Seen(55, 107, "up", 79),
    Seen(181, 228, "down", 207),
    Seen(188, 237, "up", 209),
    Seen(315, 347, "down", 332),
)
EXIT = LineConfig(
    camera="clip", name="exit", points=((0.8, 0.0), (0.8, 1.0)), directions=("back", "gone"), anchor="centre"
)
TABLE = ZoneConfig(camera="clip", name="table", polygon=((0.42, 0.55), (0.8, 0.55), (0.86, 1.0), (0.36, 1.0)))
MIDDLE = LineConfig(
    camera="clip", name="middle", points=((0.0, 0.5), (1.0, 0.5)), directions=("down", "up"), anchor="centre"
)


def frame_of(clip: Recording, at: float) -> float:
    return at * clip.rate


def assert_came_and_went(clip: Recording, seen: Seen, start: Event, end: Event) -> None:
    """Soon after the entry (at first there is only a tuft of hair, or a bonnet), shortly before the exit."""
    assert end.ended_at is not None
    assert seen.entry - 1 <= frame_of(clip, start.started_at) <= seen.entry + 2.0 * clip.rate
    assert seen.exit - 0.7 * clip.rate <= frame_of(clip, end.ended_at) <= seen.exit + 2


def assert_crossed(clip: Recording, line: str, seen: Seen, end: Event) -> None:
    assert [(crossing.line, crossing.direction) for crossing in end.crossings] == [(line, seen.direction)]
    assert abs(frame_of(clip, end.crossings[0].at) - seen.crossed) <= 0.7 * clip.rate


@pytest.mark.parametrize(("fps", "phase"), RATES)
def test_six_people_walk_in_stand_at_the_table_and_walk_out(fps: float | None, phase: float) -> None:
    clip, presence = recording("one-by-one-person-detection"), Presence([TABLE], [EXIT])
    events = occurrences(clip, presence, fps, phase)
    assert [start.label for start, _ in events] == ["person"] * len(PEOPLE)
    for seen, (start, end) in zip(PEOPLE, events, strict=True):
        assert_came_and_went(clip, seen, start, end)
        assert_crossed(clip, "exit", seen, end)
        assert (end.zones_entered, end.zones_left) == (("table",), ("table",))
        assert seen.stood is not None
        stood = (seen.stood[1] - seen.stood[0]) / clip.rate
        assert stood - 0.5 <= end.dwell["table"] <= stood + 3.5, "and the steps there and away"
    assert dict(presence.counts) == {("exit", "gone"): 6}


@pytest.mark.parametrize(("fps", "phase"), RATES)
def test_four_cars_drive_through_two_up_and_two_down(fps: float | None, phase: float) -> None:
    """Seen from above YOLOX-nano takes cars for phones and buses; how many there are it tells all the same."""
    clip, presence = recording("car-detection"), Presence(lines=[MIDDLE])
    events = occurrences(clip, presence, fps, phase)
    assert len(events) == len(CARS)
    for seen, (start, end) in zip(CARS, events, strict=True):
        assert_came_and_went(clip, seen, start, end)
        assert_crossed(clip, "middle", seen, end)
    assert dict(presence.counts) == {("middle", "up"): 2, ("middle", "down"): 2}


@pytest.mark.parametrize(("fps", "phase"), RATES)
def test_four_people_sit_in_the_classroom_from_the_first_to_the_last_frame(fps: float | None, phase: float) -> None:
    clip, presence = recording("classroom"), Presence(lines=[MIDDLE, EXIT])
    people = [(start, end) for start, end in occurrences(clip, presence, fps, phase) if start.label == "person"]
    assert len(people) == 4
    for start, end in people:
        assert end.ended_at is not None
        assert start.started_at <= 0.5
        assert end.ended_at >= float(clip.times[-1]) - 0.5
        assert (end.ended_by, end.crossings, end.removed) == ("source", (), False)


@pytest.mark.parametrize("fps", [None, 15.0, 10.0, 5.0, 2.0])
def test_billboards_at_night_make_at_most_one_false_alert(fps: float | None) -> None:
    """A rule for people, as the alert plugin's sample has it but without any cooldown. Who walks there is below the
    billboards (in frames 44 to 51 and 248 to 256); one figure on them may pass for a person."""
    events = occurrences(recording("rf_example_video"), Presence(), fps)
    alerts = [end for start, end in events if start.label == "person" and end.top_score >= 0.6]
    assert len([end for end in alerts if end.box[3] < 110]) <= 1
    assert len(alerts) <= 3


def test_the_recordings_are_what_the_detector_finds(material: Path, tmp_path: Path) -> None:
    """Of every 25th frame; the rest is as true as these."""
    from agent.data import Frame
    from agent.detection.add import Wishes, add_model
    from agent.detection.detector import Detector
    from agent.engines.onnx import OnnxEngine
    from agent.sources.video import VideoFile

    wishes = Wishes(name="nano", labels="coco80")
    onnx = material / "models" / "yolox_nano_416.onnx"
    package = add_model(onnx, wishes, tmp_path, OnnxEngine, replace=False).package
    detector = Detector(package, OnnxEngine(package.file_of(package.choose("fp32")), threads=1), score=0.1, iou=0.6)
    clip, source = recording("car-detection"), VideoFile(material / "video" / "car-detection.mp4")
    source.open()
    for number in range(len(clip.times)):
        assert source.grab()
        picture = source.retrieve()
        assert picture is not None
        if number % 25 == 0:
            found, kept = detector.detect(Frame("clip", number, picture.pixels, 0.0, 0.0)), clip.found(number)
            sure, kept_sure = found.above(0.3), kept.above(0.3)
            assert sure.labels == kept_sure.labels
            np.testing.assert_allclose(sure.boxes, kept_sure.boxes, atol=2.0)
    source.close()
    detector.close()
