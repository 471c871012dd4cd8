"""TensorRT's runtime as a network: a verified plan, executed on our stream and our addresses.

The plan was checked before it came here (plan_store.py). Each binding has a context of its own, so bindings may run
beside each other; all of it lives on the dispatcher's thread.
"""

from __future__ import annotations

import logging
from collections import defaultdict, deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agent.engines.base import TensorSpec
from agent.engines.cuda.libcuda import failure
from agent.engines.flavour import installed, trt
from agent.engines.layers import Layer
from agent.engines.tensorrt_log import BuilderLog, to_logger
from agent.errors import EngineError

if TYPE_CHECKING:
    from agent.engines.cuda.device import Device

log = logging.getLogger(__name__)

DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT8": "int8",
    "UINT8": "uint8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
}
KEPT = 16
UNSAID = "TensorRT does not say why"


class ErrorRecorder(trt.IErrorRecorder):
    """What TensorRT reports while it runs: it raises nothing, it only says False. The last few are kept."""

    def __init__(self) -> None:
        trt.IErrorRecorder.__init__(self)
        self._errors: deque[tuple[trt.ErrorCodeTRT, str]] = deque(maxlen=KEPT)
        self._count = 0

    def clear(self) -> None:
        """Forget them."""
        self._errors.clear()
        self._count = 0

    def num_errors(self) -> int:
        """How many are kept."""
        return len(self._errors)

    def get_error_code(self, arg0: int) -> trt.ErrorCodeTRT:
        """Of one that is kept."""
        return self._errors[arg0][0]

    def get_error_desc(self, arg0: int) -> str:
        """Of one that is kept."""
        return self._errors[arg0][1]

    def has_overflowed(self) -> bool:
        """Whether some are not kept any more."""
        return self._count > len(self._errors)

    def report_error(self, arg0: trt.ErrorCodeTRT, arg1: str) -> bool:
        """Called by TensorRT. True would mean that it cannot go on."""
        self._count += 1
        self._errors.append((arg0, " ".join(arg1.split())))
        return False


class LayerTimes(trt.IProfiler):
    """What TensorRT reports of each layer after an execution: milliseconds, summed over all executions."""

    def __init__(self) -> None:
        trt.IProfiler.__init__(self)
        self.ms: defaultdict[str, float] = defaultdict(float)

    def report_layer_time(self, layer_name: str, ms: float) -> None:
        """Called by TensorRT."""
        self.ms[layer_name] += ms


class TensorRtNetwork:
    """``plan``: bytes that the store has verified. Raises EngineError, also for a plan that wants other inputs."""

    concurrent = True
    capturable = True

    def __init__(self, device: Device, plan: bytes) -> None:
        self.backend = f"{installed().backend} on {device.name}"
        self._log = BuilderLog(to_logger(log))
        self._recorder = ErrorRecorder()
        runtime = trt.Runtime(self._log)
        runtime.error_recorder = self._recorder
        self._runtime = runtime  # it has to outlive its engines
        engine: trt.ICudaEngine | None = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise EngineError(f"{self.backend}: the plan cannot be loaded: {self._reason()}")
        self._engine: trt.ICudaEngine | None = engine
        specs = [_spec(engine, engine.get_tensor_name(index)) for index in range(engine.num_io_tensors)]
        inputs = [spec for spec in specs if engine.get_tensor_mode(spec.name) == trt.TensorIOMode.INPUT]
        if len(inputs) != 1:
            names = ", ".join(spec.name for spec in inputs) or "none"
            raise EngineError(f"{self.backend}: one picture input is needed, the plan has {len(inputs)}: {names}")
        self.input = inputs[0]
        self.outputs = tuple(spec for spec in specs if spec not in inputs)
        self.max_batch = self._most(engine)
        self._shapes: dict[int, dict[str, tuple[int, ...]]] = {}

    def shapes(self, batch: int) -> Mapping[str, tuple[int, ...]]:
        """See Network."""
        if batch not in self._shapes:
            context = self._context(batch)
            self._shapes[batch] = {spec.name: self._shape(context, spec.name, batch) for spec in self.outputs}
        return self._shapes[batch]

    def bind(self, batch: int, source: int, targets: Mapping[str, int]) -> TensorRtBinding:
        """See Network."""
        return TensorRtBinding(self._addressed(batch, source, targets), self._recorder, self.backend)

    def layers(self, batch: int, source: int, targets: Mapping[str, int], stream: Any, runs: int) -> list[Layer]:
        """What each layer of the plan costs, dearest first; each execution is waited for. Raises EngineError."""
        context, times = self._addressed(batch, source, targets), LayerTimes()
        binding = TensorRtBinding(context, self._recorder, self.backend)
        binding.enqueue(int(stream.handle))  # the first one makes what the others find ready
        stream.synchronize()
        context.profiler = times
        for _ in range(runs):
            binding.enqueue(int(stream.handle))
            stream.synchronize()
        return sorted((Layer(name, "", ms / runs) for name, ms in times.ms.items()), key=lambda layer: -layer.ms)

    def close(self) -> None:
        """Free the engine. Its bindings are closed before. Safe to call twice."""
        self._engine = None

    def _context(self, batch: int) -> trt.IExecutionContext:
        engine: trt.ICudaEngine | None = self._engine
        if engine is None:
            raise EngineError(f"{self.backend}: the engine is closed")
        context: trt.IExecutionContext | None = engine.create_execution_context()
        if context is None:
            raise EngineError(f"{self.backend}: no execution context: {self._reason()}")
        context.error_recorder = self._recorder
        if None in self.input.shape:
            shape = (batch, *(side or 0 for side in self.input.shape[1:]))
            if 0 in shape[1:] or not context.set_input_shape(self.input.name, shape):
                raise EngineError(f"{self.backend}: the plan takes no input of {list(shape)}: {self._reason()}")
        return context

    def _addressed(self, batch: int, source: int, targets: Mapping[str, int]) -> trt.IExecutionContext:
        context = self._context(batch)
        for name, address in {self.input.name: source, **targets}.items():
            if not context.set_tensor_address(name, address):
                raise EngineError(f"{self.backend}: {name} takes no address: {self._reason()}")
        return context

    def _shape(self, context: trt.IExecutionContext, name: str, batch: int) -> tuple[int, ...]:
        dims = context.get_tensor_shape(name)
        shape = tuple(int(dims[axis]) for axis in range(len(dims)))
        if not shape or shape[0] != batch or any(side < 0 for side in shape):
            raise EngineError(f"{self.backend}: output {name} is {list(shape)}: its size depends on what is seen")
        return shape

    def _most(self, engine: trt.ICudaEngine) -> int | None:
        if self.input.shape[0] is not None:
            return self.input.shape[0]
        most = engine.get_tensor_profile_shape(self.input.name, 0)[2]
        return int(most[0])

    def _reason(self) -> str:
        return _last(self._recorder, self._log.errors[-1] if self._log.errors else UNSAID)


class TensorRtBinding:
    """One execution context with its addresses set."""

    def __init__(self, context: trt.IExecutionContext, recorder: ErrorRecorder, backend: str) -> None:
        self._context: trt.IExecutionContext | None = context
        self._recorder = recorder
        self._backend = backend

    def enqueue(self, stream: int) -> None:
        """See Bound."""
        context = self._context
        if context is None:
            raise EngineError(f"{self._backend}: this binding is closed")
        if not context.execute_async_v3(stream):
            reason = _last(self._recorder, UNSAID)
            self._recorder.clear()
            raise failure(f"{self._backend}: the engine failed while running: {reason}")

    def close(self) -> None:
        """Free the context. Safe to call twice."""
        self._context = None


def _spec(engine: trt.ICudaEngine, name: str) -> TensorSpec:
    dims = engine.get_tensor_shape(name)
    shape = tuple(None if int(dims[axis]) < 0 else int(dims[axis]) for axis in range(len(dims)))
    dtype = engine.get_tensor_dtype(name).name
    if dtype not in DTYPES:
        raise EngineError(f"TensorRT: {name} is of type {dtype}, which no decoder reads")
    return TensorSpec(name, shape, DTYPES[dtype])


def _last(recorder: trt.IErrorRecorder, otherwise: str) -> str:
    """The newest error that was reported."""
    count = recorder.num_errors()
    return recorder.get_error_desc(count - 1) if count else otherwise
