"""The engines that compute on the processor, by name: ONNX Runtime and OpenVINO, and which precision each of them runs.

Which of them is used is decided above, by what was measured.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from agent.engines import onnx, openvino
from agent.engines.onnx import OnnxEngine, Optimisation
from agent.engines.openvino import OpenVinoEngine
from agent.errors import EngineError

if TYPE_CHECKING:
    from agent.engines.base import Engine

Backend = Literal["onnxruntime", "openvino"]

SHOWN: dict[Backend, str] = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
BF16: Literal["bf16"] = "bf16"
"""The precision that needs no graph of its own: OpenVINO computes the fp32 graph in bfloat16."""


def open_engine(
    backend: Backend,
    file: Path,
    *,
    precision: str = "fp32",
    optimisation: Optimisation = "all",
    threads: int | None = None,
    slots: int = 1,
) -> Engine:
    """The graph of a precision on that engine. ``optimisation`` is ONNX Runtime's. Raises EngineError."""
    if reason := why_not(backend, precision):
        raise EngineError(f"{file}: {precision} {reason}")
    if backend == "onnxruntime":
        return OnnxEngine(file, threads=threads, slots=slots, optimisation=optimisation)
    return OpenVinoEngine(file, threads=threads, slots=slots, arithmetic="bf16" if precision == BF16 else "f32")


def version_of(backend: Backend) -> str:
    """Name and version, as the engine's ``backend`` says them; no graph is loaded. Raises EngineError without it."""
    return onnx.backend_name() if backend == "onnxruntime" else openvino.backend_name()


def backend_of(shown: str) -> Backend:
    """Of an engine's ``backend``."""
    return "openvino" if shown.startswith("openvino") else "onnxruntime"


def backend_for(precision: str, backend: Backend = "onnxruntime") -> Backend:
    """``backend``, but where the precision runs on another one only."""
    return "openvino" if precision == BF16 else backend


def why_not(backend: Backend, precision: str) -> str:
    """Why that engine cannot run a precision here, to be read after its name; empty where it can."""
    if backend == "openvino" and not openvino.is_installed():
        return f"needs OpenVINO, which is not installed: {openvino.WAY_OUT}"
    if precision != BF16:
        return ""
    if backend == "onnxruntime":
        return f"needs OpenVINO: {SHOWN[backend]} computes the graph in float32"
    return "" if openvino.computes_bf16() else "gains nothing here: this processor has no bfloat16"
