"""Runs a graph that is being tried as the daemon would run it: in the package's detector, on chosen pictures.

A graph that loads and then fails at full optimisation is tried again at lower levels.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from agent.detection.decoders.registry import BUILT_IN
from agent.detection.detector import Detector
from agent.detection.preprocess import Preprocessor
from agent.engines import on_processor
from agent.engines.on_processor import backend_for
from agent.engines.onnx import Optimisation
from agent.errors import AgentError, EngineError
from agent.host.extensions import extensions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from agent.data import Detections, Frame
    from agent.detection.decoders.base import Decoder
    from agent.detection.model import ModelPackage
    from agent.engines.base import Engine
    from agent.engines.on_processor import Backend

OpenEngine = Callable[[Path, Optimisation, str], "Engine"]
"""Loads the graph of a precision on the backend that is to be tried."""
LEVELS: tuple[Optimisation, ...] = ("all", "extended", "basic", "off")


def open_onnx(file: Path, level: Optimisation, precision: str = "fp32") -> Engine:
    """By ONNX Runtime on the CPU, bf16 by OpenVINO. Raises EngineError."""
    return on_processor.open_engine(backend_for(precision), file, precision=precision, optimisation=level)


def open_openvino(file: Path, level: Optimisation, precision: str = "fp32") -> Engine:
    """By OpenVINO. Raises EngineError."""
    return on_processor.open_engine("openvino", file, precision=precision, optimisation=level)


def on_backend(backend: Backend, device: str = "cpu") -> OpenEngine:
    """By that engine; ``device`` is ONNX Runtime's. Raises EngineError where it is not there."""
    if backend == "onnxruntime":
        return on_device(device)
    if device != "cpu":
        raise EngineError(f"OpenVINO computes on the processor here, not on {device}")
    on_processor.version_of(backend)
    return open_openvino


def on_device(device: str) -> OpenEngine:
    """By ONNX Runtime on that device, ``cpu`` or ``cuda``. Raises EngineError where it has none."""
    if device == "cpu":
        return open_onnx
    from agent.engines.cuda.onnx import check_onnx
    from agent.engines.cuda.onnx import open_onnx as open_on_cuda

    check_onnx()
    return lambda file, level, _precision: open_on_cuda(file, optimisation=level)


class Runs(NamedTuple):
    """At which optimisation level a graph runs, and what it said at the levels above."""

    level: Optimisation
    faults: tuple[str, ...]


def runs_at(package: ModelPackage, file: Path) -> Runs:
    """The highest level at which the graph loads and runs. Raises EngineError when it runs at none."""
    faults = []
    for level in LEVELS:
        try:
            open_detector(package, file, level).close()
        except AgentError as error:
            faults.append(f"{level}: {error}")
        else:
            return Runs(level, tuple(faults))
    raise EngineError(f"{file.name}: runs at no level of graph optimisation ({'; '.join(faults)})")


def detections(
    package: ModelPackage,
    file: Path,
    frames: Sequence[Frame],
    *,
    score: float,
    level: Optimisation = "all",
    each: Callable[[], object] = lambda: None,
    open_engine: OpenEngine = open_onnx,
    precision: str = "fp32",
) -> list[Detections]:
    """What the graph finds in the pictures; ``each`` is called after each of them. Raises EngineError."""
    found = []
    detector = open_detector(package, file, level, score, open_engine, precision)
    try:
        for frame in frames:
            found.append(detector.detect(frame))
            each()
    finally:
        detector.close()
    return found


def detections_of(package: ModelPackage, model: Any, frames: Sequence[Frame], score: float) -> list[Detections]:
    """The same of a graph in memory, at whatever level it runs."""
    with tempfile.TemporaryDirectory(prefix="edgewarden-") as folder:
        file = Path(folder) / "trial.onnx"
        file.write_bytes(model.SerializeToString())
        return detections(package, file, frames, score=score, level=runs_at(package, file).level)


def inputs(package: ModelPackage, frames: Sequence[Frame], dtype: str = "float32") -> Iterator[NDArray[np.generic]]:
    """The pictures as the network's input, ``[1, 3, H, W]`` or as the package's layout has it, one after the other in
    one buffer."""
    preprocessor = Preprocessor(package.input, dtype=dtype)
    for frame in frames:
        preprocessor.fill(0, frame.pixels)
        yield preprocessor.buffer


def open_detector(
    package: ModelPackage,
    file: Path,
    level: Optimisation = "all",
    score: float = 0.5,
    open_engine: OpenEngine = open_onnx,
    precision: str = "fp32",
) -> Detector:
    """The package's detector on that graph, warm. Raises ModelError, EngineError."""
    engine = open_engine(file, level, precision)
    try:
        decoders = _of_plugins(package.family)
        detector = Detector(package, engine, score=score, iou=0.65, precision=precision, decoders=decoders)
        detector.warm_up()
    except BaseException:
        engine.close()
        raise
    return detector


def _of_plugins(family: str) -> Mapping[str, type[Decoder]]:
    """The families that plugins bring, where one of them is needed."""
    return {} if family in BUILT_IN else extensions().decoders
