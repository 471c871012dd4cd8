"""Pixels lent to plugins: who still holds which, by the plugin, exactly.

Each plugin gets an array of its own over the same memory, behind an object that numpy's base chain does not collapse
through; so every slice that it keeps keeps that array alive, and nobody else does.
"""

from __future__ import annotations

import threading
import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.data import Frame


class _Loan:
    """Stands between the lent array and the owner's: ``numpy.asarray`` makes this the base."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self._pixels = pixels
        interface: dict[str, Any] = dict(pixels.__array_interface__)
        interface["data"] = (interface["data"][0], True)
        interface["strides"] = pixels.strides
        self.__array_interface__ = interface


class PixelBudget:
    """``limit``: bytes of pictures that one plugin may hold on to after its hooks returned. Safe from any thread."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._loans: list[tuple[weakref.ref[NDArray[np.uint8]], int]] = []
        self.withheld = 0

    def lend(self, frame: Frame | None) -> Frame | None:
        """The frame over an array of the plugin's own; None, counted, while it holds too much."""
        if frame is None:
            return None
        if self.held() > self._limit:
            with self._lock:
                self.withheld += 1
            return None
        pixels = np.asarray(_Loan(frame.pixels))
        with self._lock:
            self._loans.append((weakref.ref(pixels), pixels.nbytes))
        return frame.with_pixels(pixels)

    def held(self) -> int:
        """Bytes of the pictures that are still alive."""
        with self._lock:
            self._loans = [(loan, size) for loan, size in self._loans if loan() is not None]
            return sum(size for _, size in self._loans)
