"""How much of a Q/DQ graph ONNX Runtime truly computes in int8 on this machine; the rest it restores to float first.

A board's TensorRT fuses other patterns: what it computes in int8 is what the graph says, ``quantizers.share_in_int8``.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from agent.engines.onnx import level_of
from agent.errors import EngineError

if TYPE_CHECKING:
    from agent.detection.manifest import Optimisation
    from agent.precision.graph import Graph

WHOLE = ("QLinearConv", "QLinearMatMul", "QGemm", "ConvInteger", "MatMulInteger", "MatMulIntegerToFloat")


def share_here(graph: Graph, file: Path, level: Optimisation) -> float:
    """Of the multiply-accumulates of ``graph``, the part done in int8 when ``file``, made of it, is loaded at that
    level, 0..1: by the graph that ONNX Runtime has then, in which fused nodes keep their names. Raises EngineError."""
    import onnx
    import onnxruntime

    with tempfile.TemporaryDirectory(prefix="edgewarden-") as folder:
        loaded = Path(folder) / "loaded.onnx"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = level_of(level)
        options.optimized_model_filepath = str(loaded)
        try:
            onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
            nodes = onnx.load(str(loaded)).graph.node
        except Exception as error:  # noqa: BLE001 - ONNX Runtime's exceptions share no base class of their own
            raise EngineError(f"{file.name}: cannot be looked into: {' '.join(str(error).split())[:300]}") from None
    whole = {re.sub(r"_token_\d+$", "", node.name) for node in nodes if node.op_type in WHOLE}
    return sum(node.macs for node in graph.weighted if node.name in whole) / max(1, graph.macs)
