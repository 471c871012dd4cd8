"""How patient the host is with one plugin: back-off after a failure, setting aside after many. Pure; time goes in."""

from __future__ import annotations

FAILURES_IN_A_ROW = 5
FIRST_DELAY = 1.0
LONGEST_DELAY = 60.0
FIRST_ASIDE = 30.0
LONGEST_ASIDE = 600.0


class Temper:
    """``state`` is ``running``, ``backing off`` or ``set aside``; ``ready_at`` (monotonic) when to call again."""

    def __init__(self) -> None:
        self.state = "running"
        self.reason = ""
        self.ready_at = 0.0
        self._failures = 0
        self._asides = 0
        self._failing: set[str] = set()

    def worked(self, hook: str) -> None:
        """A hook returned in time. Another hook's failures are not forgiven for that."""
        self._failing.discard(hook)
        if not self._failing:
            self.state, self.reason = "running", ""
            self._failures = self._asides = 0

    def failed(self, hook: str, what: str, now: float, retry_after: float | None = None) -> None:
        """A hook raised: wait 1 s, 2 s, … 60 s, or what it asked for; the fifth time in a row it is set aside."""
        self._failing.add(hook)
        self._failures += 1
        if self._failures >= FAILURES_IN_A_ROW:
            self.set_aside(f"{what}, {self._failures} times in a row", now)
            return
        delay = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** (self._failures - 1))
        if retry_after is not None:
            delay = min(LONGEST_ASIDE, max(0.0, retry_after))
        self.state, self.reason, self.ready_at = "backing off", what, now + delay

    def set_aside(self, why: str, now: float) -> None:
        """Leave it alone for 30 s, 60 s, … 10 min; one more failure after that and it is set aside again."""
        delay = min(LONGEST_ASIDE, FIRST_ASIDE * 2.0 ** min(self._asides, 10))
        self._asides += 1
        self._failures = FAILURES_IN_A_ROW - 1
        self.state, self.reason, self.ready_at = "set aside", why, now + delay
