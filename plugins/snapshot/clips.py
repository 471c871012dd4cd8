"""Clips of events: seconds before, the event, seconds after. Pictures are taken, encoded and written by threads of
their own at low priority; the plugin's thread only says what begins and ends."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from agent import Agent, Event, Health
from plugins.snapshot.config import Clip
from plugins.snapshot.ring import Ring, Shot
from plugins.snapshot.store import NoRoomError, Store

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

JPEG_QUALITY = 80
MAX_QUEUED = 8
"""Clips that wait to be written; beyond it the newest are left out, and counted."""
NICENESS = 10
CODECS = {"mp4": "mp4v", "webm": "VP80", "avi": "MJPG"}
CLOSE_TIMEOUT = 3.0
GIVE_UP_TIMEOUT = 1.0


class CutShortError(Exception):
    """The daemon stops, and there is no more time to write."""


class Job:
    """A clip that is being taken. ``until`` is set when the event has ended."""

    def __init__(self, event: Event, stem: str, since: float, latest: float) -> None:
        self.event_id, self.camera, self.stem = event.id, event.camera, stem
        self.since, self.until = since, latest

    def end(self, at: float) -> None:
        """Nothing after ``at``."""
        self.until = min(self.until, at)


class Taken(NamedTuple):
    """A clip's pictures, ready to be written; ``whole``: memory sufficed for all of them."""

    job: Job
    shots: list[Shot]
    whole: bool


class Clips:
    """``done(event_id, stem, suffix, about)`` is called on the writer's thread, ``lost(reason)`` too. ``wall``: UNIX
    seconds, by which frames are stamped."""

    def __init__(
        self,
        agent: Agent,
        config: Clip,
        store: Store,
        done: Callable[[str, str, str, dict[str, Any]], None],
        lost: Callable[[str], None],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._agent = agent
        self._config = config
        self._store = store
        self._done = done
        self._lost = lost
        self._wall = wall
        self._ring = Ring(config.memory)
        self._seen: dict[str, int] = {}
        self._lock = threading.Lock()
        self._jobs: dict[str, Job] = {}
        self._cameras: set[str] = set(config.cameras)
        self._queue: queue.Queue[Taken | None] = queue.Queue(MAX_QUEUED)
        self._stopping = threading.Event()
        self._giving_up = threading.Event()
        self._taker = threading.Thread(target=self._take, name="snapshot-take", daemon=True)
        self._writer = threading.Thread(target=self._write, name="snapshot-clip", daemon=True)

    def start(self) -> None:
        """Begin to remember."""
        self._taker.start()
        self._writer.start()

    def close(self) -> None:
        """Cut what is being taken here, and write for 3 s at most; what is not written then is left out.

        The writer is waited for: a thread that is in a video's encoder when the interpreter ends aborts the process.
        """
        deadline = time.monotonic() + CLOSE_TIMEOUT
        self._stopping.set()
        self._taker.join(1.0)
        self._finish(float("inf"))
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(None)
        self._writer.join(max(0.0, deadline - time.monotonic()))
        if self._writer.is_alive():
            self._giving_up.set()
            self._writer.join(GIVE_UP_TIMEOUT)

    def health(self, health: Health) -> None:
        """Which cameras there are."""
        if not self._config.cameras:
            self._cameras = set(health.cameras)

    def event(self, event: Event, stem: str) -> None:
        """An event begins, or ends."""
        with self._lock:
            job = self._jobs.get(event.id)
            if job is None and event.kind == "start" and not event.late and self._wants(event):
                since = event.started_at - self._config.before
                job = Job(event, stem, since, since + self._config.before + self._config.longest)
                self._jobs[event.id] = job
                self._store.hold(stem)
            if job is not None and event.kind == "end":
                job.end((event.ended_at or event.updated_at) + self._config.after)

    def _wants(self, event: Event) -> bool:
        camera = not self._config.cameras or event.camera in self._config.cameras
        return camera and (not self._config.labels or event.label in self._config.labels)

    # taking

    def _take(self) -> None:
        _step_back()
        period = 1.0 / self._config.fps
        due = time.monotonic()
        while not self._stopping.wait(max(0.0, due - time.monotonic())):
            due = max(due + period, time.monotonic())  # what was missed is not made up for
            try:
                for camera in tuple(self._cameras):
                    self._remember(camera)
                self._finish(self._wall())
            except Exception:
                self._agent.metrics.count("clip_faults")
                log.exception("snapshot: taking clips failed; trying on")
                self._stopping.wait(1.0)

    def _remember(self, camera: str) -> None:
        frame = self._agent.latest_frame(camera)
        if frame is None or self._seen.get(camera) == frame.seq:
            return
        self._seen[camera] = frame.seq
        shot = Shot(frame.captured_at, encode(frame.pixels, self._config.width))
        with self._lock:
            needed = [job.since for job in self._jobs.values() if job.camera == camera]
            self._ring.add(camera, shot, min([frame.captured_at - self._config.before - 1.0, *needed]))
        self._agent.metrics.gauge("clip_bytes", self._ring.total)

    def _finish(self, now: float) -> None:
        """Hand over the clips whose time is over."""
        with self._lock:
            over = [job for job in self._jobs.values() if job.until < now]
            for job in over:
                del self._jobs[job.event_id]
            ready = [self._taken(job) for job in over]
        for taken in ready:
            try:
                self._queue.put_nowait(taken)
            except queue.Full:
                self._agent.metrics.count("clips_left_out")
                self._store.release(taken.job.stem)

    def _taken(self, job: Job) -> Taken:
        shots = self._ring.between(job.camera, job.since, job.until)
        return Taken(job, shots, self._ring.is_whole(job.camera, job.since))

    # writing

    def _write(self) -> None:
        _step_back()
        while (taken := self._queue.get()) is not None:
            try:
                self._write_clip(taken)
            except CutShortError:
                self._agent.metrics.count("clips_left_out")
            except NoRoomError as error:
                self._lost(str(error))
            except Exception as error:
                log.exception("snapshot: a clip could not be written")
                self._lost(f"snapshot: a clip could not be written: {type(error).__name__}: {error}")
            finally:
                self._store.release(taken.job.stem)

    def _write_clip(self, taken: Taken) -> None:
        shots, job = taken.shots, taken.job
        if len(shots) < 2:
            self._agent.metrics.count("clips_without_pictures")
            return
        suffix = f".{self._config.format}"
        path = self._store.scratch(job.stem, suffix, sum(len(shot.jpeg) for shot in shots))
        fps = (len(shots) - 1) / max(shots[-1].at - shots[0].at, 1e-3)
        try:
            encode_clip(path, [shot.jpeg for shot in shots], fps, CODECS[self._config.format], self._giving_up.is_set)
        except Exception:
            path.unlink(missing_ok=True)
            raise
        self._store.take(job.stem, suffix, path)
        self._agent.metrics.count("clips_written")
        about = {"from": shots[0].at, "to": shots[-1].at, "pictures": len(shots), "whole": taken.whole}
        self._done(job.event_id, job.stem, suffix, about)


def encode(pixels: NDArray[np.uint8], width: int) -> bytes:
    """A picture as JPEG, no wider than ``width``; both sides even, as video codecs want them."""
    import cv2

    height, own = pixels.shape[:2]
    scale = min(1.0, width / own)
    size = max(2, round(own * scale) // 2 * 2), max(2, round(height * scale) // 2 * 2)
    small = pixels if size == (own, height) else cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    ok, buffer = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not ok:
        raise ValueError(f"a picture of shape {pixels.shape} cannot be encoded as JPEG")
    return bytes(buffer.tobytes())


def encode_clip(
    path: Path, jpegs: list[bytes], fps: float, codec: str, enough: Callable[[], bool] = lambda: False
) -> None:
    """Write a video of JPEGs, all as large as the first. NoRoomError when this OpenCV cannot, or the disk is full;
    CutShortError when it is ``enough`` before the last."""
    import cv2
    import numpy as np

    writer: cv2.VideoWriter | None = None
    size = (0, 0)
    try:
        for data in jpegs:
            if enough():
                raise CutShortError
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
            if pixels is None:
                continue
            if writer is None:
                size = (int(pixels.shape[1]), int(pixels.shape[0]))
                writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), fps, size)
                if not writer.isOpened():
                    raise NoRoomError(f"snapshot: no {codec} clip can be begun in {path.parent}; another format?")
            writer.write(pixels if size == (pixels.shape[1], pixels.shape[0]) else cv2.resize(pixels, size))
    finally:
        if writer is not None:
            writer.release()
    # OpenCV says nothing of a disk that was full.
    if not cv2.VideoCapture(str(path)).isOpened():
        raise NoRoomError(f"snapshot: a clip in {path.parent} came out unreadable; is the disk full?")


def _step_back() -> None:
    """On Linux a thread has a priority of its own."""
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
