"""A graph to a TensorRT plan: one way for TensorRT 10 to 11 and TensorRT-RTX, strongly typed, and 8.6 by flags.

Runs in a process of its own (build_child.py). Which plan is wanted, and where it is kept, is others' business.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.engines.build_request import BuildRequest, Profile
from agent.engines.flavour import installed, trt
from agent.engines.onnx_file import read_onnx
from agent.engines.parser_advice import ParserFault, refusal
from agent.engines.tensorrt_log import BuilderLog, Said
from agent.errors import EngineError

TellProgress = Callable[[str, float], None]
"""Told the phase and how far it is, 0..1."""


def build_plan(request: BuildRequest, tell: Callable[[Said], None], progress: TellProgress) -> bytes:
    """The plan's bytes. Raises EngineError, one line with what the user can do."""
    flavour = installed()
    if flavour.backend != request.backend:
        raise EngineError(f"{request.onnx}: {request.backend} was meant, here is {flavour.backend}")
    log = BuilderLog(tell)
    builder = _builder(log, request)
    network = builder.create_network(_creation_flags())
    _parse(network, log, request)
    config = builder.create_builder_config()
    _configure(builder, config, request)
    _set_profile(builder, config, network, request)
    _watch(config, progress)
    cache = _read_timing_cache(config, request)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(f"{request.onnx}: {request.backend} could not build it: {_last(log)}")
    if cache is not None:
        _write_timing_cache(config, request)
    return bytes(plan)


def _builder(log: BuilderLog, request: BuildRequest) -> trt.Builder:
    try:
        return trt.Builder(log)
    except (TypeError, RuntimeError):
        raise EngineError(f"{request.onnx}: {request.backend} cannot build here: {_last(log)}") from None


def _creation_flags() -> int:
    """Strongly typed where that exists: the graph says what is computed how. 8.6 wants its explicit batch said."""
    if "STRONGLY_TYPED" in trt.NetworkDefinitionCreationFlag.__members__:
        return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    return 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)


def _parse(network: trt.INetworkDefinition, log: BuilderLog, request: BuildRequest) -> None:
    parser = trt.OnnxParser(network, log)
    log.hushed = True
    understood = parser.parse_from_file(request.onnx)
    log.hushed = False
    if understood:
        return
    faults = [_fault(parser.get_error(index)) for index in range(parser.num_errors)]
    path = Path(request.onnx)
    raise EngineError(refusal(path, read_onnx(path), faults, request.backend))


def _fault(error: trt.ParserError) -> ParserFault:
    named = hasattr(error, "node_operator")
    return ParserFault(
        str(error.code()).rpartition(".")[2],
        error.desc(),
        error.node(),
        error.node_name() if named else "",
        error.node_operator() if named else "",
    )


def _configure(builder: trt.Builder, config: trt.IBuilderConfig, request: BuildRequest) -> None:
    options = request.options
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, request.workspace)
    _set_target(config, request)
    _set_precision(config, request.precision)
    if options.sparse:
        config.set_flag(trt.BuilderFlag.SPARSE_WEIGHTS)
    if installed().name != "tensorrt" and (options.version_compatible or options.hardware_compatible):
        raise EngineError(f"{request.onnx}: {request.backend} makes no compatible plans; name each GPU as a target")
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware_compatible:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if options.effort is not None:
        config.builder_optimization_level = options.effort
    if options.dla is not None:
        _set_dla(builder, config, options.dla, request)


def _set_precision(config: trt.IBuilderConfig, precision: str) -> None:
    """8.6 alone: fp16 of the fp32 graph, int8 of the Q/DQ graph with fp16 for the rest. Else the graph says it."""
    if "STRONGLY_TYPED" in trt.NetworkDefinitionCreationFlag.__members__:
        return
    if precision in ("fp16", "int8", "mixed"):
        config.set_flag(trt.BuilderFlag.FP16)
    if precision in ("int8", "mixed"):
        config.set_flag(trt.BuilderFlag.INT8)


def _set_target(config: trt.IBuilderConfig, request: BuildRequest) -> None:
    if request.target is None:
        return
    if not hasattr(trt, "ComputeCapability"):
        raise EngineError(f"{request.onnx}: {request.backend} builds for the GPU of this machine alone")
    # ComputeCapability is TensorRT-RTX's alone, and so is not in the stubs of TensorRT.
    capabilities: Any = trt.ComputeCapability
    name = f"SM{request.target[0]}{request.target[1]}"
    if not hasattr(capabilities, name):
        known = ", ".join(sorted(key.lower() for key in capabilities.__members__ if key.startswith("SM")))
        raise EngineError(f"{request.onnx}: {request.backend} knows no target {name.lower()}, only {known}")
    rtx_config: Any = config
    rtx_config.num_compute_capabilities = 1
    rtx_config.set_compute_capability(getattr(capabilities, name), 0)


def _set_dla(builder: trt.Builder, config: trt.IBuilderConfig, core: int, request: BuildRequest) -> None:
    if core >= builder.num_DLA_cores:
        raise EngineError(f"{request.onnx}: there is no DLA core {core} here, there are {builder.num_DLA_cores}")
    if request.precision == "fp32":
        raise EngineError(f"{request.onnx}: the DLA computes fp16 and int8, not fp32")
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = core
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)


def _set_profile(
    builder: trt.Builder, config: trt.IBuilderConfig, network: trt.INetworkDefinition, request: BuildRequest
) -> None:
    wanted = request.profile
    if network.num_inputs != 1 or network.get_input(0).name != wanted.input:
        names = ", ".join(network.get_input(index).name for index in range(network.num_inputs))
        raise EngineError(f"{request.onnx}: one input {wanted.input} was expected, the parser sees {names or 'none'}")
    dims = network.get_input(0).shape
    shape = [dims[axis] for axis in range(len(dims))]
    _check_shape(shape, wanted, request)
    if -1 not in shape:
        return
    profile = builder.create_optimization_profile()
    least, typical, most = (trt.Dims(list(one)) for one in (wanted.least, wanted.typical, wanted.most))
    profile.set_shape(wanted.input, least, typical, most)
    if config.add_optimization_profile(profile) < 0:
        raise EngineError(f"{request.onnx}: {request.backend} refuses the shapes {wanted}")


def _check_shape(shape: list[int], wanted: Profile, request: BuildRequest) -> None:
    if len(shape) != len(wanted.most) or any(
        have not in (-1, want) for have, want in zip(shape, wanted.most, strict=True)
    ):
        raise EngineError(f"{request.onnx}: the parser sees an input {shape}, asked for is {wanted}")


def _watch(config: trt.IBuilderConfig, progress: TellProgress) -> None:
    """Progress where the library tells it (10.0 and later)."""
    if not hasattr(trt, "IProgressMonitor"):
        progress("Building", 0.0)
        return

    class Monitor(trt.IProgressMonitor):
        """How far the outermost phase is: its finished steps, and the share of the one under way."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._phases: dict[str, list[int]] = {}

        def phase_start(self, phase_name: str, parent_phase: str, num_steps: int) -> None:
            self._phases[phase_name] = [0, max(1, num_steps)]
            self._told()

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name in self._phases:
                self._phases[phase_name][0] = step + 1
            self._told()
            return True

        def phase_finish(self, phase_name: str) -> None:
            if len(self._phases) == 1 and phase_name in self._phases:
                progress(phase_name, 1.0)
            self._phases.pop(phase_name, None)

        def _told(self) -> None:
            share = 0.0
            for done, steps in reversed(self._phases.values()):
                share = min(1.0, (done + min(share, 0.99)) / steps)
            progress(next(iter(self._phases), ""), share)

    monitor = Monitor()
    config.progress_monitor = monitor


def _read_timing_cache(config: trt.IBuilderConfig, request: BuildRequest) -> trt.ITimingCache | None:
    """What earlier builds measured. TensorRT-RTX times nothing: there the calls do nothing and warn."""
    if request.timing_cache is None or installed().name != "tensorrt":
        return None
    path = Path(request.timing_cache)
    known = path.read_bytes() if path.is_file() else b""
    cache = config.create_timing_cache(known)
    if not config.set_timing_cache(cache, ignore_mismatch=False):
        # Of another version or GPU: begun anew.
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, ignore_mismatch=False)
    return cache


def _write_timing_cache(config: trt.IBuilderConfig, request: BuildRequest) -> None:
    """A cache that cannot be written costs the next build time, nothing else."""
    assert request.timing_cache is not None
    part = Path(request.timing_cache + ".part")
    try:
        part.write_bytes(bytes(config.get_timing_cache().serialize()))
        os.replace(part, request.timing_cache)
    except OSError:
        part.unlink(missing_ok=True)


def _last(log: BuilderLog) -> str:
    """The last error that it logged; with the way out where one is known."""
    text = log.errors[-1] if log.errors else "it does not say why"
    lower = " ".join(log.errors).lower()
    if "memory" in lower and ("alloc" in lower or "out of" in lower or "insufficient" in lower):
        return f"{text} (out of memory: stop what else runs, or add swap)"
    if "driver version is insufficient" in lower or "no cuda-capable device" in lower or "cuda error 100" in lower:
        return f"{text} (no usable GPU: `edgewarden doctor`)"
    return text
