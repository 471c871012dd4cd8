"""When a picture is due: a recording at its own pace, a camera at no more than its configured rate. Pure."""

from __future__ import annotations

import math

LOST_PACE = 5.0
TOLERANCE = 0.1
SPARE_MARGIN = 1.25
"""A picture goes by only if the next one, so many intervals later, is still in time."""


class Pacer:
    """Plays positions (seconds since the start of a recording) against a clock.

    A late reader catches up at no more than twice the pace; one that is more than ``LOST_PACE`` seconds behind (the
    machine slept) goes on from where it is.
    """

    def __init__(self) -> None:
        self._origin: float | None = None
        self._position = 0.0
        self._due = 0.0

    def delay(self, position: float, now: float) -> float:
        """Seconds from ``now`` until the picture at ``position`` is to be shown, 0 when it is late."""
        if self._origin is None:
            self._origin = self._due = now - position
            self._position = 0.0
        step = max(0.0, position - self._position)
        earliest = self._due + step / 2
        if now - (self._origin + position) > LOST_PACE:
            self._origin = now - position
        self._position = position
        self._due = max(self._origin + position, earliest, now)
        return self._due - now


class RateLimit:
    """Admits at most ``fps`` pictures a second out of those that come, evenly."""

    def __init__(self, fps: float) -> None:
        self._interval = 1.0 / fps
        self._due = -math.inf

    def admit(self, at: float) -> bool:
        """Whether the picture that came at ``at`` is wanted."""
        if at < self._due - TOLERANCE * self._interval:
            return False
        # The schedule goes on from where it was due, so that the rate holds though pictures come a little late.
        self._due = max(self._due, at - self._interval) + self._interval
        return True


class Sparing:
    """Which pictures nobody will look at, since a newer one comes before the next is asked for: those need not be
    fetched. One a second is, so that the camera's state and its latest picture stay known.

    ``until``: the moment before which no picture is taken; another thread may set it at any time.
    """

    def __init__(self) -> None:
        self.until = -math.inf
        self._last: float | None = None
        self._interval = math.inf
        self._kept = -math.inf

    def skips(self, at: float) -> bool:
        """Whether the picture that came at ``at`` may go by; asked for each one."""
        if self._last is not None:
            gap = at - self._last
            # Cameras that stutter are taken at their slowest.
            self._interval = gap if math.isinf(self._interval) else max(gap, 0.9 * self._interval + 0.1 * gap)
        self._last = at
        in_time = math.isfinite(self._interval) and at + SPARE_MARGIN * self._interval <= self.until
        if in_time and at - self._kept < 1.0:
            return True
        self._kept = at
        return False


class Positions:
    """Positions in a recording from the container's timestamps, or by counting where those are of no use.

    ``fps`` is the container's; what cannot be a rate is taken as 25.
    """

    def __init__(self, fps: float) -> None:
        self._step = 1.0 / fps if math.isfinite(fps) and 0.01 <= fps <= 1000 else 1.0 / 25
        self._first: float | None = None
        self.last = -self._step

    def next(self, reported: float) -> float:
        """The position of the next picture, in seconds, always later than the one before; the first is at 0."""
        if self._first is None:
            self._first = reported if math.isfinite(reported) else 0.0
            self.last = 0.0
            return self.last
        position = reported - self._first
        if not math.isfinite(position) or position <= self.last:
            position = self.last + self._step
        self.last = position
        return position

    @property
    def end(self) -> float:
        """Where the recording ends after the last picture."""
        return self.last + self._step
