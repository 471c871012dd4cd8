"""The pictures of a slot where the kernel finds them, and the jobs that say where that is.

A picture is read where it lies, copied from there, or from a page-locked buffer. When the work runs is slot.py's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agent.engines.base import Placement
from agent.engines.cuda.kernels import JOB
from agent.engines.cuda.pinned import Locked, Pinned
from agent.engines.cuda.taps import column_taps, row_taps

if TYPE_CHECKING:
    from agent.engines.cuda.device import Buffer, Device


class Copy(NamedTuple):
    """From the host's memory to an address of the device."""

    target: int
    source: NDArray[np.uint8]


class Pictures:
    """Of one slot, for batches of up to ``batch``. Raises EngineError."""

    def __init__(self, device: Device, batch: int) -> None:
        self._device = device
        self._staging: list[Pinned | None] = [None] * batch
        self._copies: list[Buffer | None] = [None] * batch
        self._tables: list[tuple[tuple[object, ...], Buffer] | None] = [None] * batch
        self._jobs_here = Pinned(device, JOB.itemsize * batch)
        self._jobs = device.allocate(JOB.itemsize * batch, "jobs")
        self._records: NDArray[np.void] = self._jobs_here.bytes.view(JOB)

    def place(
        self,
        pixels: Sequence[NDArray[np.uint8]],
        placements: Sequence[Placement],
        stream: Any,
        locked: Locked,
        *,
        mapped: bool,
    ) -> list[Copy]:
        """Write the jobs. Gives the copies that are still to be made, from and to places that stay."""
        copies: list[Copy] = []
        for place, (picture, placement) in enumerate(zip(pixels, placements, strict=True)):
            address, copy = self._bring(place, picture, stream, locked, mapped=mapped)
            copies += [copy] if copy else []
            self._write_job(place, picture, placement, address, stream)
        return copies

    def copy_jobs(self, stream: Any) -> int:
        """Have the jobs copied to the device, where they lie at the address that is returned."""
        self._device.driver.memcpy_htod_async(self._jobs.address, self._jobs_here.bytes, stream)
        return self._jobs.address

    def close(self) -> None:
        """Free all of it. Safe to call twice."""
        parts = [
            *self._staging,
            *self._copies,
            *(table[1] for table in self._tables if table),
            self._jobs_here,
            self._jobs,
        ]
        for part in parts:
            if part is not None:
                part.free()

    def _bring(
        self, place: int, picture: NDArray[np.uint8], stream: Any, locked: Locked, *, mapped: bool
    ) -> tuple[int, Copy | None]:
        """The device's address of a picture, and the copy that is still to be made for it."""
        address = locked.address_of(picture) if picture.flags.c_contiguous else None
        if address is not None and mapped:
            return address, None
        size = picture.nbytes
        if address is not None:
            target = self._copy_of(place, size)
            with self._device.guard("copy a picture"):
                self._device.driver.memcpy_htod_async(target.address, picture.reshape(-1), stream)
            return target.address, None
        staging = self._staging_of(place, size)
        np.copyto(staging.bytes[:size].reshape(picture.shape), picture)
        if mapped:
            return staging.address, None
        target = self._copy_of(place, size)
        return target.address, Copy(target.address, staging.bytes[:size])

    def _write_job(
        self, place: int, picture: NDArray[np.uint8], placement: Placement, address: int, stream: Any
    ) -> None:
        (x, y, width, height), (left, top, target_width, target_height) = placement
        table = self._table_of(place, (width, height, target_width, target_height), stream)
        pitch = 3 * picture.shape[1]
        job = self._records[place]
        job["pixels"], job["pitch"] = address + y * pitch + 3 * x, pitch
        job["columns"], job["rows"] = table.address, table.address + 16 * target_width
        job["left"], job["top"], job["width"], job["height"] = left, top, target_width, target_height

    def _table_of(self, place: int, sizes: tuple[int, int, int, int], stream: Any) -> Buffer:
        kept = self._tables[place]
        if kept is not None and kept[0] == sizes:
            return kept[1]
        width, height, target_width, target_height = sizes
        taps = np.concatenate((column_taps(width, target_width), row_taps(height, target_height)))
        if kept is not None:
            kept[1].free()
        self._tables[place] = None
        table = self._device.allocate(taps.nbytes, "weights")
        self._tables[place] = (sizes, table)
        with self._device.guard("copy the weights"):
            self._device.driver.memcpy_htod(table.address, taps)
        return table

    def _staging_of(self, place: int, size: int) -> Pinned:
        kept = self._staging[place]
        if kept is None or len(kept.bytes) < size:
            if kept is not None:
                kept.free()
            self._staging[place] = None
            kept = self._staging[place] = Pinned(self._device, size)
        return kept

    def _copy_of(self, place: int, size: int) -> Buffer:
        kept = self._copies[place]
        if kept is None or kept.size < size:
            if kept is not None:
                kept.free()
            self._copies[place] = None
            kept = self._copies[place] = self._device.allocate(size, "a picture")
        return kept


def places(copies: Sequence[Copy]) -> list[tuple[int, int, int]]:
    """What makes two lots of copies the same for a graph."""
    return [(copy.target, int(copy.source.ctypes.data), copy.source.nbytes) for copy in copies]
