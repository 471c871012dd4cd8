"""What each node of a graph costs: ONNX Runtime's own profile of a few runs. Of a plan TensorRT's runner tells it."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from agent.errors import EngineError

RUNS = 20


class Layer(NamedTuple):
    """A node, its operator (empty where several were fused), and the mean milliseconds a run."""

    name: str
    operator: str
    ms: float


def layers(path: Path, device: str = "cpu", runs: int = RUNS) -> list[Layer]:
    """Of the graph as ONNX Runtime optimised it, dearest first. Raises EngineError.

    The profile costs time itself, and on a GPU each node is waited for: the sum is more than an inference takes.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    with tempfile.TemporaryDirectory(prefix="edgewarden-") as folder:
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        providers = [*(["CUDAExecutionProvider"] if device == "cuda" else []), "CPUExecutionProvider"]
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=providers)
            node = session.get_inputs()[0]
            shape = [side if isinstance(side, int) and side > 0 else 1 for side in node.shape]
            dtype = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}[node.type]
            for _ in range(runs):
                session.run(None, {node.name: np.zeros(shape, dtype)})
        except Exception as error:  # noqa: BLE001 - ONNX Runtime's exceptions share no base class of their own
            raise EngineError(f"{path}: cannot be profiled: {' '.join(str(error).split())[:200]}") from None
        return _summed(json.loads(Path(session.end_profiling()).read_text(encoding="utf-8")), runs)


def _summed(events: list[dict[str, object]], runs: int) -> list[Layer]:
    spent: dict[tuple[str, str], float] = defaultdict(float)
    for event in events:
        name, about = str(event.get("name", "")), event.get("args")
        if event.get("cat") == "Node" and name.endswith("_kernel_time") and isinstance(about, dict):
            spent[name.removesuffix("_kernel_time"), str(about.get("op_name", ""))] += float(str(event.get("dur", 0)))
    found = [Layer(name, operator, micros / runs / 1e3) for (name, operator), micros in spent.items()]
    return sorted(found, key=lambda layer: -layer.ms)
