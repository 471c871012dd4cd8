"""Ultralytics' predict on a clip, as its users call it: its own reading, letterbox, ONNX Runtime, NMS and results.

Run by the interpreter of benchmarks/peers/make.py alone: Ultralytics is AGPL-3.0, and no dependency of ours.
"""

from __future__ import annotations

import argparse
import importlib
import os
import time
from typing import Any

from rounds import serve

os.environ |= {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLO_VERBOSE": "false"}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--family", required=True)
    parser.add_argument("--side", type=int, required=True)
    parser.add_argument("--clip", required=True)
    parser.add_argument("--frames", type=int, required=True)
    options = parser.parse_args()
    ultralytics: Any = importlib.import_module("ultralytics")
    model = ultralytics.YOLO(options.model, task="detect")

    def over(frames: int) -> dict[str, float]:
        found = model.predict(
            options.clip, stream=True, imgsz=options.side, conf=0.4, iou=0.6, device="cpu", verbose=False
        )
        next(found)  # opening the clip is behind it then
        done, wall, spent = 0, time.perf_counter(), time.process_time()
        for _ in found:
            done += 1
            if done == frames:
                break
        spent, wall = time.process_time() - spent, time.perf_counter() - wall
        found.close()
        return {"ms": wall / done * 1e3, "cpu_ms": spent / done * 1e3, "frames": done}

    over(5)
    serve(lambda: over(options.frames), version=ultralytics.__version__)


if __name__ == "__main__":
    main()
