"""A clock that survives a wrong wall clock: boards start in 1970 and jump to today when the network comes.

Age is counted in *known time*: monotonic within one boot, and nothing from one boot to the next, since the wall clock
of a board that has just started may show anything.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
PLAUSIBLE = 1_704_067_200.0
"""2024-01-01: a wall clock before it was never set."""


def boot_id() -> str:
    """The kernel's name for this boot, empty where it gives none."""
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def is_synced(wall: float) -> bool:
    """Whether a wall clock reading (UNIX seconds) can be one of a clock that was ever set."""
    return wall >= PLAUSIBLE


class KnownTime:
    """Seconds that only ever grow, over restarts and reboots.

    ``saved``: ``(known, boot, mono)`` as ``snapshot`` gave it at the last commit, None at the first start.
    """

    def __init__(
        self,
        saved: tuple[float, str, float] | None = None,
        *,
        mono: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        boot: Callable[[], str] = boot_id,
    ) -> None:
        self._mono = mono
        self._wall = wall
        self._boot = boot()
        self._base = 0.0
        self._start = mono()
        if saved is not None:
            self.resume(saved)

    def resume(self, saved: tuple[float, str, float]) -> float:
        """Go on from a snapshot that was found only now; by how many seconds known time is later for it."""
        known, boot, mono = saved
        offset = known + (max(0.0, self._start - mono) if boot and boot == self._boot else 0.0)
        self._base += offset
        return offset

    def now(self) -> float:
        """Known time, in seconds since the log was first begun."""
        return self._base + self._mono() - self._start

    def mono(self) -> float:
        """The monotonic clock, which ``at`` understands."""
        return self._mono()

    def at(self, mono: float) -> float:
        """Known time at a moment of the monotonic clock since this start, also one before ``resume``."""
        return self._base + mono - self._start

    def wall(self) -> float:
        """The wall clock, right or wrong."""
        return self._wall()

    def snapshot(self) -> tuple[float, str, float]:
        """What the next start needs to go on from here."""
        return self.now(), self._boot, self._mono()
