"""TensorRT-RTX's parser and builder, which work without a GPU."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

trt = pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX's wheels exist for x86-64 Linux alone")


class Log(trt.ILogger):  # type: ignore[misc,name-defined]
    """What TensorRT says, from warnings up."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self.lines: list[str] = []

    def log(self, severity: Any, message: str) -> None:
        if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR, trt.ILogger.WARNING):
            self.lines.append(message)


class Parsed(NamedTuple):
    """A network, strongly typed, and all that it needs alive; or the parser's errors."""

    log: Log
    builder: Any
    network: Any
    errors: tuple[str, ...]


def parse(model: Any) -> Parsed:
    log = Log()
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if parser.parse(model.SerializeToString()):
        return Parsed(log, builder, network, ())
    return Parsed(log, builder, network, tuple(str(parser.get_error(index)) for index in range(parser.num_errors)))


def built(parsed: Parsed) -> bytes:
    """The plan for Ampere and Ada, which need not be here: compute capabilities 8.6 and 8.9."""
    config = parsed.builder.create_builder_config()
    config.num_compute_capabilities = 2
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    config.set_compute_capability(trt.ComputeCapability.SM89, 1)
    plan = parsed.builder.build_serialized_network(parsed.network, config)
    assert plan is not None, parsed.log.lines
    return bytes(plan)
