"""One frame's way through the device: its memory, and the work as one CUDA graph. What runs when is the engine's.

Copy in, preprocess, network, candidates, copy out. The graph does not depend on where a picture lies or how large it
is: kernels find that in a job that is copied before them; only a copy of fixed size is captured anew for another size.
"""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from agent.engines.base import FrameOutputs, Head, PixelFormat, Placement
from agent.engines.cuda.graphs import Graph, capture
from agent.engines.cuda.kernels import CANDIDATE, FORMAT, HEAD, Kernels
from agent.engines.cuda.pictures import Copy, Pictures, places
from agent.engines.cuda.pinned import Locked, Pinned
from agent.errors import DeviceLostError, EngineError

if TYPE_CHECKING:
    from agent.engines.cuda.device import Buffer, Device
    from agent.engines.cuda.network import Bound, Network
    from agent.engines.layers import Layer

log = logging.getLogger(__name__)

CAPACITY = 512
"""Candidates a picture that come back; when there are more, the raw outputs do."""
MOST_GRAPHS = 8
FORMS = {"cell": 0, "centre": 1, "sides": 2}


class Work(NamedTuple):
    """What a slot needs to know of pictures. ``mapped``: the kernel reads them from the host's memory."""

    layout: PixelFormat
    heads: tuple[Head, ...]
    min_score: float
    kernels: Kernels
    locked: Locked
    mapped: bool
    graphs: bool


class Slot:
    """For batches of up to ``batch`` pictures. ``stream``: a pycuda stream, perhaps shared. Raises EngineError."""

    def __init__(self, device: Device, network: Network, batch: int, stream: Any) -> None:
        self._device = device
        self._network = network
        self.batch = batch
        self.stream = stream
        self._parts: list[Buffer | Pinned] = []
        self._shapes = dict(network.shapes(batch))
        shape = network.input.shape
        self._input_shape = (batch, *(side or 1 for side in shape[1:]))
        self._input_dtype = np.dtype(network.input.dtype)
        self._bound: dict[int, Bound] = {}
        self._graphs: OrderedDict[tuple[object, ...], Graph | None] = OrderedDict()
        self._done: Any = device.driver.Event(device.driver.event_flags.DISABLE_TIMING)
        self._work: Work | None = None
        self._pictures = Pictures(device, batch)
        self.submitted = 0
        try:
            self.input = self._buffer(math.prod(self._input_shape) * self._input_dtype.itemsize, "the input")
            self._outputs = {spec.name: self._output(spec.name, spec.dtype) for spec in network.outputs}
        except BaseException:
            self.close()
            raise

    # tensors

    def submit_tensor(self, batch: NDArray[np.generic]) -> None:
        """The network on an input that is there already, in the host's memory."""
        with self._device.guard("copy the input"):
            self._device.driver.memcpy_htod_async(self.input.address, np.ascontiguousarray(batch), self.stream)
        self._enqueue(len(batch))
        self._fetch_all(len(batch))
        self._finish(len(batch))

    def submit_network(self, batch: int) -> None:
        """The network alone on whatever lies in the input, as a graph: the floor that benchmarks measure against."""
        self._run(("network", batch), lambda: self._enqueue(batch), graphs=True)
        self._finish(batch)

    def collect_tensor(self) -> dict[str, NDArray[np.generic]]:
        """The outputs by name, once they are there."""
        self.wait()
        return self._host_outputs(self.submitted)

    # pictures

    def take(self, work: Work) -> None:
        """Get ready for pictures."""
        self._forget_graphs()
        self._work = work
        self._layout = _layout(work.layout)
        tables = [self._table(head) for head in work.heads]
        first = np.cumsum([0, *(len(head.cells) for head in work.heads)]).tolist()
        self._records = [self._head(*each) for each in zip(work.heads, tables, first, strict=False)]
        size = (4 * self.batch + CANDIDATE.itemsize * CAPACITY * self.batch + 3) & ~3
        if work.heads:
            self._found = self._buffer(size, "candidates")
            self._found_here = self._pinned(size)

    def set_min_score(self, min_score: float) -> None:
        """Another threshold; it is part of what was captured."""
        self._work = self._ready()._replace(min_score=min_score)
        for record in self._records:
            record["min_score"] = min_score
        self._forget_graphs()

    def submit_frames(self, pixels: Sequence[NDArray[np.uint8]], placements: Sequence[Placement]) -> None:
        """Everything, from the pictures' bytes on."""
        work = self._ready()
        count = len(pixels)
        copies = self._pictures.place(pixels, placements, self.stream, work.locked, mapped=work.mapped)
        key = ("frames", count, *places(copies))
        self._run(key, lambda: self._whole(count, copies), graphs=work.graphs)
        self._finish(count)

    def collect_frames(self) -> FrameOutputs:
        """What was found, once it is there."""
        work, count = self._ready(), self.submitted
        self.wait()
        if not work.heads:
            return FrameOutputs(self._host_outputs(count), None)
        counts = self._found_here.bytes[: 4 * self.batch].view(np.int32)[:count]
        if counts.max(initial=0) > CAPACITY:
            self._fetch_all(count)
            self._finish(count)
            self.wait()
            return FrameOutputs(self._host_outputs(count), None)
        rows = self._found_here.bytes[4 * self.batch :].view(np.float32).reshape(self.batch, CAPACITY, -1)
        return FrameOutputs({}, tuple(_sorted(rows[place, :n]) for place, n in enumerate(counts)))

    def layers(self, runs: int) -> list[Layer] | None:
        """What each layer of the network costs, on whatever lies in the input; None where the network cannot tell."""
        offered = getattr(self._network, "layers", None)
        if offered is None:
            return None
        with self._device.guard("time the layers"):
            found: list[Layer] = offered(self.batch, self.input.address, self._targets(), self.stream, runs)
        return found

    def submit_preprocess(self, pixels: Sequence[NDArray[np.uint8]], placements: Sequence[Placement]) -> None:
        """Copy and kernel alone, for benchmarks and tests; the result lies in the input."""
        work = self._ready()
        copies = self._pictures.place(pixels, placements, self.stream, work.locked, mapped=work.mapped)
        key = ("preprocess", len(pixels), *places(copies))
        self._run(key, lambda: self._to_input(len(pixels), copies), graphs=work.graphs)
        self._finish(len(pixels))

    def read_input(self) -> NDArray[np.generic]:
        """The input as it lies in the device's memory."""
        self.wait()
        target = np.empty(self._input_shape, self._input_dtype)
        with self._device.guard("read the input"):
            self._device.driver.memcpy_dtoh(target, self.input.address)
        return target

    def close(self) -> None:
        """Free all of it. Safe to call twice."""
        self._forget_graphs()
        for bound in self._bound.values():
            bound.close()
        self._bound.clear()
        self._pictures.close()
        while self._parts:
            self._parts.pop().free()
        # pycuda frees these when they are forgotten, and only while their context is there.
        self._done = self.stream = self._work = None

    # what a graph is made of

    def _whole(self, count: int, copies: Sequence[Copy]) -> None:
        work = self._ready()
        self._to_input(count, copies)
        self._enqueue(count)
        if not work.heads:
            self._fetch_all(count)
            return
        driver, device = self._device.driver, self._device
        rows = self._found.address + 4 * self.batch
        with device.guard("find candidates"):
            driver.memset_d32_async(self._found.address, 0, self.batch, self.stream)
            for record in self._records:
                work.kernels.candidates(self.stream, record, self._found.address, rows, count, CAPACITY)
            driver.memcpy_dtoh_async(self._found_here.bytes, self._found.address, self.stream)

    def _to_input(self, count: int, copies: Sequence[Copy]) -> None:
        work = self._ready()
        with self._device.guard("preprocess"):
            for target, source in copies:
                self._device.driver.memcpy_htod_async(target, source, self.stream)
            jobs = self._pictures.copy_jobs(self.stream)
            work.kernels.preprocess(self.stream, jobs, self.input.address, count, self._layout)

    def _enqueue(self, count: int) -> None:
        if count not in self._bound:
            self._bound[count] = self._network.bind(count, self.input.address, self._targets())
        self._bound[count].enqueue(int(self.stream.handle))

    def _targets(self) -> dict[str, int]:
        return {name: buffer.address for name, (buffer, _) in self._outputs.items()}

    def _fetch_all(self, count: int) -> None:
        with self._device.guard("copy the outputs"):
            for name, (buffer, _) in self._outputs.items():
                here = self._here(name)
                self._device.driver.memcpy_dtoh_async(
                    here.bytes[: self._bytes(name, count)], buffer.address, self.stream
                )

    def _run(self, key: tuple[object, ...], work: Callable[[], None], *, graphs: bool) -> None:
        """As a graph from the second time on; as calls where that cannot be."""
        if not graphs or not self._network.capturable:
            work()
            return
        if key not in self._graphs:
            work()  # what is made at the first run (algorithms, memory) cannot be made while capturing
            self._wait_for_stream()
            self._graphs[key] = self._captured(work)
            while len(self._graphs) > MOST_GRAPHS:
                _, old = self._graphs.popitem(last=False)
                if old is not None:
                    old.free()
        graph = self._graphs[key]
        self._graphs.move_to_end(key)
        if graph is None:
            work()
        else:
            graph.launch(int(self.stream.handle))

    def _captured(self, work: Callable[[], None]) -> Graph | None:
        try:
            return capture(self._network_stream(), work)
        except DeviceLostError:
            raise
        except EngineError as error:
            log.warning("%s: no CUDA graph, its work is given call by call: %s", self._network.backend, error)
            return None

    def _network_stream(self) -> int:
        return int(self.stream.handle)

    def _finish(self, count: int) -> None:
        with self._device.guard("end the work"):
            self._done.record(self.stream)
        self.submitted = count

    def wait(self) -> None:
        """Until what was submitted is done. Raises EngineError."""
        with self._device.guard("wait for the work"):
            self._done.synchronize()

    def _wait_for_stream(self) -> None:
        with self._device.guard("wait for the work"):
            self.stream.synchronize()

    # memory

    def _ready(self) -> Work:
        if self._work is None:
            raise EngineError(f"{self._network.backend}: take_frames was not called")
        return self._work

    def _buffer(self, size: int, what: str) -> Buffer:
        buffer = self._device.allocate(size, what)
        self._parts.append(buffer)
        return buffer

    def _pinned(self, size: int) -> Pinned:
        pinned = Pinned(self._device, size)
        self._parts.append(pinned)
        return pinned

    def _output(self, name: str, dtype: str) -> tuple[Buffer, list[Pinned]]:
        size = math.prod(self._shapes[name]) * np.dtype(dtype).itemsize
        return self._buffer(size, f"output {name}"), []

    def _here(self, name: str) -> Pinned:
        """The host's side of an output, made when it is first asked for."""
        buffer, here = self._outputs[name]
        if not here:
            here.append(self._pinned(buffer.size))
        return here[0]

    def _bytes(self, name: str, count: int) -> int:
        return self._outputs[name][0].size // self.batch * count

    def _host_outputs(self, count: int) -> dict[str, NDArray[np.generic]]:
        found: dict[str, NDArray[np.generic]] = {}
        for spec in self._network.outputs:
            flat = self._here(spec.name).bytes[: self._bytes(spec.name, count)]
            found[spec.name] = flat.view(spec.dtype).reshape(count, *self._shapes[spec.name][1:])
        return found

    def _table(self, head: Head) -> Buffer:
        cells = np.ascontiguousarray(head.cells, np.float32)
        table = self._buffer(cells.nbytes, "the cells")
        with self._device.guard("copy the cells"):
            self._device.driver.memcpy_htod(table.address, cells)
        return table

    def _head(self, head: Head, table: Buffer, first: int) -> np.void:
        record = np.zeros((), HEAD)
        for part in ("score", "box"):
            name = head.scores if part == "score" else head.boxes
            _, rows, columns = self._shapes[name]
            record["scores" if part == "score" else "boxes"] = self._outputs[name][0].address
            record[f"{part}_picture"] = rows * columns
            record[f"{part}_cell"], record[f"{part}_value"] = (1, columns) if head.cells_last else (columns, 1)
        record["cells"], record["count"], record["first"] = table.address, len(head.cells), first
        record["classes"], record["class_at"], record["box_at"] = head.classes, head.class_at, head.box_at
        record["objectness"] = -1 if head.objectness is None else head.objectness
        record["form"], record["min_score"] = FORMS[head.form], self._ready().min_score
        return cast("np.void", record[()])

    def _forget_graphs(self) -> None:
        while self._graphs:
            _, graph = self._graphs.popitem()
            if graph is not None:
                graph.free()


def _layout(layout: PixelFormat) -> np.void:
    record = np.zeros((), FORMAT)
    record["width"], record["height"] = layout.size
    record["rgb"], record["channels_last"] = layout.rgb, layout.channels_last
    mean, scale = np.array(layout.mean), np.array(layout.scale)
    record["plain"] = bool((mean == 0).all() and (scale == 1).all())
    record["mean"], record["scale"], record["shift"] = mean, scale, mean * scale
    record["pad"] = (layout.pad - mean) * scale
    return cast("np.void", record[()])


def _sorted(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """In the order of the cells, whatever order the device came to them in; a copy."""
    return rows[np.argsort(rows[:, 6], kind="stable")][:, :6]
