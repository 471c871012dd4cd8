"""Whether the inference loop gets on: the one thing that the watchdog of the service manager is fed by.

Pure but for being written by the dispatcher and read by another thread. What becomes of a loop that does not get on is
the service manager's.
"""

from __future__ import annotations


class Progress:
    """The loop gets on when it finishes an inference or an idle wait: of a paused, lost or rate-limited camera, too.

    What a plugin's thread does is no part of it. ``now``: monotonic seconds.
    """

    def __init__(self, now: float) -> None:
        self._finished = now
        self._doing = "starting"

    def begin(self, doing: str) -> None:
        """What is under way now, in words."""
        self._doing = doing

    def finished(self, now: float) -> None:
        """An inference, all that follows from it told; or an idle wait."""
        self._finished = now

    def stuck(self, now: float, limit: float) -> str:
        """Why this is no progress, when nothing was finished for ``limit`` seconds; else empty."""
        rest = now - self._finished
        if rest <= limit:
            return ""
        return f"nothing was finished for {rest:.1f} s; under way: {self._doing}"
