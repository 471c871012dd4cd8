"""The host's side of copies: page-locked memory that the device reads and writes by itself.

Pictures that a source keeps in memory of its own, used again and again, are locked where they lie, once; others are
copied into a place of ours.
"""

from __future__ import annotations

import contextlib
import logging
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from agent.engines.cuda.libcuda import lock_memory, unlock_memory
from agent.errors import EngineError

if TYPE_CHECKING:
    from agent.engines.cuda.device import Device

log = logging.getLogger(__name__)

MOST_LOCKED = 64
"""Pieces of the sources' memory that are locked at a time."""


class Pinned:
    """``size`` bytes of page-locked memory. ``address``: as the device sees it. Freed when told."""

    def __init__(self, device: Device, size: int) -> None:
        driver = device.driver
        self._device = device
        with device.guard(f"lock {size:,} bytes of host memory"):
            array = driver.pagelocked_empty(max(size, 1), np.uint8, mem_flags=driver.host_alloc_flags.DEVICEMAP)
            self.address = int(array.base.get_device_pointer())
        self._array: NDArray[np.uint8] | None = array

    @property
    def bytes(self) -> NDArray[np.uint8]:
        """The memory, uint8 ``[size]``."""
        if self._array is None:
            raise EngineError("cuda: this memory was freed")
        return self._array

    def free(self) -> None:
        """Give it back. Safe to call twice."""
        array, self._array = self._array, None
        if array is not None:
            base: Any = array.base
            with contextlib.suppress(self._device.driver.Error):
                base.free()


class Locked:
    """The memory of sources, locked at first sight; the least recently seen is unlocked when there is too much."""

    def __init__(self) -> None:
        # By address in the host's memory: the memory itself, so that it outlives its lock, and the device's address,
        # None where it could not be locked.
        self._pieces: OrderedDict[int, tuple[NDArray[np.uint8], int | None]] = OrderedDict()

    def address_of(self, pixels: NDArray[np.uint8]) -> int | None:
        """Where the device reads a picture's first byte; None for memory that will not come again."""
        memory = recycled_memory(pixels)
        if memory is None:
            return None
        host = int(memory.ctypes.data)
        if host not in self._pieces:
            self._lock(host, memory)
        self._pieces.move_to_end(host)
        address = self._pieces[host][1]
        return None if address is None else address + int(pixels.ctypes.data) - host

    def _lock(self, host: int, memory: NDArray[np.uint8]) -> None:
        while len(self._pieces) >= MOST_LOCKED:
            self._unlock(next(iter(self._pieces)))
        try:
            self._pieces[host] = memory, lock_memory(host, memory.nbytes)
        except EngineError as error:  # some systems cannot: then its pictures are copied
            log.info("pictures are copied, their memory cannot be locked: %s", error)
            self._pieces[host] = memory, None

    def _unlock(self, host: int) -> None:
        _, address = self._pieces.pop(host)
        if address is not None:
            unlock_memory(host)

    def close(self) -> None:
        """Unlock all. Safe to call twice."""
        for host in list(self._pieces):
            self._unlock(host)


def recycled_memory(pixels: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """The whole piece of memory, uint8 ``[size]``, that a picture lies in, if its source uses it again and again.

    Whatever an array is a view of says so by an attribute ``recycled``.
    """
    owner: Any = pixels
    while isinstance(owner, np.ndarray):
        owner = owner.base
    memory: NDArray[np.uint8] | None = getattr(owner, "recycled", None)
    return memory
