"""TensorRT's runtime played by ONNX Runtime on the same device addresses, so that our runner runs on a real GPU.

A "plan" is an ONNX graph's bytes. It has the names that the runner uses, and their manners: False and a report to the
error recorder instead of an exception, shapes of -1, a profile. It is no TensorRT: a claim that rests on it says so.
"""

from __future__ import annotations

import enum
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

__version__ = "10.13.3"


class Builder:
    """Its being there says that this is no folder of stubs."""


class _Named(enum.Enum):
    FLOAT = 0
    HALF = 1
    INT32 = 3
    INT64 = 4


DataType = _Named


class TensorIOMode(enum.Enum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class ErrorCodeTRT(enum.Enum):
    FAILED_EXECUTION = 10


class ILogger:
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)
    Severity = int


class IErrorRecorder:
    pass


class IProfiler:
    pass


class Runtime:
    """``max_batch`` is that of the one profile of a graph with an open batch."""

    max_batch = 4

    def __init__(self, logger: ILogger) -> None:
        self._logger: Any = logger
        self.error_recorder: Any = None

    def deserialize_cuda_engine(self, plan: bytes) -> ICudaEngine | None:
        if b"images" not in plan and b"input" not in plan:
            self._logger.log(ILogger.ERROR, "[runtime.cpp::deserialize::1] Error Code 4: not a plan")
            return None
        return ICudaEngine(plan, self)


class ICudaEngine:
    def __init__(self, plan: bytes, runtime: Runtime) -> None:
        import onnxruntime

        self._folder = tempfile.TemporaryDirectory()
        self.path = Path(self._folder.name) / "plan.onnx"
        self.path.write_bytes(plan)
        self.runtime = runtime
        session = onnxruntime.InferenceSession(str(self.path), providers=["CPUExecutionProvider"])
        self._nodes = {node.name: node for node in [*session.get_inputs(), *session.get_outputs()]}
        self._inputs = {node.name for node in session.get_inputs()}
        self.num_io_tensors = len(self._nodes)

    def get_tensor_name(self, index: int) -> str:
        return str(list(self._nodes)[index])

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self._inputs else TensorIOMode.OUTPUT

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(side if isinstance(side, int) and side > 0 else -1 for side in self._nodes[name].shape)

    def get_tensor_dtype(self, name: str) -> _Named:
        return {"tensor(float)": _Named.FLOAT, "tensor(float16)": _Named.HALF}[self._nodes[name].type]

    def get_tensor_profile_shape(self, name: str, _profile: int) -> list[tuple[int, ...]]:
        shape = self.get_tensor_shape(name)
        return [tuple(batch if side < 0 else side for side in shape) for batch in (1, 2, Runtime.max_batch)]

    def create_execution_context(self) -> IExecutionContext:
        return IExecutionContext(self)


class IExecutionContext:
    """``fails``: how many executions fail, with a report, before they succeed."""

    fails = 0

    def __init__(self, engine: ICudaEngine) -> None:
        self._engine = engine
        self.error_recorder: Any = None
        self.profiler: Any = None
        self._shape: tuple[int, ...] | None = None
        self._addresses: dict[str, int] = {}
        self._session: Any = None
        self._binding: Any = None
        self._options: Any = None

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        if not 1 <= shape[0] <= Runtime.max_batch:
            return self._report("the shape is outside of the profile")
        self._shape = shape
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        shape = self._engine.get_tensor_shape(name)
        return tuple(self._batch() if side < 0 and axis == 0 else side for axis, side in enumerate(shape))

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        if IExecutionContext.fails:
            IExecutionContext.fails -= 1
            return self._report("an illegal memory access was imagined")
        if self._session is None:
            self._load(stream_handle)
        self._session.run_with_iobinding(self._binding, self._options)
        if self.profiler is not None:
            self.profiler.report_layer_time("stem", 0.25)
            self.profiler.report_layer_time("head + sigmoid", 0.5)
        return True

    def _batch(self) -> int:
        name = next(iter(self._engine._inputs))
        return (self._shape or self._engine.get_tensor_shape(name))[0]

    def _report(self, why: str) -> bool:
        self.error_recorder.report_error(ErrorCodeTRT.FAILED_EXECUTION, why)
        return False

    def _load(self, stream: int) -> None:
        """On the stream that it is first given: as with TensorRT, a context belongs to one stream at a time."""
        import onnxruntime

        options = {"user_compute_stream": str(stream), "use_tf32": "0", "do_copy_in_default_stream": "1"}
        self._session = onnxruntime.InferenceSession(
            str(self._engine.path), providers=[("CUDAExecutionProvider", options)]
        )
        self._binding = self._session.io_binding()
        for name, address in self._addresses.items():
            shape, dtype = list(self._full(name)), np.dtype({"FLOAT": "float32", "HALF": "float16"}[self._type(name)])
            bind = self._binding.bind_input if name in self._engine._inputs else self._binding.bind_output
            bind(name, "cuda", 0, dtype, shape, address)
        self._options = onnxruntime.RunOptions()
        self._options.add_run_config_entry("disable_synchronize_execution_providers", "1")

    def _full(self, name: str) -> tuple[int, ...]:
        return self.get_tensor_shape(name)

    def _type(self, name: str) -> str:
        return self._engine.get_tensor_dtype(name).name
