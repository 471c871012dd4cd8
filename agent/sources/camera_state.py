"""What state a camera is in, and why, and which of it is worth a line in the log. Pure: time is passed in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from agent.data import CameraState
    from agent.sources.picture_state import PictureState

REMEMBERED_REASONS = 32
REASONS = {
    "frozen": "the picture has not changed for more than {stall_after:g} s",
    "black": "the picture is black",
}


class CameraStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One camera at one moment.

    ``captured``: pictures received; ``dropped``: those replaced by a newer one before they were taken, and those
    withheld while frozen or black. ``fps``: pictures received a second over the last seconds. ``last_frame_mono``:
    when the last one came (monotonic). ``restarts``: attempts to reopen a live source. ``skipped``: pictures
    that could not be decoded.
    """

    state: CameraState
    reason: str = ""
    captured: int = 0
    dropped: int = 0
    fps: float = 0.0
    last_frame_mono: float | None = None
    restarts: int = 0
    skipped: int = 0


class CameraWatch:
    """The state of one camera out of what happened to it. ``live`` cameras alone are down, frozen or black."""

    def __init__(self, live: bool, stall_after: float) -> None:
        self._live = live
        self._stall_after = stall_after
        self._started: float | None = None
        self._picture: PictureState | None = None
        self._lost: str | None = None
        self._ended: str | None = None
        self.last_frame: float | None = None

    def start(self, now: float) -> None:
        """The thread begins."""
        self._started = now

    def alive(self, now: float) -> None:
        """A picture came which nobody looks at (the configured rate is lower)."""
        self.last_frame = now
        if self._picture is not None:
            self._lost = None

    def picture(self, state: PictureState, now: float) -> None:
        """A picture came."""
        self.last_frame = now
        self._picture, self._lost = state, None

    def lose(self, reason: str) -> None:
        """The source could not be opened, or was lost; it is down until the next picture."""
        self._lost = reason

    def end(self, reason: str = "") -> None:
        """The recording is over, early if there is a reason."""
        self._ended = reason

    def state(self, now: float) -> tuple[CameraState, str]:
        """The state and its reason at ``now``."""
        if self._ended is not None:
            return "ended", self._ended
        if self._live and self._lost is not None:
            return "down", self._lost
        since = self.last_frame if self.last_frame is not None else self._started
        if self._live and since is not None and now - since > self._stall_after:
            return "down", f"no new frame for {self._stall_after:g} s"
        if self._picture is None:
            return "starting", ""
        return self._picture, REASONS.get(self._picture, "").format(stall_after=self._stall_after)


class Complaints:
    """Which bad states are told: each reason once until the camera has recovered."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def worth_telling(self, reason: str) -> bool:
        """True the first time; and never more than a few dozen different reasons in one outage."""
        if reason in self._told or len(self._told) >= REMEMBERED_REASONS:
            return False
        self._told.add(reason)
        return True

    def recovered(self) -> bool:
        """Forget all; True when there was something to recover from."""
        had_any = bool(self._told)
        self._told.clear()
        return had_any
