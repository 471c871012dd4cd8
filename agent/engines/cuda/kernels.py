"""Our kernels on a device: compiled or taken from the cache, loaded, launched. What they do stands in kernels.cu."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agent.engines.cuda.nvrtc import cubin
from agent.errors import EngineError

if TYPE_CHECKING:
    from agent.engines.cuda.device import Device

SOURCE = Path(__file__).with_name("kernels.cu")
OUT_BITS = {"float32": 32, "float16": 16, "uint8": 8}
TILE = (32, 8)
CELLS = 128
# As the structs of kernels.cu, with the compiler's alignment.
JOB = np.dtype(
    [("pixels", "u8"), ("columns", "u8"), ("rows", "u8"), ("pitch", "i8")]
    + [(name, "i4") for name in ("left", "top", "width", "height")],
    align=True,
)
FORMAT = np.dtype(
    [(name, "i4") for name in ("width", "height", "rgb", "channels_last", "plain")]
    + [(name, "f4", 3) for name in ("mean", "scale", "shift", "pad")],
    align=True,
)
HEAD = np.dtype(
    [(name, "u8") for name in ("scores", "boxes", "cells")]
    + [("score_picture", "i8"), ("box_picture", "i8")]
    + [(name, "i4") for name in ("score_cell", "score_value", "box_cell", "box_value", "count", "first")]
    + [(name, "i4") for name in ("classes", "objectness", "class_at", "box_at", "form")]
    + [("min_score", "f4")],
    align=True,
)
CANDIDATE = np.dtype([(name, "f4") for name in ("left", "top", "right", "bottom", "score", "label", "cell")])


class Kernels:
    """``dtype``: of the network's input. ``cache``: folder for compiled kernels. Raises EngineError."""

    def __init__(self, device: Device, dtype: str, cache: Path | None = None) -> None:
        if dtype not in OUT_BITS:
            raise EngineError(f"cuda: an input of {dtype} cannot be filled, only of {', '.join(OUT_BITS)}")
        code = cubin(SOURCE.read_text(encoding="utf-8"), device.capability, [f"-DOUT={OUT_BITS[dtype]}"], cache)
        self._device = device
        with device.guard("load the kernels"):
            self._module: Any = device.driver.module_from_buffer(code)
            self._preprocess: Any = self._module.get_function("preprocess")
            self._candidates: Any = self._module.get_function("candidates")
        self._preprocess.prepare(["P", "P", f"{FORMAT.itemsize}s"])
        self._candidates.prepare([f"{HEAD.itemsize}s", "P", "P", "i"])

    def preprocess(self, stream: Any, jobs: int, target: int, batch: int, layout: np.void) -> None:
        """Fill the input at ``target`` from the ``batch`` pictures that the jobs (JOB, in device memory) name."""
        grid = (-(-int(layout["width"]) // TILE[0]), -(-int(layout["height"]) // TILE[1]), batch)
        self._preprocess.prepared_async_call(grid, (*TILE, 1), stream, jobs, target, layout.tobytes())

    def candidates(self, stream: Any, head: np.void, counts: int, found: int, batch: int, capacity: int) -> None:
        """Add the candidates of one head to those found; ``counts`` (int32, one a picture) counts all there are."""
        grid = (-(-int(head["count"]) // CELLS), batch, 1)
        call = self._candidates.prepared_async_call
        call(grid, (CELLS, 1, 1), stream, head.tobytes(), counts, found, capacity)

    def close(self) -> None:
        """Unload them, while the device's context is there. Safe to call twice."""
        self._module = self._preprocess = self._candidates = None
