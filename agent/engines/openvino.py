"""OpenVINO as an engine: loads one ONNX graph on the processor, to run in float32 or, where that is asked, in bfloat16.

What the tensors mean is left to the detection room, and which precision is good enough to the precision room.
"""

from __future__ import annotations

import mmap
import os
import re
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from agent.engines.base import Outputs, TensorSpec
from agent.engines.onnx import cores
from agent.engines.onnx_file import read_onnx
from agent.engines.tensors import check_batch
from agent.errors import EngineError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Arithmetic = Literal["f32", "bf16"]

WAY_OUT = "pip install 'edgewarden[openvino]'"
_DTYPES = {
    "f16": "float16",
    "f32": "float32",
    "f64": "float64",
    "boolean": "bool",
    **{f"{sign}{bits}": f"{name}{bits}" for sign, name in (("i", "int"), ("u", "uint")) for bits in (8, 16, 32, 64)},
}
_SHOWN = {"bf16": "bfloat16"}
_BF16_FLAGS = {"avx512_bf16", "amx_bf16"}


class _Ticket:
    """One submitted batch: the request that works on it, its outputs or the promise of them."""

    __slots__ = ("future", "outputs", "request")

    def __init__(self, request: Any, outputs: Outputs | None = None, future: Future[Outputs] | None = None) -> None:
        self.request = request
        self.outputs = outputs
        self.future = future


class _Loaded(NamedTuple):
    """``wanted``: name and place of each output, in the order of the file."""

    compiled: Any
    wanted: tuple[tuple[str, int], ...]


class OpenVinoEngine:
    """One ONNX graph, compiled for the processor; see ``agent.engines.base.Engine`` for the contract.

    ``slots`` 1: ``submit`` runs the graph on the calling thread. More: a worker thread and a request a slot on the same
    compiled graph, for work that should keep every core busy. ``threads``: those that one inference uses; by default
    all cores this process may use with one slot, one with more. ``arithmetic``: ``f32`` computes in float32 also where
    OpenVINO's own choice would be bfloat16; ``bf16`` only where the processor has it. What ``collect`` gives is
    OpenVINO's own memory.

    Nothing is cached on disk: compiled graphs are code, and compiling takes less than half a second.

    Raises EngineError, one line with the file's name, when the file is missing, is no ONNX, cannot be run here, or
    does not have one tensor as its input.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        threads: int | None = None,
        slots: int = 1,
        arithmetic: Arithmetic = "f32",
    ) -> None:
        if slots < 1:
            raise ValueError(f"slots must be at least 1, not {slots}")
        self.path = Path(path)
        self.arithmetic: Arithmetic = arithmetic
        self.threads = threads or (cores() if slots == 1 else 1)
        self._open: set[_Ticket] = set()
        self._free: deque[Any] = deque()
        self._pool: ThreadPoolExecutor | None = None
        self._tell_done: Callable[[], None] = lambda: None
        # As many streams as there could be at work: one that has nothing to do costs nothing.
        streams = max(slots, cores() // self.threads)
        self._compiled, self._wanted = _load(self.path, self.threads, streams, arithmetic)
        self.backend = backend_name()
        self.input = self._only_input()
        self.outputs = tuple(self._spec(name, self._compiled.outputs[place]) for name, place in self._wanted)
        self.max_batch = self.input.shape[0] if self.input.shape else None
        self.spread(slots)

    def submit(self, batch: NDArray[np.generic]) -> _Ticket:
        """Start inference (with one slot: and finish it). Raises EngineError on a batch that the graph cannot take."""
        if self._compiled is None:
            raise EngineError(f"{self.path}: the engine is closed")
        if not self._free:
            raise EngineError(f"{self.path}: all {self.slots} slots are taken, collect one first")
        check_batch(batch, self.input, self.path)
        request = self._free[0]
        if self._pool is None:
            ticket = _Ticket(request, outputs=self._run(request, batch))
        else:
            ticket = _Ticket(request, future=self._pool.submit(self._run, request, batch))
            assert ticket.future is not None
            ticket.future.add_done_callback(lambda _: self._tell_done())
        self._free.popleft()
        self._open.add(ticket)
        return ticket

    def collect(self, ticket: _Ticket) -> Outputs:
        """The outputs by name. A ticket is collected once. Raises EngineError."""
        if ticket not in self._open:
            raise EngineError(f"{self.path}: this ticket was collected before, or the engine is closed")
        self._open.discard(ticket)
        # Behind those that wait longer: outputs stay whole as long as they can.
        self._free.append(ticket.request)
        if ticket.future is not None:
            return ticket.future.result()
        assert ticket.outputs is not None
        return ticket.outputs

    def spread(self, workers: int, ahead: int = 0) -> None:
        """Work on so many at a time from now on, and take ``ahead`` more that wait: ``slots`` is their sum. With one in
        all, the calling thread does it. Raises EngineError while a ticket is open."""
        if self._open:
            raise EngineError(f"{self.path}: {len(self._open)} inference(s) are under way")
        self._dismiss()
        self.workers, self.slots = workers, workers + ahead
        while len(self._free) > self.slots:
            self._free.pop()
        self._free.extend(self._compiled.create_infer_request() for _ in range(self.slots - len(self._free)))
        if self.slots > 1:
            self._pool = ThreadPoolExecutor(workers, thread_name_prefix="openvino")

    def done(self, ticket: _Ticket) -> bool:
        """Whether ``collect`` would not wait."""
        return ticket.future is None or ticket.future.done()

    def when_done(self, tell: Callable[[], None]) -> None:
        """Call ``tell`` on the worker's thread whenever a ticket that was not finished by ``submit`` is done."""
        self._tell_done = tell

    def close(self) -> None:
        """Wait for what runs and let the graph go. Safe to call twice."""
        self._dismiss()
        self._open.clear()
        self._free.clear()
        self._compiled = None

    def _dismiss(self) -> None:
        """Wait for what the workers do, and let them go."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def _run(self, request: Any, batch: NDArray[np.generic]) -> Outputs:
        shared = _shareable(batch)
        try:
            request.set_input_tensor(_library().Tensor(shared, shared_memory=True))
            request.infer(share_outputs=True)
            return {name: request.get_output_tensor(place).data for name, place in self._wanted}
        except Exception as error:  # noqa: BLE001 - what OpenVINO raises is RuntimeError and its like
            raise self._failed(error) from None

    def _failed(self, error: Exception) -> EngineError:
        return EngineError(f"{self.path}: the graph failed while running: {_reason(error)}")

    def _only_input(self) -> TensorSpec:
        ports = self._compiled.inputs
        names = [min(_names(self.path, port), default="?") for port in ports]
        if len(ports) != 1:
            shown = ", ".join(names) or "none"
            raise EngineError(f"{self.path}: one picture input is needed, the graph has {len(ports)}: {shown}")
        return self._spec(names[0], ports[0])

    def _spec(self, name: str, port: Any) -> TensorSpec:
        kind = port.element_type.get_type_name()
        if kind not in _DTYPES:
            raise EngineError(f"{self.path}: {name} is a tensor of {_SHOWN.get(kind, kind)}, which NumPy cannot hold")
        shape = tuple(axis.get_length() if axis.is_static else None for axis in port.partial_shape)
        return TensorSpec(name, shape, _DTYPES[kind])


def is_installed() -> bool:
    """Whether OpenVINO is there; it is not loaded for that."""
    return find_spec("openvino") is not None


def backend_name() -> str:
    """What ``OpenVinoEngine.backend`` says, without loading the library. Raises EngineError without it."""
    try:
        return f"openvino {version('openvino')} CPU"
    except PackageNotFoundError:
        raise EngineError(f"OpenVINO is not installed: {WAY_OUT}") from None


def computes_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this processor computes in bfloat16 natively; where it does not, OpenVINO would only emulate it."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    return not _BF16_FLAGS.isdisjoint(flags)


def _library() -> Any:
    """The module. Raises EngineError without it."""
    try:
        import openvino
    except ImportError as error:
        raise EngineError(f"OpenVINO cannot be loaded ({error}): {WAY_OUT}") from None
    return openvino


def _load(path: Path, threads: int, streams: int, arithmetic: Arithmetic) -> _Loaded:
    if not path.is_file():
        raise EngineError(f"{path}: {'is a folder, not an ONNX file' if path.is_dir() else 'no such file'}")
    openvino = _library()
    file = read_onnx(path)  # OpenVINO would also look for weights outside the folder
    options = {
        "INFERENCE_PRECISION_HINT": arithmetic,
        "INFERENCE_NUM_THREADS": threads * streams,
        "NUM_STREAMS": streams,
        "ENABLE_CPU_PINNING": False,  # a daemon is not alone on its cores
    }
    try:
        compiled = openvino.Core().compile_model(_converted(path), "CPU", options)
        computes = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    except Exception as error:  # noqa: BLE001 - what OpenVINO raises is RuntimeError and its like
        raise EngineError(f"{path}: {_load_reason(error)}") from None
    if computes != arithmetic:
        raise EngineError(f"{path}: this processor computes in {computes}, not in {arithmetic}; use another precision")
    return _Loaded(compiled, _places(path, file.outputs, compiled.outputs))


def _converted(path: Path) -> Any:
    """The graph, by the reader of ONNX alone: ``read_model`` would try every format that OpenVINO knows."""
    from openvino.frontend import FrontEndManager

    reader = FrontEndManager().load_by_framework("onnx")
    # Not mapped: a file that shrinks meanwhile would kill the process.
    return reader.convert(reader.load(str(path), False))


def _places(path: Path, names: Sequence[str], ports: Sequence[Any]) -> tuple[tuple[str, int], ...]:
    """Where each output of the file is among OpenVINO's, which may have more names for it, and their own order."""
    places: dict[str, int] = {}
    for name in names:
        place = next((place for place, port in enumerate(ports) if name in _names(path, port)), None)
        if place is None:
            raise EngineError(f"{path}: OpenVINO has no output {name} in this graph")
        places[name] = place
    return tuple(places.items())


def _names(path: Path, port: Any) -> set[str]:
    """What OpenVINO calls an input or output. Raises EngineError where that is no text."""
    try:
        return set(port.names)
    except UnicodeDecodeError:
        raise EngineError(f"{path}: not an ONNX file, or a damaged one (a name in it is no text)") from None


def _shareable(batch: NDArray[np.generic]) -> NDArray[np.generic]:
    """OpenVINO works on memory that is in one piece and may be written to (it does not write)."""
    return batch if batch.flags.c_contiguous and batch.flags.writeable else batch.copy()


def _load_reason(error: Exception) -> str:
    reason = _reason(error)
    if not _may_run_what_it_writes():
        return "OpenVINO compiles machine code, which this service may not: systemd/drop-ins/openvino.conf allows it"
    if "can't be parsed" in reason or isinstance(error, UnicodeDecodeError):
        return "not an ONNX file, or a damaged one"
    if match := re.search(r"No conversion rule found for operations: (.+)", reason):
        return f"the graph uses operators that this OpenVINO does not know: {match.group(1)}"
    return f"cannot be loaded by OpenVINO: {reason}"


def _may_run_what_it_writes() -> bool:
    """False under systemd's MemoryDenyWriteExecute, which OpenVINO names by one riddle or another."""
    try:
        mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()
    except OSError:
        return False
    return True


def _reason(error: Exception) -> str:
    """OpenVINO's message in one line, without the places in its source code."""
    lines = [line.strip() for line in str(error).splitlines()]
    kept = [line for line in lines if line and not line.endswith("Summary:") and not _is_place(line)]
    text = " ".join(kept or [line for line in lines if line] or [type(error).__name__])
    return text if len(text) <= 300 else text[:297] + "..."


def _is_place(line: str) -> bool:
    return bool(re.search(r"(?:Exception from|failed at) \S+:\d+:$|^FrontEnd API failed with \w+:$", line))
