"""A network on a CUDA device as an engine: tensors in, tensors out; or pictures in, candidates out.

It owns every CUDA object and is used by one thread, the dispatcher. What the network is, TensorRT's or ONNX Runtime's,
is its own business.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from agent.engines.base import FrameOutputs, Head, Outputs, PixelFormat, Placement
from agent.engines.cuda.kernels import Kernels
from agent.engines.cuda.pinned import Locked
from agent.engines.cuda.slot import Slot, Work
from agent.engines.layers import RUNS, Layer
from agent.engines.tensors import check_batch
from agent.errors import DeviceLostError, EngineError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agent.engines.cuda.device import Device
    from agent.engines.cuda.network import Network

log = logging.getLogger(__name__)

TRIALS = 7
TRIAL_SIZE = (1920, 1080)


class Ticket(NamedTuple):
    """One submitted batch. ``number`` makes it unlike any other."""

    slot: Slot
    number: int
    frames: bool


class CudaEngine:
    """See ``agent.engines.base.FrameEngine``. Owns ``device`` and ``network``: ``close`` closes both.

    ``slots``: frames under way at a time. ``cache``: folder for compiled kernels. ``graphs``: the whole work of a frame
    as one CUDA graph. ``mapped``: the kernel reads pictures from the host's memory; None: measured, and always so on a
    device that shares its memory with the host. Raises EngineError.
    """

    def __init__(
        self,
        device: Device,
        network: Network,
        *,
        slots: int = 2,
        cache: Path | None = None,
        graphs: bool = True,
        mapped: bool | None = None,
    ) -> None:
        self.device = device
        self.network = network
        self.backend = network.backend
        self.input = network.input
        self.outputs = network.outputs
        self.slots = slots
        self.max_batch = network.max_batch
        self._cache = cache
        self._graphs = graphs
        self._mapped = True if device.integrated else mapped
        self._locked = Locked()
        self._open: dict[int, Ticket] = {}
        self._count = 0
        self._shared: Any = None
        self._work: Work | None = None
        self._closed = False
        self._free: list[Slot] = []
        self._all: list[Slot] = []
        try:
            fixed = network.input.shape[0] or 1
            for _ in range(slots):
                self._free.append(self._make_slot(fixed))
        except BaseException:
            self.close()
            raise

    def submit(self, batch: NDArray[np.generic]) -> Ticket:
        """Start the network on an input of the host's. Raises EngineError."""
        check_batch(batch, self.input, self.backend)
        slot = self._take(len(batch))
        return self._started(slot, lambda: slot.submit_tensor(batch), frames=False)

    def collect(self, ticket: Ticket) -> Outputs:
        """The outputs by name; valid until the slot is used again. Raises EngineError."""
        slot = self._end(ticket)
        return slot.collect_tensor()

    def output_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """See FrameEngine. Raises EngineError."""
        return self.network.shapes(self.input.shape[0] or 1)

    def take_frames(self, layout: PixelFormat, heads: Sequence[Head], min_score: float) -> None:
        """See FrameEngine. Raises EngineError."""
        kernels = Kernels(self.device, self.input.dtype, self._cache)
        work = Work(layout, tuple(heads), min_score, kernels, self._locked, bool(self._mapped), self._graphs)
        self._prepare(work)
        if self._mapped is None:
            self._mapped = self._is_mapped_faster()
            self._prepare(work._replace(mapped=self._mapped))

    def set_min_score(self, min_score: float) -> None:
        """See FrameEngine. Raises EngineError."""
        if self._work is None or self._open:
            raise EngineError(f"{self.backend}: no other score while frames are under way, or before take_frames")
        self._work = self._work._replace(min_score=min_score)
        for slot in self._free:
            slot.set_min_score(min_score)

    def submit_frames(self, pixels: Sequence[NDArray[np.uint8]], placements: Sequence[Placement]) -> Ticket:
        """See FrameEngine. Raises EngineError."""
        slot = self._take(len(pixels))
        return self._started(slot, lambda: slot.submit_frames(pixels, placements), frames=True)

    def collect_frames(self, ticket: Ticket) -> FrameOutputs:
        """See FrameEngine. Raises EngineError."""
        return self._end(ticket).collect_frames()

    def run_network(self, batch: int = 1) -> None:
        """The network alone, once, waited for: the floor that benchmarks measure against."""
        slot = self._take(batch)
        self._end(self._started(slot, lambda: slot.submit_network(batch), frames=False), wait=True)

    def device_ms(self, repeats: int = 50) -> float:
        """Milliseconds of the network alone, by the device's own clock (CUDA events around so many runs)."""
        driver, slot = self.device.driver, self._take(self.input.shape[0] or 1)
        with self.device.guard("time the network"):
            began, ended = driver.Event(), driver.Event()
            slot.submit_network(slot.batch)
            began.record(slot.stream)
            for _ in range(repeats):
                slot.submit_network(slot.batch)
            ended.record(slot.stream)
            ended.synchronize()
        self._free.append(slot)
        return float(began.time_till(ended)) / repeats

    def layers(self, runs: int = RUNS) -> list[Layer] | None:
        """What each layer of the network costs, dearest first; None where it cannot tell. Raises EngineError."""
        slot = self._take(self.input.shape[0] or 1)
        try:
            return slot.layers(runs)
        finally:
            self._free.append(slot)

    def run_preprocess(self, pixels: Sequence[NDArray[np.uint8]], placements: Sequence[Placement]) -> Slot:
        """Copy and kernel alone, waited for; the slot's ``read_input`` gives the result."""
        slot = self._take(len(pixels))
        return self._end(
            self._started(slot, lambda: slot.submit_preprocess(pixels, placements), frames=True), wait=True
        )

    def memory(self) -> Mapping[str, int]:
        """Bytes on the device: ``buffers`` of ours, ``used`` by all of it, ``total``."""
        free, total = self.device.memory()
        return {"buffers": self.device.allocated, "used": total - free, "total": total}

    @property
    def mapped(self) -> bool:
        """Whether the kernel reads pictures from the host's memory."""
        return bool(self._mapped)

    def close(self) -> None:
        """Free everything in order: graphs, buffers, the network, the device. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        self._open.clear()
        for slot in self._all:
            slot.close()
        if self._work is not None:
            self._work.kernels.close()
        self._locked.close()
        self._shared = None
        self.network.close()
        self.device.close()

    def _make_slot(self, batch: int) -> Slot:
        """With a stream of its own where the network allows several at once."""
        stream = getattr(self.network, "stream", None) or self._shared
        if stream is None:
            stream = self.device.stream()
            self._shared = None if self.network.concurrent else stream
        slot = Slot(self.device, self.network, batch, stream)
        self._all.append(slot)
        if self._work is not None:
            slot.take(self._work)
        return slot

    def _prepare(self, work: Work) -> None:
        if self._open:
            raise EngineError(f"{self.backend}: take_frames while frames are under way")
        self._work = work
        for slot in list(self._free):
            slot.take(work)

    def _take(self, count: int) -> Slot:
        if self._closed:
            raise EngineError(f"{self.backend}: the engine is closed")
        if count < 1 or (self.max_batch is not None and count > self.max_batch):
            raise EngineError(f"{self.backend}: takes 1 to {self.max_batch or 'any number of'} pictures, not {count}")
        if not self._free:
            raise EngineError(f"{self.backend}: all {self.slots} slots are taken, collect one first")
        slot = self._free.pop(0)
        if slot.batch >= count:
            return slot
        slot.close()
        self._all.remove(slot)
        try:
            return self._make_slot(count)
        except BaseException:
            self._free.append(self._make_slot(slot.batch))
            raise

    def _started(self, slot: Slot, work: Any, *, frames: bool) -> Ticket:
        try:
            work()
        except DeviceLostError:
            self.device.lost = True
            raise
        except BaseException:
            self._free.append(slot)
            raise
        self._count += 1
        ticket = self._open[self._count] = Ticket(slot, self._count, frames)
        return ticket

    def _end(self, ticket: Ticket, *, wait: bool = False) -> Slot:
        if self._open.pop(ticket.number, None) is None:
            raise EngineError(f"{self.backend}: this ticket was collected before, or the engine is closed")
        self._free.append(ticket.slot)
        if wait:
            ticket.slot.wait()
        return ticket.slot

    def _is_mapped_faster(self) -> bool:
        """Copy a picture and read the copy, or read it where it is: the medians of a few interleaved trials."""
        assert self._work is not None
        picture = np.zeros((TRIAL_SIZE[1], TRIAL_SIZE[0], 3), np.uint8)
        width, height = self._work.layout.size
        placement = Placement((0, 0, *TRIAL_SIZE), (0, 0, width, height))
        seconds: dict[bool, list[float]] = {False: [], True: []}
        for mapped in (False, True):
            self._prepare(self._work._replace(mapped=mapped))
            for _ in range(TRIALS):
                started = time.perf_counter()
                self.run_preprocess([picture], [placement])
                seconds[mapped].append(time.perf_counter() - started)
        chosen = sorted(seconds[True])[TRIALS // 2] < sorted(seconds[False])[TRIALS // 2]
        log.info("%s: pictures are %s", self.backend, "read where they lie" if chosen else "copied to the device")
        return chosen
