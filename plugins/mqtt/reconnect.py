"""When to try the broker again, and with which version of the protocol. Pure: outcomes in, seconds out."""

from __future__ import annotations

from enum import Enum, auto

FIRST_DELAY = 0.25
OUTAGE_CAP = 4.0
REFUSAL_FIRST = 1.0
REFUSAL_CAP = 30.0
STEADY = 10.0


class Outcome(Enum):
    """How one attempt ended."""

    SERVED = auto()
    UNREACHABLE = auto()
    HUNG_UP = auto()
    SILENT = auto()
    UNSUPPORTED = auto()
    REFUSED = auto()


class Reconnect:
    """Outages are tried again within 4 s, refusals ever more rarely up to 30 s; both jittered, both for ever.

    Version 5 comes first. A broker that names it unsupported, or that before it ever accepted a CONNECT says
    nothing to one or hangs up on two, is spoken to in 3.1.1; if that helps no more, in 5 again. ``version``
    other than 0 fixes it.
    """

    def __init__(self, version: int = 0) -> None:
        self.version = version or 5
        self._fixed = bool(version)
        self._proven = False
        self._unanswered = 0
        self._tries = 0
        self._refusals = 0
        self._brief = 0

    @property
    def flapping(self) -> bool:
        """Whether the broker accepts us and the connection then ends within seconds, again and again."""
        return self._brief >= 3

    def accepted(self) -> None:
        """The broker took a CONNECT of the present version."""
        self._proven = True
        self._unanswered = 0
        self._refusals = 0

    def after(self, outcome: Outcome, lasted: float, jitter: float) -> float:
        """Seconds from the start of the attempt (SERVED: from its end) to the next; ``jitter`` in [0, 1]."""
        if outcome is Outcome.UNSUPPORTED and self.version == 5 and not self._fixed:
            self._switch()
            return 0.0
        if outcome in (Outcome.REFUSED, Outcome.UNSUPPORTED):
            return self._refused(jitter)
        if outcome in (Outcome.HUNG_UP, Outcome.SILENT):
            self._count_unanswered(1 if outcome is Outcome.HUNG_UP else 2)
        if outcome is Outcome.SERVED:
            self._brief = self._brief + 1 if lasted < STEADY else 0
            self._tries = 0 if lasted >= STEADY else self._tries
        self._tries += 1
        return _spread(OUTAGE_CAP, FIRST_DELAY, self._tries, jitter)

    def _refused(self, jitter: float) -> float:
        self._refusals += 1
        return _spread(REFUSAL_CAP, REFUSAL_FIRST, self._refusals, jitter)

    def _count_unanswered(self, weight: int) -> None:
        self._unanswered += weight
        if self._unanswered >= 2 and not self._proven and not self._fixed:
            self._switch()

    def _switch(self) -> None:
        self.version = 4 if self.version == 5 else 5
        self._unanswered = 0


def _spread(cap: float, first: float, tries: int, jitter: float) -> float:
    return min(cap, first * 2.0 ** min(tries - 1, 10)) * (0.5 + 0.5 * jitter)
