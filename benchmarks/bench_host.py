"""What the machine beneath a virtual one gave to others meanwhile: the stolen time of proc_stat(5), and its pace.

A run from which the host took a tenth says little in milliseconds, and less of the age of frames. A neighbour on the
other thread of the same core takes no time by that count, and makes everything slower all the same.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

STOLEN = 7
"""Its place among the times of proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal."""

CALM = 0.02
"""Of the processors' time may the host take so much before something is measured again."""
PIECES = 40
"""Of about a millisecond, of which the median counts: a moment's interruption is no pace."""


class Times(NamedTuple):
    """Of all processors since the machine started, in clock ticks."""

    stolen: int
    all: int


class Host:
    """Shares, 0..1, of all processors' time that the host took; 0 where nothing says so."""

    def __init__(self, stat: Path = Path("/proc/stat")) -> None:
        self._stat = stat
        self._first = self._last = read(stat)

    def lap(self) -> float:
        """Since the last lap, or the beginning."""
        before, self._last = self._last, read(self._stat)
        return share(before, self._last)

    def whole(self) -> float:
        """Since the beginning."""
        return share(self._first, read(self._stat))


def read(stat: Path) -> Times:
    """The times now; none where the kernel does not tell."""
    try:
        times = [int(word) for word in stat.read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]]
    except (OSError, ValueError):
        return Times(0, 0)
    return Times(times[STOLEN], sum(times)) if len(times) > STOLEN else Times(0, 0)


def share(before: Times, after: Times) -> float:
    """Of the time between."""
    return (after.stolen - before.stolen) / (after.all - before.all) if after.all > before.all else 0.0


def pace() -> float:
    """Milliseconds that a fixed piece of work takes now."""
    array, took = np.arange(256.0), []
    for _ in range(PIECES):
        began = time.perf_counter()
        for _ in range(200):
            np.sqrt(array * array + 1.0).max()
        took.append(time.perf_counter() - began)
    return statistics.median(took) * 1e3
