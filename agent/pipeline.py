"""The one loop: newest frames -> detector -> tracks -> events -> host.

It runs on the dispatcher's thread, which alone talks to the engine. It leaves the cameras' threads to capture.py,
what an event is to tracking, and everything that a plugin does to the host.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

import msgspec

from agent.config import CameraConfig
from agent.data import Decision, Detections, Event, Frame
from agent.detection.engine_set import EngineSet, Open
from agent.errors import AgentError, EngineError
from agent.progress import Progress
from agent.sources.capture import Capture
from agent.tracking.events import Events
from agent.tracking.sieve import unchanged
from agent.tracking.tracker import Tracker

log = logging.getLogger(__name__)

RECENT = 4096
IDLE_WAIT = 0.1
MOST_FAILURES = 3
"""Engines that fail one after the other, without an inference between: then it is no accident."""
AGE_WINDOW = 3.0


class Receiver(Protocol):
    """What the pipeline asks of the host."""

    def offer_events(self, events: Sequence[tuple[Event, Frame | None]]) -> None:
        """Take the messages of one frame; returns at once."""

    def offer_detections(self, detections: Detections, frame: Frame) -> None:
        """Take what was found in one frame; returns at once."""


class Lane:
    """One camera's way through the loop: its newest frame, its tracks, its open events, its counts."""

    def __init__(
        self,
        config: CameraConfig,
        capture: Capture,
        tracker: Tracker,
        events: Events,
        sieve: Callable[[Detections], Detections] = unchanged,
    ) -> None:
        self.config = config
        self.capture = capture
        self.sieve = sieve
        self.tracker = tracker
        self.events = events
        self.inferred = 0
        self.stale = 0
        # Frame by frame is for recordings; what a live camera saw grows old.
        self.realtime = config.realtime or capture.source.live
        self.turn = 0.0
        self.paused = False
        self.finished = False
        self.last_age_ms: float | None = None
        self.recent: deque[float] = deque(maxlen=64)
        self.recent_ages: deque[tuple[float, float]] = deque(maxlen=256)

    @property
    def name(self) -> str:
        """The camera's name."""
        return self.config.name

    def fresh(self, now: float) -> Frame | None:
        """The newest frame not yet taken, unless it is older than ``max_age``: such a one is counted and let go.

        None of a paused camera; its frames go by, and those of a recording that is read frame by frame wait.
        """
        if self.paused:
            if self.realtime:
                self.capture.take()
            return None
        frame = self.capture.take()
        if frame is None:
            return None
        if self.realtime and now - frame.captured_mono > self.config.max_age:
            self.stale += 1
            return None
        return frame

    def fps(self, now: float) -> float:
        """Frames inferred a second, over the last few seconds."""
        times = [at for at in tuple(self.recent) if now - at <= 5.0]  # a copy: the dispatcher goes on appending
        return (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 and times[-1] > times[0] else 0.0

    def age_p95_ms(self, now: float) -> float | None:
        """The 95th percentile of the ages of the frames dispatched in the last seconds; None when there were none."""
        ages = sorted(age for at, age in tuple(self.recent_ages) if now - at <= AGE_WINDOW)
        return ages[math.ceil(len(ages) * 0.95) - 1] if ages else None


class Counts(msgspec.Struct):
    """What the loop has done so far. ``first_at``: when the first frame was told, monotonic seconds; ``busy_seconds``:
    of inference, an engine that works on several frames at a time being busy with as many; ``revived``: how often a
    failed engine was loaded anew. The rings hold the last few thousand values, in milliseconds."""

    inferred: int = 0
    first_at: float | None = None
    detections: int = 0
    revived: int = 0
    busy_seconds: float = 0.0
    events: Counter[str] = msgspec.field(default_factory=Counter)
    frame_age_ms: deque[float] = msgspec.field(default_factory=lambda: deque(maxlen=RECENT))
    latency_ms: deque[float] = msgspec.field(default_factory=lambda: deque(maxlen=RECENT))


class Pipeline:
    """Runs ``run()`` on the calling thread until every recording has ended or ``stop()`` is called.

    ``score``: what a detection needs to be told; the tracker sees the doubtful ones below it too. ``wake`` is set by
    the captures when a frame is there. ``max_frames`` ends the run after so many inferences.
    """

    def __init__(
        self,
        lanes: Sequence[Lane],
        detector: EngineSet,
        receiver: Receiver,
        *,
        score: float,
        wake: threading.Event,
        max_frames: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.lanes = list(lanes)
        self.counts = Counts()
        self.progress = Progress(clock())
        self._detector = detector
        detector.when_ready(wake.set)
        self._receiver = receiver
        self._score = score
        self._wake = wake
        self._max_frames = max_frames
        self._clock = clock
        self._stop = threading.Event()
        self._open: deque[tuple[list[tuple[Lane, Frame]], Open]] = deque()
        self._actions: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._over = False
        self._lock = threading.Lock()
        self._busy_since = 0.0
        self._working = 0
        self._turn = 0.0
        self._aimed: Decision | None = None
        self._rate: float | None = None
        self._due = 0.0
        self._tended = 0.0
        self._submitted = 0
        self._failures = 0

    def stop(self) -> None:
        """Finish what was begun, end every open event, return from ``run``. Safe from any thread."""
        self._stop.set()
        self._wake.set()

    def pause(self, camera: str | None, paused: bool) -> list[str]:
        """Infer no frames of a camera (None: of any), or go on with its newest; the cameras concerned. Any thread."""
        chosen = [lane for lane in self.lanes if camera is None or lane.name == camera]
        for lane in chosen:
            lane.paused = paused
            lane.capture.spare(math.inf if paused else -math.inf)
        self._wake.set()
        return [lane.name for lane in chosen]

    def aim(self, decision: Decision) -> None:
        """The precision and the rate that hold from the next frame on. Safe from any thread."""
        self._aimed = decision
        self._wake.set()

    def between_frames(self, action: Callable[[], Any]) -> Future[Any]:
        """Have the dispatcher do it between two frames, with no inference under way. Safe from any thread.

        The Future fails with what it raised, or with AgentError when the loop has ended.
        """
        asked: Future[Any] = Future()
        with self._lock:
            over = self._over
            if not over:
                self._actions.append((action, asked))
        if over:
            asked.set_exception(AgentError("the inference loop has ended"))
        self._wake.set()
        return asked

    def rearrange(self, lanes: Sequence[Lane], detector: EngineSet, score: float) -> None:
        """Go on with these cameras, this detector and this score; a camera that left has its open events ended.

        By the dispatcher alone, see ``between_frames``. What is replaced is the caller's to stop and close.
        """
        for lane in self.lanes:
            if lane not in lanes:
                self._finish(lane)
        for lane in lanes:
            lane.turn = max(lane.turn, self._turn)
        self.lanes = list(lanes)
        self._detector = detector
        detector.when_ready(self._wake.set)
        self._score = score

    def run(self) -> None:
        """The loop. Raises EngineError when the engine fails; open events get their end in any case."""
        try:
            while not self._done():
                self._wake.clear()
                self._act()
                self._fill()
                self._tend()
                if self._open and (self._is_full() or self._detector.ready(self._open[0][1])):
                    self._dispatch()
                else:
                    self._pause_for_wake()
            while self._open:
                self._dispatch()
        finally:
            for lane in self.lanes:
                self._finish(lane)
            self._refuse_actions()

    def _is_full(self) -> bool:
        """Whether no frame that comes meanwhile could be submitted."""
        return len(self._open) >= self._detector.slots or self._is_enough()

    def _pause_for_wake(self) -> None:
        """Until a frame has come, or an inference is ready."""
        if not self._open:
            self.progress.begin("waiting for a frame")
        self._wake.wait(self._idle_wait())
        if not self._open:
            self.progress.finished(self._clock())

    def _act(self) -> None:
        """Do what was asked to be done between two frames."""
        while self._actions:
            while self._open:
                self._dispatch()
            action, asked = self._actions.popleft()
            self.progress.begin("applying a change")
            try:
                asked.set_result(action())
            except Exception as error:  # noqa: BLE001 - becomes the Future's
                asked.set_exception(error)

    def _refuse_actions(self) -> None:
        with self._lock:
            self._over = True
            left = list(self._actions)
            self._actions.clear()
        for _, asked in left:
            asked.set_exception(AgentError("the inference loop has ended"))

    def _done(self) -> bool:
        return self._is_enough() or (not self._open and all(lane.capture.ended for lane in self.lanes))

    def _is_enough(self) -> bool:
        """Whether no further frame is to be submitted."""
        return self._stop.is_set() or (self._max_frames is not None and self._submitted >= self._max_frames)

    def _idle_wait(self) -> float:
        """Until a frame comes, but not past the moment when the rate allows the next one that may be there already."""
        rest = self._due - self._clock() if self._rate is not None else 0.0
        return min(IDLE_WAIT, rest) if rest > 0 else IDLE_WAIT

    def _take_aim(self) -> None:
        """What was decided holds now: this is between two frames."""
        decision, self._aimed = self._aimed, None
        if decision is None:
            return
        self._rate = decision.rate
        self._spare(-math.inf)
        if decision.precision != self._detector.precision:
            try:
                self._detector.use(decision.precision)
            except EngineError as error:
                log.warning("%s", error)

    def _rate_allows(self) -> bool:
        return self._rate is None or self._clock() >= self._due

    def _fill(self) -> None:
        """Submit newest frames until every slot of the engine is taken, or the rate is reached."""
        self._take_aim()
        self._detector.take_offers()
        while len(self._open) < self._detector.slots and not self._is_enough() and self._rate_allows():
            chosen = self._choose_batch()
            if not chosen:
                return
            lanes = [lane for lane, _ in chosen]
            self.progress.begin(f"inference of camera {lanes[0].name}")
            self._account(len(self._open) + 1)
            try:
                started = self._detector.submit([frame for _, frame in chosen])
            except EngineError as error:
                self._revive(error, lanes)
                return
            self._open.append((chosen, started))
            self._submitted += len(chosen)

    def _choose_batch(self) -> list[tuple[Lane, Frame]]:
        """The next frame; where the engine is faster so, with those that other cameras have ready."""
        most = self._detector.batch
        if self._max_frames is not None:
            most = min(most, self._max_frames - self._submitted)
        chosen: list[tuple[Lane, Frame]] = []
        while len(chosen) < most and self._rate_allows():
            one = self._choose([lane for lane, _ in chosen])
            if one is None:
                break
            chosen.append(one)
            if self._rate is not None:
                # From the moment it was due, so that the mean is the rate; a pause is not made up for.
                self._due = max(self._due, self._clock() - 1.0 / self._rate) + 1.0 / self._rate
                self._spare(self._due)
        return chosen

    def _spare(self, until: float) -> None:
        """Have no camera fetch what will not be looked at."""
        for lane in self.lanes:
            lane.capture.spare(until)

    def _choose(self, but: Sequence[Lane]) -> tuple[Lane, Frame] | None:
        """The next frame by weighted fair queueing: who has had least for his priority, of those who have one."""
        for lane in sorted(self.lanes, key=lambda lane: lane.turn):
            frame = None if lane in but else lane.fresh(self._clock())
            if frame is not None:
                self._turn = max(self._turn, lane.turn)
                lane.turn = self._turn + 1.0 / lane.config.priority
                return lane, frame
        return None

    def _dispatch(self) -> None:
        """Collect the oldest inference and tell what it means."""
        chosen, pending = self._open.popleft()
        self.progress.begin(f"inference of camera {chosen[0][0].name}")
        try:
            batch = self._detector.collect(pending)
        except EngineError as error:
            self._revive(error, [lane for lane, _ in chosen])
            return
        self._failures = 0
        self._account(len(self._open))
        for (lane, frame), found in zip(chosen, batch, strict=True):
            self._follow(lane, frame, lane.sieve(found))
        self.progress.finished(self._clock())

    def _follow(self, lane: Lane, frame: Frame, found: Detections) -> None:
        """Track what was found in a frame, and tell what it means."""
        now = self._clock()
        # Frame by frame a recording runs faster than it was filmed: what happens in it is timed by its own clock.
        at = lane.capture.media_time(frame)
        self.progress.begin(f"tracking and telling of camera {lane.name}")
        self._tell(lane, lane.events.update(lane.tracker.update(found, at), frame, now, at=at))
        detections = found.above(self._score)
        self._receiver.offer_detections(detections, frame)
        lane.inferred += 1
        lane.recent.append(now)
        lane.last_age_ms = (self._clock() - frame.captured_mono) * 1e3
        lane.recent_ages.append((now, lane.last_age_ms))
        self.counts.inferred += 1
        if self.counts.first_at is None:
            self.counts.first_at = self._clock()
        self.counts.detections += len(detections)
        self.counts.latency_ms.append(detections.latency_ms)
        self.counts.frame_age_ms.append(lane.last_age_ms)

    def _account(self, working: int) -> None:
        """From now on so many inferences are under way."""
        now, workers = self._clock(), self._detector.workers
        self.counts.busy_seconds += min(self._working, workers) / workers * (now - self._busy_since)
        self._busy_since, self._working = now, working

    def _revive(self, error: EngineError, lanes: Sequence[Lane]) -> None:
        """The engine failed: what it had under way is lost, and counted, and it is loaded anew.

        Raises the error when it fails again and again without an inference between.
        """
        self._failures += 1
        if self._failures > MOST_FAILURES:
            raise error
        lost = [*lanes, *(lane for chosen, _ in self._open for lane, _ in chosen)]
        for lane in lost:
            lane.stale += 1
        log.error("%s; the engine is loaded anew, %d frame(s) are lost", error, len(lost))
        self._open.clear()
        self._account(0)
        self.progress.begin("loading the engine anew")
        self._detector.revive(error)
        self.counts.revived += 1
        self.progress.finished(self._clock())

    def _tell(self, lane: Lane, messages: Sequence[tuple[Event, Frame | None]]) -> None:
        if messages:
            self.counts.events.update(event.kind for event, _ in messages)
            self._receiver.offer_events(messages)

    def _tend(self) -> None:
        """Now and then, of cameras with nothing under way: end what has not been seen for too long."""
        now = self._clock()
        if self._open and now - self._tended < IDLE_WAIT:
            return
        self._tended = now
        under_way = [lane for chosen, _ in self._open for lane, _ in chosen]
        for lane in self.lanes:
            if lane in under_way:
                continue
            if lane.capture.ended:
                self._finish(lane)
            elif lane.realtime:
                self._tell(lane, lane.events.update(lane.tracker.expire(now), None, now))

    def _finish(self, lane: Lane) -> None:
        if not lane.finished:
            lane.finished = True
            self._tell(lane, lane.events.finish(self._clock(), "source" if lane.capture.ended else "stopped"))


def failure(lanes: Sequence[Lane]) -> AgentError | None:
    """What ended a recording before its end, if anything did."""
    return next((lane.capture.failure for lane in lanes if lane.capture.failure is not None), None)
