"""The loop with a made-up engine and cameras: who gets his turn, what is too old, and that every event ends."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

import numpy as np
import pytest
from waiting import wait_until

from agent.config import CameraConfig
from agent.data import Decision, Detections, Event, Frame, Track
from agent.errors import AgentError, EngineError
from agent.pipeline import Lane, Pipeline
from agent.testing import make_detections
from agent.tracking.events import EventMessage, Events


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class FakeCapture:
    """Frames in a row; ``endless`` ones are taken at the moment they are asked for."""

    def __init__(self, name: str, clock: Clock, frames: Sequence[float] | None = None, *, live: bool = False) -> None:
        self.name, self.clock, self.live = name, clock, live
        self.waiting = None if frames is None else deque(frames)
        self.taken = 0
        self.failure = None
        self.source = self
        self.spared: list[float] = []

    @property
    def ended(self) -> bool:
        return self.waiting is not None and not self.waiting and not self.live

    def take(self) -> Frame | None:
        if self.waiting is not None and not self.waiting:
            return None
        captured = self.clock() if self.waiting is None else self.waiting.popleft()
        self.taken += 1
        return Frame(self.name, self.taken - 1, np.zeros((4, 4, 3), np.uint8), captured, captured)

    def spare(self, until: float) -> None:
        self.spared.append(until)

    def media_time(self, frame: Frame) -> float:
        return frame.captured_mono


class FakeDetector:
    """Tells what it was given; takes ``seconds`` of the clock for a frame, fails ``failures`` times from frame number
    ``fails_at`` on."""

    def __init__(
        self, clock: Clock, *, slots: int = 1, seconds: float = 0.01, fails_at: int | None = None, failures: int = 1
    ) -> None:
        self.clock, self.slots, self.seconds, self.fails_at = clock, slots, seconds, fails_at
        self.failures = failures
        self.revived: list[str] = []
        self.submitted: list[tuple[str, int]] = []
        self.most_open = self._open = 0
        self.workers = 1
        self.is_ready = True
        self.precision = "fp32"
        self.batch = 1
        self.on_collect: Callable[[], None] = lambda: None
        self.loading = 0.0

    def take_offers(self) -> None:
        self.clock.now += self.loading
        self.loading = 0.0

    def submit(self, frames: Sequence[Frame]) -> Frame:
        (frame,) = frames
        self.submitted.append((frame.camera, frame.seq))
        self._open += 1
        self.most_open = max(self.most_open, self._open)
        return frame

    def ready(self, pending: Frame) -> bool:
        return self.is_ready

    def when_ready(self, tell: Callable[[], None]) -> None:
        """Always."""

    def revive(self, error: EngineError) -> None:
        self.revived.append(str(error))
        self._open = 0

    def collect(self, pending: Frame) -> list[Detections]:
        self._open -= 1
        self.clock.now += self.seconds
        self.on_collect()
        if self.fails_at is not None and len(self.submitted) >= self.fails_at and self.failures:
            self.failures -= 1
            raise EngineError("the engine is gone")
        return [make_detections(("person", "dog"), pending.camera, pending.seq)]


class OneTrack:
    """A track that lives from the first frame until nothing was seen for a second."""

    def __init__(self) -> None:
        self.track: Track | None = None

    def update(self, found: Detections, at: float) -> list[Track]:
        first = self.track.first_seen if self.track else at
        box = (0.0, 0.0, 2.0, 2.0)
        self.track = Track(id=1, label="person", class_id=0, score=0.9, box=box, hits=3, first_seen=first, last_seen=at)
        return [self.track]

    def expire(self, now: float) -> list[Track]:
        return [self.track] if self.track and now - self.track.last_seen < 1.0 else []


class Told(NamedTuple):
    kind: str
    camera: str
    at: float


class Receiver:
    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.events: list[Told] = []
        self.detections: list[tuple[str, int, int]] = []

    def offer_events(self, events: Sequence[tuple[Event, Frame | None] | EventMessage]) -> None:
        self.events += [Told(event.kind, event.camera, self.clock()) for event, _ in events]

    def offer_detections(self, detections: Detections, frame: Frame) -> None:
        self.detections.append((detections.camera, detections.seq, len(detections)))


def lane(name: str, capture: FakeCapture, **config: Any) -> Lane:
    settings = CameraConfig(name=name, source="x", **config)
    return Lane(settings, capture, OneTrack(), Events(name, "node"))  # type: ignore[arg-type]


def pipeline(clock: Clock, lanes: Sequence[Lane], detector: FakeDetector, **kwargs: Any) -> tuple[Pipeline, Receiver]:
    receiver = Receiver(clock)
    wake = threading.Event()
    return Pipeline(lanes, detector, receiver, score=0.6, wake=wake, clock=clock, **kwargs), receiver  # type: ignore[arg-type]


def test_every_frame_of_a_recording_is_told_in_order_and_its_events_end() -> None:
    clock = Clock()
    capture = FakeCapture("a", clock, [100.0, 100.1, 100.2])
    loop, receiver = pipeline(clock, [lane("a", capture, realtime=False)], FakeDetector(clock, slots=2))
    loop.run()
    assert receiver.detections == [("a", 0, 1), ("a", 1, 1), ("a", 2, 1)], "doubtful ones are not told"
    assert [told.kind for told in receiver.events] == ["start", "end"]
    assert (loop.counts.inferred, loop.counts.detections) == (3, 3)
    assert loop.counts.events == {"start": 1, "end": 1}


def test_cameras_share_the_engine_by_priority_and_one_that_was_idle_gets_no_arrears() -> None:
    clock = Clock()
    idle = FakeCapture("c", clock, [], live=True)
    lanes = [
        lane("a", FakeCapture("a", clock), priority=3),
        lane("b", FakeCapture("b", clock), priority=1),
        lane("c", idle, priority=1),
    ]
    detector = FakeDetector(clock)
    detector.on_collect = lambda: setattr(idle, "waiting", None) if len(detector.submitted) == 80 else None
    loop, _ = pipeline(clock, lanes, detector, max_frames=180)
    loop.run()
    names = [name for name, _ in detector.submitted]
    assert (names[:80].count("a"), names[:80].count("b")) == (60, 20)
    assert names[80:].count("c") == pytest.approx(20, abs=1)


@pytest.mark.parametrize("live", [False, True])
def test_a_frame_older_than_max_age_is_never_inferred_and_is_counted(live: bool) -> None:
    clock = Clock()
    capture = FakeCapture("a", clock, [98.0, 98.9, 99.5], live=live)
    # Frame by frame is for recordings: a live camera's frames grow old whatever its table says.
    stale = lane("a", capture, realtime=not live, max_age=1.0)
    detector = FakeDetector(clock)
    loop, _ = pipeline(clock, [stale], detector, max_frames=1)
    loop.run()
    assert detector.submitted == [("a", 2)]
    assert (stale.stale, stale.inferred) == (2, 1)


def test_a_frame_that_grew_old_while_a_better_engine_was_loaded_is_not_inferred() -> None:
    clock = Clock()
    capture = FakeCapture("a", clock, [100.0, 103.0], live=True)
    only = lane("a", capture, max_age=1.0)
    detector = FakeDetector(clock)
    detector.loading = 2.7
    loop, _ = pipeline(clock, [only], detector, max_frames=1)
    loop.run()
    assert detector.submitted == [("a", 1)]
    assert (only.stale, only.inferred) == (1, 1)


def test_max_age_does_not_apply_to_a_recording_frame_by_frame() -> None:
    clock = Clock()
    loop, receiver = pipeline(
        clock, [lane("a", FakeCapture("a", clock, [1.0, 2.0]), realtime=False)], FakeDetector(clock)
    )
    loop.run()
    assert len(receiver.detections) == 2


@pytest.mark.parametrize("slots", [1, 3])
def test_as_many_are_under_way_as_the_engine_has_slots_and_max_frames_is_exact(slots: int) -> None:
    clock = Clock()
    detector = FakeDetector(clock, slots=slots)
    loop, receiver = pipeline(clock, [lane("a", FakeCapture("a", clock))], detector, max_frames=7)
    loop.run()
    assert detector.most_open == slots
    assert len(detector.submitted) == len(receiver.detections) == 7
    assert [told.kind for told in receiver.events] == ["start", "end"]


def test_an_engine_that_fails_is_loaded_anew_and_the_frames_it_had_are_counted() -> None:
    clock = Clock()
    detector = FakeDetector(clock, slots=2, fails_at=5)
    (only,) = lanes = [lane("a", FakeCapture("a", clock))]
    loop, receiver = pipeline(clock, lanes, detector, max_frames=12)
    loop.run()
    assert detector.revived == ["the engine is gone"]
    assert loop.counts.revived == 1
    assert only.stale == 2, "one failed, one was under way"
    assert len(receiver.detections) == 10
    assert [told.kind for told in receiver.events] == ["start", "end"]


def test_an_engine_that_fails_again_and_again_ends_the_run_but_open_events_get_their_end() -> None:
    clock = Clock()
    lanes = [lane(name, FakeCapture(name, clock)) for name in "ab"]
    loop, receiver = pipeline(clock, lanes, FakeDetector(clock, fails_at=5, failures=1000))
    with pytest.raises(EngineError, match="gone"):
        loop.run()
    assert sorted((told.kind, told.camera) for told in receiver.events) == [
        ("end", "a"),
        ("end", "b"),
        ("start", "a"),
        ("start", "b"),
    ]


def test_stop_finishes_what_was_begun() -> None:
    clock = Clock()
    detector = FakeDetector(clock, slots=3)
    loop, receiver = pipeline(clock, [lane("a", FakeCapture("a", clock))], detector)
    detector.on_collect = loop.stop
    loop.run()
    assert len(receiver.detections) == len(detector.submitted) == 3
    assert [told.kind for told in receiver.events] == ["start", "end"]


@pytest.mark.parametrize("live", [False, True], ids=["a recording that ended", "a camera that went down"])
def test_events_end_in_time_while_another_camera_keeps_the_engine_busy(live: bool) -> None:
    clock = Clock()
    lanes = [
        lane("gone", FakeCapture("gone", clock, [100.0], live=live)),
        lane("busy", FakeCapture("busy", clock)),
    ]
    loop, receiver = pipeline(clock, lanes, FakeDetector(clock, seconds=0.05), max_frames=100)
    loop.run()
    ends = {told.camera: told.at for told in receiver.events if told.kind == "end"}
    assert ends["gone"] < 102.0
    assert ends["busy"] > 104.0


def test_the_rate_can_be_asked_from_another_thread_at_any_time() -> None:
    asked = lane("a", FakeCapture("a", Clock()))
    done = threading.Event()

    def append() -> None:
        for number in range(200_000):
            asked.recent.append(float(number))
        done.set()

    threading.Thread(target=append, daemon=True).start()
    while not done.is_set():
        assert asked.fps(0.0) >= 0


@pytest.mark.parametrize("slots", [1, 3])
def test_a_change_between_two_frames_sees_nothing_under_way_and_holds_from_the_next_frame_on(slots: int) -> None:
    clock = Clock()
    old, new = FakeDetector(clock, slots=slots), FakeDetector(clock, slots=slots)
    lanes = [lane(name, FakeCapture(name, clock)) for name in "ab"]
    loop, receiver = pipeline(clock, lanes, old, max_frames=40)
    added = lane("c", FakeCapture("c", clock))
    under_way: list[int] = []
    asked: list[Future[Any]] = []

    def change() -> str:
        under_way.append(len(old.submitted) - len(receiver.detections))
        loop.rearrange([lanes[1], added], new, 0.95)  # type: ignore[arg-type]
        return "done"

    def ask() -> None:
        if len(old.submitted) >= 10 and not asked:
            asked.append(loop.between_frames(change))

    old.on_collect = ask
    loop.run()
    assert (asked[0].result(0), under_way) == ("done", [0])
    assert {name for name, _ in old.submitted} == {"a", "b"}
    assert {name for name, _ in new.submitted} == {"b", "c"}
    assert len(old.submitted) + len(new.submitted) == len(receiver.detections) == 40
    assert [count for *_, count in receiver.detections[-5:]] == [0] * 5, "the new score holds"
    assert [(told.kind, told.camera) for told in receiver.events] == [
        ("start", "a"),
        ("start", "b"),
        ("end", "a"),
        ("start", "c"),
        ("end", "b"),
        ("end", "c"),
    ]


def test_a_change_that_fails_is_told_and_one_that_comes_too_late_is_refused() -> None:
    clock = Clock()
    loop, _ = pipeline(clock, [lane("a", FakeCapture("a", clock))], FakeDetector(clock), max_frames=3)
    broken = loop.between_frames(lambda: 1 / 0)
    loop.run()
    assert isinstance(broken.exception(0), ZeroDivisionError)
    late = loop.between_frames(lambda: "never")
    assert isinstance(late.exception(0), AgentError)


def test_the_loop_gets_on_while_a_camera_is_paused_and_stands_still_while_the_engine_hangs() -> None:
    clock = Clock()
    detector = FakeDetector(clock)
    paused = lane("a", FakeCapture("a", clock))
    loop, _ = pipeline(clock, [paused], detector, max_frames=3)
    stuck: list[str] = []

    def hang() -> None:
        clock.now += 30.0
        stuck.append(loop.progress.stuck(clock(), 10.0))
        clock.now -= 30.0

    detector.on_collect = hang
    paused.paused = True
    runner = threading.Thread(target=loop.run)
    runner.start()
    clock.now += 100.0
    wait_until(lambda: not loop.progress.stuck(clock(), 10.0), 10, "an idle wait counts")
    loop.pause(None, False)
    runner.join(10)
    assert len(stuck) == 3
    assert all(why.endswith("under way: inference of camera a") for why in stuck)
    assert not loop.progress.stuck(clock(), 10.0)


def test_a_frame_that_comes_while_another_is_inferred_is_submitted_at_once_where_a_slot_is_free() -> None:
    clock = Clock()
    detector = FakeDetector(clock, slots=3)
    detector.is_ready = False
    capture = FakeCapture("a", clock, [100.0], live=True)
    loop, receiver = pipeline(clock, [lane("a", capture)], detector)
    runner = threading.Thread(target=loop.run)
    runner.start()
    assert capture.waiting is not None
    wait_until(lambda: detector.submitted == [("a", 0)])
    capture.waiting.append(100.0)
    loop._wake.set()
    wait_until(lambda: detector.submitted == [("a", 0), ("a", 1)])
    assert receiver.detections == []
    detector.is_ready = True
    loop._wake.set()
    wait_until(lambda: [seq for _, seq, _ in receiver.detections] == [0, 1])
    loop.stop()
    runner.join(10)


def test_an_engine_is_as_busy_as_its_workers_are() -> None:
    clock = Clock()
    for workers, share in ((1, 1.0), (2, 0.5)):
        detector = FakeDetector(clock)
        detector.workers = workers
        capture = FakeCapture("a", clock, [clock.now] * 10, live=False)
        loop, _ = pipeline(clock, [lane("a", capture, realtime=False)], detector)
        began = clock.now
        loop.run()
        assert loop.counts.busy_seconds == pytest.approx(share * (clock.now - began))


def test_cameras_are_told_until_when_the_rate_lets_no_frame_be_taken() -> None:
    clock = Clock()
    capture = FakeCapture("a", clock)
    watched = lane("a", capture)
    loop, _ = pipeline(clock, [watched], FakeDetector(clock, seconds=0.1), max_frames=3)
    loop.aim(Decision(rung=0, precision="fp32", rate=5.0, reason=""))
    began = clock.now
    runner = threading.Thread(target=loop.run)
    runner.start()
    deadline = threading.Event()
    while runner.is_alive():
        clock.now += 0.05
        loop._wake.set()
        deadline.wait(0.001)
    runner.join(10)
    lifted, *dues = capture.spared
    assert lifted == -np.inf
    assert len(dues) == 3
    assert dues[-1] >= began + 0.4
    loop.pause("a", True)
    assert capture.spared[-1] == np.inf
    loop.pause("a", False)
    assert capture.spared[-1] == -np.inf
