"""The newest frame of one camera, and the count of those that nobody took. Pure; the lock is capture.py's."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.data import Frame


class NewestFrame:
    """Room for one frame. ``captured == taken + dropped + (1 if a frame is pending)`` holds at every moment."""

    def __init__(self) -> None:
        self.captured = 0
        self.taken = 0
        self.dropped = 0
        self.pending: Frame | None = None
        self.latest: Frame | None = None

    def offer(self, frame: Frame) -> None:
        """The newest frame; an older one still pending is dropped."""
        self.withdraw()
        self.captured += 1
        self.pending = self.latest = frame

    def pass_by(self) -> None:
        """One that was not even fetched: it counts as dropped. What is pending stays."""
        self.captured += 1
        self.dropped += 1

    def withhold(self, frame: Frame) -> None:
        """A frame to be seen as the latest, but not to be taken: it counts as dropped, and so does what is pending."""
        self.offer(frame)
        self.withdraw()

    def take(self) -> Frame | None:
        """The pending frame, once."""
        frame, self.pending = self.pending, None
        self.taken += frame is not None
        return frame

    def withdraw(self) -> None:
        """Drop the pending frame, if there is one."""
        self.dropped += self.pending is not None
        self.pending = None
