"""Roboflow's InferencePipeline over a clip, with its own YOLOv8 class (letterbox, ONNX Runtime, NMS) as the model.

Its models come from its servers; the graph is given to its class as a local package instead. Run by the interpreter of
benchmarks/peers/make.py alone; nothing of ours depends on it.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import tempfile
import threading
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rounds import serve

os.environ |= {
    "OFFLINE_MODE": "True",
    "TELEMETRY_OPT_OUT": "True",
    "METRICS_ENABLED": "False",
    "CORE_MODEL_YOLO_WORLD_ENABLED": "False",
}
CLASSES = 80
WITHIN = 60.0


class Sink:
    """Counts results, and says when there are enough. The clock starts with the first."""

    def __init__(self, frames: int) -> None:
        self.frames = frames
        self.done = -1
        self.wall = self.spent = 0.0
        self.over = threading.Event()

    def __call__(self, _predictions: Any, _frames: Any) -> None:
        self.done += 1
        if self.done == 0:
            self.wall, self.spent = time.perf_counter(), time.process_time()
        elif self.done == self.frames:
            self.wall, self.spent = time.perf_counter() - self.wall, time.process_time() - self.spent
            self.over.set()


def package(folder: Path, model: str, side: int) -> None:
    """The graph as a model package of inference_models."""
    (folder / "weights.onnx").symlink_to(Path(model).resolve())
    (folder / "class_names.txt").write_text("\n".join(f"class {number}" for number in range(CLASSES)) + "\n")
    about = {
        "network_input": {
            "training_input_size": {"height": side, "width": side},
            "dynamic_spatial_size_supported": False,
            "color_mode": "rgb",
            "resize_mode": "letterbox",
            "padding_value": 114,
            "input_channels": 3,
            "scaling_factor": 255,
        },
        "forward_pass": {"static_batch_size": 1},
        "post_processing": {"type": "nms", "fused": False},
    }
    (folder / "inference_config.json").write_text(json.dumps(about))


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--family", required=True)
    parser.add_argument("--side", type=int, required=True)
    parser.add_argument("--clip", required=True)
    parser.add_argument("--frames", type=int, required=True)
    options = parser.parse_args()
    pipelines: Any = importlib.import_module("inference").InferencePipeline
    models: Any = importlib.import_module("inference_models.models.yolov8.yolov8_object_detection_onnx")
    torch: Any = importlib.import_module("torch")
    with tempfile.TemporaryDirectory() as folder:
        package(Path(folder), options.model, options.side)
        model = models.YOLOv8ForObjectDetectionOnnx.from_pretrained(
            folder, onnx_execution_providers=["CPUExecutionProvider"], device=torch.device("cpu")
        )

    def infer(frames: list[Any]) -> list[Any]:
        return list(model([frame.image for frame in frames], confidence=0.4, iou_threshold=0.6))

    def over(frames: int) -> dict[str, float]:
        sink = Sink(frames)
        pipeline = pipelines.init_with_custom_logic(
            video_reference=options.clip, on_video_frame=infer, on_prediction=sink
        )
        pipeline.start(use_main_thread=False)
        came = sink.over.wait(WITHIN)
        pipeline.terminate()
        pipeline.join()
        if not came:
            raise SystemExit(f"{sink.done + 1} results within {WITHIN:.0f} s")
        return {"ms": sink.wall / frames * 1e3, "cpu_ms": sink.spent / frames * 1e3, "frames": frames}

    over(5)
    serve(lambda: over(options.frames), version=version("inference"))


if __name__ == "__main__":
    main()
