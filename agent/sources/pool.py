"""Memory for pictures that is used again when the last who looks at a picture has let it go.

A source that decodes into it allocates nothing in steady state, and a device may lock its few pieces once and read
every picture where it lies.
"""

from __future__ import annotations

import mmap
from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

KEPT = 8


class PixelPool:
    """``kept``: pieces that wait for their next picture at most; more are let go. Pictures may be dropped anywhere."""

    def __init__(self, kept: int = KEPT) -> None:
        # A deque's own calls are atomic: a picture may be dropped on any thread.
        self._free: deque[NDArray[np.uint8]] = deque(maxlen=kept)

    def take(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """An uninitialised uint8 array of that shape."""
        size = int(np.prod(shape))
        while self._free:
            memory = self._free.pop()
            if memory.nbytes == size:
                break
        else:
            memory = np.frombuffer(mmap.mmap(-1, size), np.uint8)  # whole pages: a device locks no other's
        return np.asarray(_Lease(self, memory, shape))

    def give_back(self, memory: NDArray[np.uint8]) -> None:
        """Nobody looks at it any more."""
        self._free.append(memory)


class _Lease:
    """What the picture's array, and every view of it, is based on: numpy's base chain does not collapse through it."""

    def __init__(self, pool: PixelPool, memory: NDArray[np.uint8], shape: tuple[int, ...]) -> None:
        self._pool = pool
        self.recycled = memory
        interface: dict[str, Any] = dict(memory.__array_interface__)
        self.__array_interface__ = interface | {"shape": tuple(shape), "strides": None}

    def __del__(self) -> None:
        self._pool.give_back(self.recycled)
