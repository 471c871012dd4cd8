"""Who makes the int8 graphs of ``model prepare``: this room itself, or NVIDIA's Model Optimizer where it is installed.

Both are given the same pictures and the same nodes, and both are judged alike; which nodes is search.py's choice.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from agent.errors import EngineError, ModelError
from agent.precision.activations import METHODS, Histogram, Pictures, histograms
from agent.precision.quantise import quantised

if TYPE_CHECKING:
    from agent.precision.graph import Graph
    from agent.precision.search import Trial

log = logging.getLogger(__name__)

Name = Literal["own", "modelopt"]
OPTIMIZER_METHODS = {"entropy": "entropy", "minmax": "max"}
"""Its calibrators, by our names for them."""
MISSING = (
    "--quantizer modelopt needs NVIDIA's Model Optimizer, which is not installed ({}): pip install "
    "'nvidia-modelopt[onnx]' (it brings torch, and ONNX packages of its own choice; a second virtual environment keeps "
    "them apart), or leave the option out"
)


class Quantizer(Protocol):
    """``methods``: the calibrators it has."""

    @property
    def methods(self) -> tuple[str, ...]: ...

    def build(self, trial: Trial) -> Any:
        """An onnx.ModelProto in which no other than the chosen nodes take int8. Raises ModelError, EngineError."""


class OwnQuantizer:
    """QuantizeLinear and DequantizeLinear as quantise.py puts them; the histograms are made once, when first needed."""

    methods = METHODS

    def __init__(self, graph: Graph, pictures: Pictures, say: Callable[[str], None]) -> None:
        self._graph, self._pictures, self._say = graph, pictures, say
        self._histograms: dict[str, Histogram] | None = None

    def build(self, trial: Trial) -> Any:
        """See Quantizer."""
        if self._histograms is None:
            self._say("int8: activations on the calibration pictures")
            tensors = sorted({node.data for node in self._graph.weighted})
            self._histograms = histograms(self._graph.proto, tensors, self._pictures)
        wanted = sorted({node.data for node in self._graph.weighted if node.name in trial.chosen})
        thresholds = {name: self._histograms[name].threshold(trial.method) for name in wanted}
        return quantised(self._graph, trial.chosen, thresholds)


class ModelOptimizer:
    """NVIDIA's Model Optimizer (nvidia-modelopt), on the CPU. It leaves nodes float that TensorRT would not speed up.

    Raises ModelError where it is not installed.
    """

    methods = tuple(OPTIMIZER_METHODS)

    def __init__(self, graph: Graph, pictures: Pictures) -> None:
        self._quantize = require_modelopt()
        self._graph, self._pictures = graph, pictures

    def build(self, trial: Trial) -> Any:
        """See Quantizer."""
        import onnx

        others = [f"^{node.name}$" for node in self._graph.weighted if node.name not in trial.chosen]
        with tempfile.TemporaryDirectory(prefix="edgewarden-") as folder:
            given, made = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
            onnx.save(self._graph.proto, str(given))
            self._run(given, made, OPTIMIZER_METHODS[trial.method], others)
            return onnx.load(str(made))

    def _run(self, given: Path, made: Path, method: str, others: Sequence[str]) -> None:
        said = io.StringIO()  # it prints, also to stdout, which is ours
        try:
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                self._quantize(
                    str(given),
                    quantize_mode="int8",
                    calibration_data=np.concatenate([picture.copy() for picture in self._pictures()]),
                    calibration_method=method,
                    calibration_eps=["cpu"],
                    nodes_to_exclude=list(others) or None,
                    high_precision_dtype="fp32",
                    output_path=str(made),
                    log_level="ERROR",
                )
            if not made.is_file():
                raise RuntimeError("it wrote no file")
        except Exception as error:  # noqa: BLE001 - whatever a foreign tool raises, the work goes on without its graph
            reason = " ".join(str(error).split())[:300]
            raise EngineError(f"Model Optimizer failed: {type(error).__name__}: {reason}") from None
        finally:
            log.debug("Model Optimizer said: %s", said.getvalue())


def require_modelopt() -> Callable[..., None]:
    """Its function ``quantize``. Raises ModelError that says what to install."""
    try:
        from modelopt.onnx.quantization import quantize
    except Exception as error:  # noqa: BLE001 - half installed it raises anything, and the way out is the same
        raise ModelError(MISSING.format(" ".join(str(error).split())[:200])) from None
    found: Callable[..., None] = quantize
    return found


def methods_of(name: Name) -> tuple[str, ...]:
    """The calibrators of a quantizer."""
    return METHODS if name == "own" else ModelOptimizer.methods


def share_in_int8(graph: Graph, model: Any) -> float:
    """Which share of the multiply-accumulates a graph made of ``graph`` does on int8 data and weights, 0..1."""
    restored = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    whole = {node.name for node in model.graph.node if restored.issuperset(node.input[:2])}
    return sum(node.macs for node in graph.weighted if node.name in whole) / max(1, graph.macs)
