"""How long to wait before a lost camera is tried again. Pure: the randomness is passed in, nobody sleeps here."""

from __future__ import annotations

import random

FIRST = 0.8
FACTOR = 1.5
CAP = 10.0


class Backoff:
    """Exponential with jitter: each delay is between half and all of its nominal length.

    The nominal lengths are 0.8 s, then half as much again each time, up to ``CAP`` seconds, for ever. The slow growth
    keeps a camera that comes back after T seconds waiting for little more than T / 2.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._nominal = FIRST
        self._last = 0.0

    def next(self) -> float:
        """Seconds until the next attempt."""
        self._last = self._nominal * self._rng.uniform(0.5, 1.0)
        self._nominal = min(CAP, self._nominal * FACTOR)
        return self._last

    def lived(self, seconds: float) -> None:
        """Tell how long the connection that was just lost gave pictures.

        One that outlived the wait before it earns a fresh start; one that comes and goes at once does not.
        """
        if seconds > self._last:
            self._nominal = FIRST
