"""ONNX Runtime as an engine: loads one graph, runs it on the caller's thread or on a few of its own.

What the tensors mean is left to the detection room, and which precision is loaded to the caller.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from agent.engines.base import Outputs, TensorSpec
from agent.engines.tensors import check_batch
from agent.errors import EngineError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Optimisation = Literal["all", "extended", "basic", "off"]

_LEVELS = {
    "all": "ORT_ENABLE_ALL",
    "extended": "ORT_ENABLE_EXTENDED",
    "basic": "ORT_ENABLE_BASIC",
    "off": "ORT_DISABLE_ALL",
}
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_TENSORRT = "TensorrtExecutionProvider"
_DTYPES = {"float": "float32", "double": "float64", "bool": "bool"}
# Fatal only: what ONNX Runtime would log as an error it also raises, and that becomes our one line.
_LOG_FATAL = 4
_TOO_NEW = "the graph uses an operator or a format version that this ONNX Runtime does not know"


class _Ticket:
    """One submitted batch: its outputs, or the promise of them."""

    __slots__ = ("future", "outputs")

    def __init__(self, outputs: Outputs | None = None, future: Future[Outputs] | None = None) -> None:
        self.outputs = outputs
        self.future = future


class OnnxEngine:
    """One ONNX graph in one session; see ``agent.engines.base.Engine`` for the contract.

    ``slots`` 1: ``submit`` runs the graph on the calling thread. More: a worker thread a slot on the same session,
    for work that should keep every core busy. ``threads``: those that one inference uses; by default all cores this
    process may use with one slot, one with more. ``spinning``: threads wait for work in a busy loop, a little faster
    under full load and a waste of CPU otherwise. ``optimisation`` below ``all`` costs speed; some quantised graphs
    need ``extended``. ``provider_options``: for the device's provider. ``metadata``: the texts that the exporter put
    into the file.

    Raises EngineError, one line with the file's name, when the file is missing, is no ONNX, cannot be run here, or
    does not have one tensor as its input.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        device: str = "cpu",
        threads: int | None = None,
        slots: int = 1,
        optimisation: Optimisation = "all",
        spinning: bool = False,
        provider_options: Mapping[str, str] | None = None,
    ) -> None:
        if slots < 1:
            raise ValueError(f"slots must be at least 1, not {slots}")
        self.path = Path(path)
        self.optimisation: Optimisation = optimisation
        self._open: set[_Ticket] = set()
        self._pool: ThreadPoolExecutor | None = None
        self._tell_done: Callable[[], None] = lambda: None
        self.threads = threads or (cores() if slots == 1 else 1)
        self._session = _load(self.path, device, self.threads, optimisation, spinning, provider_options or {})
        self.spread(slots)
        self.backend = _backend(self._session)
        self.metadata: Mapping[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        self.input = self._only_input()
        self.outputs = tuple(self._spec(node) for node in self._session.get_outputs())
        self.max_batch = self.input.shape[0] if self.input.shape else None
        self._output_names = [spec.name for spec in self.outputs]

    @property
    def session(self) -> Any:
        """ONNX Runtime's own, for who binds memory of the device. Raises EngineError when closed."""
        if self._session is None:
            raise EngineError(f"{self.path}: the engine is closed")
        return self._session

    def submit(self, batch: NDArray[np.generic]) -> _Ticket:
        """Start inference (with one slot: and finish it). Raises EngineError on a batch that the graph cannot take."""
        if self._session is None:
            raise EngineError(f"{self.path}: the engine is closed")
        if len(self._open) >= self.slots:
            raise EngineError(f"{self.path}: all {self.slots} slots are taken, collect one first")
        check_batch(batch, self.input, self.path)
        if self._pool is None:
            ticket = _Ticket(outputs=self._run(batch))
        else:
            ticket = _Ticket(future=self._pool.submit(self._run, batch))
            assert ticket.future is not None
            ticket.future.add_done_callback(lambda _: self._tell_done())
        self._open.add(ticket)
        return ticket

    def collect(self, ticket: _Ticket) -> Outputs:
        """The outputs by name. A ticket is collected once. Raises EngineError."""
        if ticket not in self._open:
            raise EngineError(f"{self.path}: this ticket was collected before, or the engine is closed")
        self._open.discard(ticket)
        if ticket.future is not None:
            return ticket.future.result()
        assert ticket.outputs is not None
        return ticket.outputs

    def spread(self, workers: int, ahead: int = 0) -> None:
        """See PooledEngine."""
        if self._open:
            raise EngineError(f"{self.path}: {len(self._open)} inference(s) are under way")
        self._dismiss()
        self.workers, self.slots = workers, workers + ahead
        if self.slots > 1:
            self._pool = ThreadPoolExecutor(workers, thread_name_prefix="onnx")

    def done(self, ticket: _Ticket) -> bool:
        """See PooledEngine."""
        return ticket.future is None or ticket.future.done()

    def when_done(self, tell: Callable[[], None]) -> None:
        """See PooledEngine."""
        self._tell_done = tell

    def close(self) -> None:
        """Wait for what runs and let the session go. Safe to call twice."""
        self._dismiss()
        self._open.clear()
        self._session = None

    def _dismiss(self) -> None:
        """Wait for what the workers do, and let them go."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def _run(self, batch: NDArray[np.generic]) -> Outputs:
        try:
            arrays = self._session.run(self._output_names, {self.input.name: batch})
        except Exception as error:  # noqa: BLE001 - ONNX Runtime's exceptions share no base class of their own
            raise EngineError(f"{self.path}: the graph failed while running: {_reason(error)}") from None
        return dict(zip(self._output_names, arrays, strict=True))

    def _only_input(self) -> TensorSpec:
        nodes = self._session.get_inputs()
        if len(nodes) != 1:
            names = ", ".join(node.name for node in nodes) or "none"
            raise EngineError(f"{self.path}: one picture input is needed, the graph has {len(nodes)}: {names}")
        return self._spec(nodes[0])

    def _spec(self, node: Any) -> TensorSpec:
        match = re.fullmatch(r"tensor\((\w+)\)", node.type)
        if match is None:
            raise EngineError(f"{self.path}: {node.name} is a {node.type}; only tensors can be used")
        shape = tuple(axis if isinstance(axis, int) and axis > 0 else None for axis in node.shape)
        return TensorSpec(node.name, shape, _DTYPES.get(match.group(1), match.group(1)))


def backend_name(device: str = "cpu") -> str:
    """What ``OnnxEngine.backend`` says on that device, without loading a graph."""
    onnxruntime = _library()
    return f"onnxruntime {onnxruntime.__version__} {_PROVIDERS['cpu' if device == 'auto' else device]}"


def level_of(optimisation: Optimisation) -> Any:
    """ONNX Runtime's own value for it."""
    import onnxruntime

    return getattr(onnxruntime.GraphOptimizationLevel, _LEVELS[optimisation])


def cores() -> int:
    """How many processors this process may run on."""
    return len(os.sched_getaffinity(0))


def _load(
    path: Path,
    device: str,
    threads: int,
    optimisation: Optimisation,
    spinning: bool,
    provider_options: Mapping[str, str],
) -> Any:
    if not path.is_file():
        raise EngineError(f"{path}: {'is a folder, not an ONNX file' if path.is_dir() else 'no such file'}")
    onnxruntime = _library()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _LOG_FATAL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = level_of(optimisation)
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spinning else "0")
    providers = [
        (name, _options_of(name, provider_options))
        for name in _providers(device, path, onnxruntime.get_available_providers())
    ]
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # noqa: BLE001 - ONNX Runtime's exceptions share no base class of their own
        raise EngineError(f"{path}: {_load_reason(error)}") from None


def _library() -> Any:
    """The module; on boards it is not among what edgewarden requires. Raises EngineError without it."""
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineError(f"ONNX Runtime cannot be loaded ({error}): pip install 'edgewarden[cpu]'") from None
    return onnxruntime


def _providers(device: str, path: Path, available: Sequence[str]) -> list[str]:
    device = "cpu" if device == "auto" else device
    if device not in _PROVIDERS:
        raise EngineError(f"{path}: ONNX Runtime has no device {device!r}, only {', '.join(_PROVIDERS)}")
    if _PROVIDERS[device] not in available:
        raise EngineError(f"{path}: this ONNX Runtime was built without {_PROVIDERS[device]}; use device cpu")
    if device == "cpu":
        return [_PROVIDERS["cpu"]]
    # Listed by every build that knows it, also where TensorRT is not installed: then it would only fail, loudly.
    first = [_TENSORRT] if _TENSORRT in available and _tensorrt_is_there() else []
    return [*first, _PROVIDERS[device], _PROVIDERS["cpu"]]


def _tensorrt_is_there() -> bool:
    """Whether the library that ONNX Runtime's TensorRT provider needs can be loaded."""
    import ctypes

    try:
        ctypes.CDLL("libnvinfer.so.10")
    except OSError:
        return False
    return True


def _options_of(provider: str, options: Mapping[str, str]) -> dict[str, str]:
    """What is said to the device's provider; TensorRT's is told where to work, and nothing of CUDA's arithmetic."""
    if provider == _PROVIDERS["cpu"]:
        return {}
    shared = ("device_id", "user_compute_stream")
    return {name: value for name, value in options.items() if provider != _TENSORRT or name in shared}


def _backend(session: Any) -> str:
    import onnxruntime

    return f"onnxruntime {onnxruntime.__version__} {session.get_providers()[0]}"


def _load_reason(error: Exception) -> str:
    """What is wrong with a file, from the exception's class, whose names are ONNX Runtime's status codes."""
    kind, reason = type(error).__name__, _reason(error)
    if kind in ("InvalidProtobuf", "NoModel") or "No graph was found" in reason or "not have a graph" in reason:
        return f"not an ONNX file, or a damaged one ({reason})"
    if kind == "NotImplemented" or re.search(r"No Op registered|not a registered function|IR version|opset", reason):
        return f"{_TOO_NEW} ({reason})"
    return f"cannot be loaded: {reason}"


def _reason(error: Exception) -> str:
    """ONNX Runtime's message in one line, without its prefix and the path that we name ourselves."""
    text = " ".join(str(error).split())
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    text = re.sub(r"^Load model from .*? failed: ?", "", text)
    text = re.sub(r"^/\S+\.(?:h|cc):\d+ .*?\) (?=[A-Z])", "", text)  # where in its source code it was raised
    return text if len(text) <= 300 else text[:297] + "..."
