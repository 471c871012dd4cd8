"""A process whose device is lost on purpose: no test that needs the device may come after it in the same process.

``detector MODEL``: a detector alone. ``daemon CONFIG``: the daemon in the middle of its work. Prints what it saw.
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from waiting import wait_until

from agent.app import App
from agent.config import load
from agent.data import Frame
from agent.detection.detector import Detector
from agent.detection.model import find_package
from agent.engines.cuda.engine import CudaEngine
from agent.engines.cuda.nvrtc import cubin
from agent.engines.cuda.onnx import open_onnx
from agent.errors import EngineError

WRECK = 'extern "C" __global__ void wreck(int *nowhere) { nowhere[1 << 28] = 1; }'


def wreck(engine: CudaEngine) -> None:
    """Write where nothing is: from then on the context fails."""
    device = engine.device
    module = device.driver.module_from_buffer(cubin(WRECK, device.capability, [], None))
    function = module.get_function("wreck")
    function.prepare(["P"])
    function.prepared_async_call((1, 1), (1, 1, 1), None, 16)
    with contextlib.suppress(device.driver.Error):
        device.driver.Context.synchronize()


def detector(model: str) -> list[str]:
    """What detecting and loading anew raise afterwards."""
    package = find_package(Path(model))
    frame = Frame("gate", 0, np.full((480, 640, 3), 114, np.uint8), 0.0, 0.0)
    engine = open_onnx(package.file_of(package.choose()))
    one = Detector(package, engine)
    one.detect(frame)
    wreck(engine)
    raised = []
    for attempt in (lambda: one.detect(frame), lambda: open_onnx(package.file_of(package.choose()))):
        try:
            attempt()
        except EngineError as error:
            raised.append(f"{type(error).__name__}: {error}")
    one.close()
    return raised


def daemon(config: str) -> dict[str, Any]:
    """How it went on."""
    app = App(load(Path(config)), entry_points=[])
    with app:
        counts = app.pipeline.counts
        wait_until(lambda: counts.inferred > 20, 60, "it infers")
        before = app.detector.backend
        engine = app.detector._used.engine
        assert isinstance(engine, CudaEngine)
        app.pipeline.between_frames(lambda: wreck(engine)).result(30)
        wait_until(lambda: counts.revived == 1, 60, "it goes on with another engine")
        told = counts.inferred
        wait_until(lambda: counts.inferred > told + 20, 60, "it infers")
        return {
            "before": before,
            "after": app.detector.backend,
            "why": app.detector.why,
            "revived": counts.revived,
            "lost": app.lanes[0].stale,
            "problem": str(app.problem() or ""),
        }


if __name__ == "__main__":
    print(json.dumps({"detector": detector, "daemon": daemon}[sys.argv[1]](sys.argv[2])))
