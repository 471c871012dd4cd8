"""Event logs for the tests, with clocks that the test moves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.host.clock import PLAUSIBLE, KnownTime
from agent.host.log import EVENTS, EventLog
from agent.host.store import Entry


class Clocks:
    """A monotonic and a wall clock that the test moves, and the name of a boot."""

    def __init__(self, mono: float = 1000.0, wall: float = PLAUSIBLE + 1e6, boot: str = "boot-1") -> None:
        self.mono, self.wall, self.boot = mono, wall, boot

    def make(self, saved: tuple[float, str, float] | None) -> KnownTime:
        return KnownTime(saved, mono=lambda: self.mono, wall=lambda: self.wall, boot=lambda: self.boot)

    def pass_(self, seconds: float) -> None:
        self.mono += seconds
        self.wall += seconds


@contextmanager
def opened(path: Path, clocks: Clocks | None = None, **kwargs: float) -> Iterator[EventLog]:
    log = EventLog(path, **({"make_clock": clocks.make} if clocks else {}), **kwargs)  # type: ignore[arg-type]
    try:
        yield log
    finally:
        log.close()


def put(log: EventLog, *payloads: bytes, stream: str = EVENTS) -> list[int]:
    """Append in one commit and wait until it is accepted; the numbers."""
    return log.append([Entry(stream, payload) for payload in payloads]).result(30)


def everything(log: EventLog, stream: str = EVENTS) -> list[bytes]:
    """All payloads of a stream, in order."""
    return [row.payload for row in log.read(stream, 0, 100_000)]
