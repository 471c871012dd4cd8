"""ONNX Runtime's CUDA provider as a network: the graph runs on our stream and our addresses, by I/O binding.

Its TensorRT provider is put before it where TensorRT's library is there; that builds its engines at each start.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from agent.engines.base import TensorSpec
from agent.engines.cuda.device import Device
from agent.engines.cuda.engine import CudaEngine
from agent.engines.cuda.libcuda import failure
from agent.engines.onnx import OnnxEngine, Optimisation
from agent.engines.store import cache_dir
from agent.errors import EngineError

log = logging.getLogger(__name__)


def open_onnx(
    path: Path, *, strict_fp32: bool = False, optimisation: Optimisation = "all", slots: int = 2
) -> CudaEngine:
    """The graph on this machine's first GPU; the calling thread owns it from now on. Raises EngineError."""
    device = Device()
    try:
        network = OnnxNetwork(device, path, strict_fp32=strict_fp32, optimisation=optimisation)
    except BaseException:
        device.close()
        raise
    return CudaEngine(device, network, slots=slots, cache=cache_dir() / "kernels")


def check_onnx() -> None:
    """Whether ``open_onnx`` could work here. Raises EngineError, one line, where it could not."""
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise EngineError("this ONNX Runtime was built without CUDA; install onnxruntime-gpu, or use device cpu")
    Device().close()


class OnnxNetwork:
    """``strict_fp32``: without it float32 is TF32 on Ampere and later (10 bits of mantissa), as CUDA's libraries do.

    All bindings share the session's memory and so run one after the other, on ``stream``. Raises EngineError.
    """

    concurrent = False

    def __init__(
        self, device: Device, path: Path, *, strict_fp32: bool = False, optimisation: Optimisation = "all"
    ) -> None:
        self.stream: Any = device.stream()
        options = {
            "device_id": "0",
            "user_compute_stream": str(int(self.stream.handle)),
            "use_tf32": "0" if strict_fp32 else "1",
            "do_copy_in_default_stream": "1",
        }
        self._engine, self.capturable = _open(path, optimisation, options)
        self._device = device
        self._path = path
        self.input = self._engine.input
        self.outputs = self._engine.outputs
        self.max_batch = self._engine.max_batch
        tf32 = "" if strict_fp32 or device.capability < (8, 0) else ", float32 as TF32"
        self.backend = f"{self._engine.backend} on {device.name}{tf32}"
        self._shapes: dict[int, dict[str, tuple[int, ...]]] = {}

    def shapes(self, batch: int) -> Mapping[str, tuple[int, ...]]:
        """The outputs' shapes, by a trial where the graph does not say."""
        if batch not in self._shapes:
            self._shapes[batch] = self._tried(batch)
        return self._shapes[batch]

    def bind(self, batch: int, source: int, targets: Mapping[str, int]) -> OnnxBinding:
        """See Network."""
        return OnnxBinding(self._engine.session, self.input, self.outputs, self.shapes(batch), batch, source, targets)

    def close(self) -> None:
        """Let the session go. Safe to call twice."""
        if self.stream is not None and (self._device.lost or not self.capturable):
            # It stays until the process ends: of a lost device nothing can be freed, and it may abort the process.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._engine.session))
        self._engine.close()
        self.stream = None

    def _tried(self, batch: int) -> dict[str, tuple[int, ...]]:
        shape = (batch, *(side or 0 for side in self.input.shape[1:]))
        if 0 in shape:
            raise EngineError(
                f"{self._path}: the input's size is open, {list(self.input.shape)}; fix it for the device"
            )
        binding = self._engine.session.io_binding()
        binding.bind_cpu_input(self.input.name, np.zeros(shape, self.input.dtype))
        for spec in self.outputs:
            binding.bind_output(spec.name)
        try:
            self._engine.session.run_with_iobinding(binding, _run_options())
        except Exception as error:  # noqa: BLE001 - ONNX Runtime's exceptions share no base class of their own
            raise failure(f"{self._path}: the graph failed while running: {_line(error)}") from None
        arrays = binding.copy_outputs_to_cpu()
        found = {spec.name: array.shape for spec, array in zip(self.outputs, arrays, strict=True)}
        for name, sides in found.items():
            if not sides or sides[0] != batch:
                raise EngineError(f"{self._path}: output {name} is {list(sides)}: its first axis is not the batch")
        return found


class OnnxBinding:
    """The session on certain addresses."""

    def __init__(
        self,
        session: Any,
        source: TensorSpec,
        outputs: tuple[TensorSpec, ...],
        shapes: Mapping[str, tuple[int, ...]],
        batch: int,
        address: int,
        targets: Mapping[str, int],
    ) -> None:
        self._session = session
        self._binding = session.io_binding()
        shape = [batch, *source.shape[1:]]
        self._binding.bind_input(source.name, "cuda", 0, np.dtype(source.dtype), shape, address)
        for spec in outputs:
            sides = list(shapes[spec.name])
            self._binding.bind_output(spec.name, "cuda", 0, np.dtype(spec.dtype), sides, targets[spec.name])
        self._options = _run_options()
        # The stream is ours, and so is the waiting.
        self._options.add_run_config_entry("disable_synchronize_execution_providers", "1")

    def enqueue(self, _stream: int) -> None:
        """See Bound; the stream is the session's."""
        try:
            self._session.run_with_iobinding(self._binding, self._options)
        except Exception as error:  # noqa: BLE001 - ONNX Runtime's exceptions share no base class of their own
            raise failure(f"the graph failed while running: {_line(error)}") from None

    def close(self) -> None:
        """Safe to call twice."""
        self._binding = self._session = None


def _open(path: Path, optimisation: Optimisation, options: dict[str, str]) -> tuple[OnnxEngine, bool]:
    """The session, and whether it can be captured, and destroyed.

    Without its own graph capture, ONNX Runtime gives page-locked memory back from inside the stream (a host function).
    When a session ends, the last one of those destroys its allocator there, where CUDA may not be called: cudaFreeHost
    fails with 800 and the process is aborted. With capture on (which we never let it do, see ``_run_options``) it gives
    that memory back from our thread. It refuses capture for graphs that run on the CPU in part; these stay in memory.
    """
    try:
        return _engine(path, optimisation, {**options, "enable_cuda_graph": "1"}), True
    except EngineError as error:
        if "graph capture" not in str(error):
            raise
    log.info("%s: runs on the CPU in part; when it is replaced its memory stays taken", path)
    return _engine(path, optimisation, options), False


def _engine(path: Path, optimisation: Optimisation, options: dict[str, str]) -> OnnxEngine:
    return OnnxEngine(path, device="cuda", optimisation=optimisation, provider_options=options)


def _run_options() -> Any:
    """A run that ONNX Runtime does not capture: the graph of a frame is ours."""
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.add_run_config_entry("gpu_graph_id", "-1")
    return options


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
