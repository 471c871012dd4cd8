"""The thread of one camera: it opens the source, reads it, keeps the newest frame, and brings a lost camera back.

What a state is, when a picture is due and how long to wait before the next attempt are pure and stand in camera_state,
picture_state, pacing, slot and backoff. Nothing here touches a plugin or an engine.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable

from agent.data import CameraState, Frame
from agent.errors import SourceError
from agent.sources.backoff import Backoff
from agent.sources.base import Picture, Source, TwoStepSource
from agent.sources.camera_state import CameraStatus as CameraStatus
from agent.sources.camera_state import CameraWatch, Complaints
from agent.sources.pacing import Pacer, RateLimit, Sparing
from agent.sources.picture_state import PictureWatch
from agent.sources.pixels import checked, read_only, turned
from agent.sources.slot import NewestFrame

log = logging.getLogger(__name__)

FPS_WINDOW = 5.0
REMEMBERED_POSITIONS = 64


class Capture:
    """One camera. ``start`` begins reading on a thread of its own, ``take`` gives the newest frame, ``stop`` ends it.

    ``realtime=False`` (recordings): every frame is handed over in order, the reader waits until one is taken.
    ``fps`` limits what is offered by a live source or a recording that plays at its own pace. ``rotate``: degrees
    clockwise. ``on_frame`` is called on the camera's thread when a frame is there and when the recording has ended;
    ``on_state(camera, status)`` when the state changed, by whichever thread notices (the camera's, or the caller of
    ``status``: a thread blocked in a driver cannot tell that nothing comes), never by two at once.
    """

    def __init__(
        self,
        camera: str,
        source: Source,
        *,
        realtime: bool = True,
        fps: float | None = None,
        stall_after: float = 5.0,
        rotate: int = 0,
        on_frame: Callable[[], None] = lambda: None,
        on_state: Callable[[str, CameraStatus], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        rng: random.Random | None = None,
    ) -> None:
        self.camera = camera
        self.source = source
        self._two_step = source if isinstance(source, TwoStepSource) else None
        self._every_frame = not realtime and not source.live
        self._stall_after = stall_after
        self._rotate = rotate
        self._on_frame = on_frame
        self._on_state = on_state
        self._clock = clock
        self._wall = wall
        self._limit = RateLimit(fps) if fps is not None and not self._every_frame else None
        self._pacer = None if source.live or self._every_frame else Pacer()
        self._sparing = Sparing()
        self._backoff = Backoff(rng or random.Random())
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition()
        self._pictures = PictureWatch(stall_after)
        # Guarded by _changed:
        self._slot = NewestFrame()
        self._watch = CameraWatch(source.live, stall_after)
        self._times: deque[float] = deque(maxlen=256)
        self._positions: dict[int, float] = {}
        self._origin = 0.0
        self._restarts = 0
        self._skipped = 0
        self._over = False
        self._failure: SourceError | None = None
        # Guarded by _telling, which is held while a change is told so that changes are told in order:
        self._telling = threading.RLock()
        self._told: CameraState = "starting"
        self._complaints = Complaints()

    # What others ask

    def start(self) -> None:
        """Begin; the source is opened on the camera's own thread."""
        if self._thread is not None:
            raise RuntimeError(f"camera {self.camera} was started before")
        self._watch.start(self._clock())
        self._thread = threading.Thread(target=self._run, name=f"camera-{self.camera}", daemon=True)
        self._thread.start()

    def stop(self, timeout: float = 3.0) -> None:
        """End the thread, waiting for ``timeout`` seconds at most; one that is stuck in a driver is left behind.

        Safe to call twice, and before ``start``.
        """
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return
        thread.join(timeout)
        if thread.is_alive():
            log.warning("camera %s: still busy in its driver after %g s, left behind", self.camera, timeout)

    def take(self) -> Frame | None:
        """The newest frame that was not taken yet; None when there is none."""
        with self._changed:
            frame = self._slot.take()
            self._changed.notify_all()
            return frame

    def spare(self, until: float) -> None:
        """No frame will be taken before that moment, by ``clock``: of those that come earlier only the last ones, and
        one a second, are fetched from the source; the others count as dropped. Holds until it is called again."""
        self._sparing.until = until

    def latest(self) -> Frame | None:
        """The newest picture, taken or not, also of a frozen or black camera; None before the first. See ``spare``."""
        with self._changed:
            return self._slot.latest

    def media_time(self, frame: Frame) -> float:
        """When the frame was, in seconds on the monotonic axis: what happens in it is to be timed by this.

        A recording that is read frame by frame runs faster or slower than it was filmed: there it is the time of the
        first frame plus the position in the recording. Otherwise it is ``captured_mono``. Known for recent frames.
        """
        with self._changed:
            position = self._positions.get(frame.seq)
        return frame.captured_mono if position is None else self._origin + position

    @property
    def ended(self) -> bool:
        """A recording is at its end, or could not be read, and its last frame was taken; never true of a live one."""
        with self._changed:
            return self._over and self._slot.pending is None

    @property
    def failure(self) -> SourceError | None:
        """What kept a recording from being read to its end; None for a live source, whose failures are retried."""
        with self._changed:
            return self._failure

    def status(self, now_mono: float | None = None) -> CameraStatus:
        """The camera's state and counts. Notices, logs and reports that nothing comes any more."""
        now = self._clock() if now_mono is None else now_mono
        self._tell(now)
        return self._status(now)

    # The thread

    def _run(self) -> None:
        if self.source.live:
            self._keep_alive()
        else:
            self._play()

    def _keep_alive(self) -> None:
        """Open and read a live source, again and again."""
        while not self._stop.is_set():
            reason = self._session()
            if self._stop.is_set():
                return
            with self._changed:
                self._watch.lose(reason)
            self._tell(self._clock())
            if self._stop.wait(self._backoff.next()):
                return
            with self._changed:
                self._restarts += 1

    def _session(self) -> str:
        """One connection of a live source, from open to close; why it was lost."""
        first: float | None = None
        try:
            self.source.open()
            last = self._clock()
            while not self._stop.is_set():
                if self._next():
                    last = self._clock()
                    first = last if first is None else first
                elif self._clock() - last > self._stall_after:
                    return f"no picture that can be decoded for {self._stall_after:g} s"
            return ""
        except Exception as error:  # noqa: BLE001 - a source may come from a plugin; whatever it raises, the thread lives on
            return self._reason(error)
        finally:
            self._close()
            if first is not None:
                self._backoff.lived(self._clock() - first)

    def _play(self) -> None:
        """Read a recording once."""
        failure: SourceError | None = None
        try:
            self.source.open()
            while not self._stop.is_set() and self._next_of_recording():
                pass
        except SourceError as error:
            failure = error
        except Exception as error:  # noqa: BLE001 - as above
            failure = SourceError(f"camera {self.camera}: {self._reason(error)}")
        finally:
            self._close()
        if self._stop.is_set() and failure is None:
            return
        with self._changed:
            self._failure = failure
            self._over = True
            self._watch.end(str(failure) if failure else "")
        self._tell(self._clock())
        self._on_frame()

    def _next(self) -> bool:
        """Wait for a live source's next picture and offer it. False when one came that cannot be decoded."""
        source, picture = self._two_step, None
        if not (source.grab() if source is not None else (picture := self.source.read()) is not None):
            raise SourceError("the stream ended")
        mono, at = self._clock(), self._wall()
        if self._limit is not None and not self._limit.admit(mono):
            with self._changed:
                self._watch.alive(mono)
            return True
        if source is not None:
            if self._sparing.skips(mono):
                self._pass_by(mono)
                return True
            picture = source.retrieve()
        if picture is None:
            with self._changed:
                self._skipped += 1
            return False
        self._offer(picture, mono, at)
        return True

    def _next_of_recording(self) -> bool:
        """Read the next picture of a recording, wait until it is due, hand it over. False at the end."""
        if self._pacer is not None and self._two_step is not None:
            return self._next_in_two_steps(self._two_step, self._pacer)
        picture = self.source.read()
        if picture is None:
            return False
        position = picture.position
        if position is not None and self._pacer is not None:
            if self._limit is not None and not self._limit.admit(position):
                return True
            self._stop.wait(self._pacer.delay(position, self._clock()))
        return self._hand_over(picture)

    def _next_in_two_steps(self, source: TwoStepSource, pacer: Pacer) -> bool:
        """The same of a recording in its own time, without fetching pictures that nobody will look at."""
        if not source.grab():
            return False
        position = float(getattr(source, "position", 0.0))
        if self._limit is not None and not self._limit.admit(position):
            return True
        now = self._clock()
        delay = pacer.delay(position, now)
        if self._sparing.skips(now + delay):
            self._stop.wait(delay)
            self._pass_by(self._clock())
            return True
        picture = source.retrieve()
        if picture is None:
            return True
        self._stop.wait(max(0.0, delay - (self._clock() - now)))
        return self._hand_over(picture)

    def _hand_over(self, picture: Picture) -> bool:
        """Of a recording, stamped with this moment."""
        mono, at = self._clock(), self._wall()
        if self._every_frame:
            with self._changed:
                self._changed.wait_for(lambda: self._slot.pending is None or self._stop.is_set())
        if not self._stop.is_set():
            self._offer(picture, mono, at)
        return True

    def _offer(self, picture: Picture, mono: float, at: float) -> None:
        pixels = read_only(turned(checked(picture.pixels), self._rotate))
        seen = self._pictures.see(pixels, mono) if self.source.live else "up"
        with self._changed:
            frame = Frame(self.camera, self._slot.captured, pixels, at, mono)
            self._watch.picture(seen, mono)
            self._times.append(mono)
            self._remember(frame, picture.position)
            if seen == "up":
                self._slot.offer(frame)
            else:
                self._slot.withhold(frame)
        self._tell(mono)
        self._on_frame()

    def _pass_by(self, mono: float) -> None:
        with self._changed:
            self._slot.pass_by()
            self._watch.alive(mono)
            self._times.append(mono)

    def _remember(self, frame: Frame, position: float | None) -> None:
        if not self._every_frame or position is None:
            return
        if not self._positions:
            self._origin = frame.captured_mono - position
        self._positions[frame.seq] = position
        self._positions.pop(frame.seq - REMEMBERED_POSITIONS, None)

    def _close(self) -> None:
        try:
            self.source.close()
        except Exception as error:  # noqa: BLE001 - as above; a source that cannot be closed is no reason to lose the camera
            log.warning("camera %s: closing its source failed: %s", self.camera, self._reason(error))

    def _reason(self, error: Exception) -> str:
        """The error in a line; with its traceback in the log where it is not one that a source is meant to raise."""
        if isinstance(error, SourceError):
            return str(error)
        reason = f"{type(error).__name__}: {error}"
        with self._telling:
            if self._complaints.worth_telling(f"traceback of {reason}"):
                log.error("camera %s: its source failed", self.camera, exc_info=error)
        return reason

    # State and counts

    def _status(self, now: float) -> CameraStatus:
        with self._changed:
            state, reason = self._watch.state(now)
            return CameraStatus(
                state=state,
                reason=reason,
                captured=self._slot.captured,
                dropped=self._slot.dropped,
                fps=self._fps(now),
                last_frame_mono=self._watch.last_frame,
                restarts=self._restarts,
                skipped=self._skipped + len(getattr(self.source, "skipped", ())),
            )

    def _fps(self, now: float) -> float:
        times = [at for at in self._times if now - at <= FPS_WINDOW]
        return round((len(times) - 1) / (times[-1] - times[0]), 2) if len(times) > 1 and times[-1] > times[0] else 0.0

    def _tell(self, now: float) -> None:
        """Log and report the state where it has changed; a reason is logged once until the camera has recovered."""
        with self._telling:
            with self._changed:
                state, reason = self._watch.state(now)
            changed, self._told = state != self._told, state
            if state in ("down", "frozen", "black") and self._complaints.worth_telling(f"{state}: {reason}"):
                log.warning("camera %s: %s: %s", self.camera, state, reason)
            elif state == "up" and self._complaints.recovered():
                log.warning("camera %s: up again", self.camera)
            elif changed:
                log.info("camera %s: %s%s", self.camera, state, f": {reason}" if reason else "")
            if changed and self._on_state is not None:
                self._report(self._on_state, now)

    def _report(self, on_state: Callable[[str, CameraStatus], None], now: float) -> None:
        try:
            on_state(self.camera, self._status(now))
        except Exception:  # the listener's fault must not cost the camera
            log.exception("camera %s: a listener of its state failed", self.camera)
