"""Stands in for NVIDIA's Model Optimizer, whose torch is no dependency of the tests: the part of ``quantize`` (0.47.0)
that is used, done by ONNX Runtime's own quantizer, which is what works inside the real one too.

``$STAND_IN=careless`` makes a graph of the kind that loads and then fails in ONNX Runtime 1.31 at full optimisation:
uint8 with one step a tensor, and every constant listed as an input, as old exporters have it. ``broken``: it raises.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static


class _Pictures(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, name: str, batch: NDArray[np.float32]) -> None:
        self._rows: Iterator[dict[str, NDArray[np.float32]]] = iter([{name: row[None]} for row in batch])

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return next(self._rows, None)


def quantize(
    onnx_path: str,
    quantize_mode: str = "int8",
    calibration_data: NDArray[np.float32] | None = None,
    calibration_method: str | None = None,
    calibration_eps: Sequence[str] = ("cpu", "cuda:0", "trt"),
    nodes_to_exclude: Sequence[str] | None = None,
    high_precision_dtype: str = "fp16",
    output_path: str | None = None,
    log_level: str = "INFO",
) -> None:
    """See the real one. It prints, as that does."""
    print(f"Model Optimizer's stand-in, {log_level}")
    if os.environ.get("STAND_IN") == "broken":
        raise RuntimeError("no kernel\nfor this")
    assert (quantize_mode, list(calibration_eps), high_precision_dtype) == ("int8", ["cpu"], "fp32")
    assert calibration_data is not None
    assert output_path is not None
    careless = os.environ.get("STAND_IN") == "careless"
    model = onnx.load(onnx_path)
    name = model.graph.input[0].name
    if careless:
        model.graph.input.extend(
            helper.make_tensor_value_info(one.name, one.data_type, list(one.dims)) for one in model.graph.initializer
        )
    given = Path(output_path).with_name("given.onnx")
    onnx.save(model, str(given))
    patterns = [re.compile(pattern) for pattern in nodes_to_exclude or ()]
    options: dict[str, Any] = {} if careless else {"ActivationSymmetric": True, "QuantizeBias": False}
    quantize_static(
        str(given),
        output_path,
        _Pictures(name, calibration_data),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=None if careless else ["Conv"],
        nodes_to_exclude=[node.name for node in model.graph.node if any(one.match(node.name) for one in patterns)],
        per_channel=not careless,
        activation_type=QuantType.QUInt8 if careless else QuantType.QInt8,
        weight_type=QuantType.QInt8,
        calibrate_method={"max": CalibrationMethod.MinMax, "entropy": CalibrationMethod.Entropy}[
            calibration_method or "entropy"
        ],
        extra_options=options,
    )
