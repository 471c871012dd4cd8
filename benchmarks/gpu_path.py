"""The GPU path: the engine alone, copy and kernel alone, a whole frame, and the tutorial's loop, side by side.

    python benchmarks/gpu_path.py --models DIR --clip FILE [--rounds 15] [--json]

``DIR`` holds yolox_nano_416.onnx and nanodet_m_320.onnx; a network of YOLOv8n's size is made with random weights.
Frames are the clip's, scaled up to 1920 x 1080, in memory as sources use it (``locked``) or in any other (``copied``).
Interleaved rounds in one process, medians of the rounds, milliseconds a frame. Needs a CUDA device, pycuda and ONNX
Runtime with CUDA; engines are ONNX Runtime's, float32 as TF32 where the device has it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agent.data import Frame
    from agent.detection.model import ModelPackage

FULL_HD = (1920, 1080)
FRAMES = 60


def frames_of(clip: Path, *, recycled: bool) -> list[Frame]:
    """The clip's first frames at 1080p."""
    import cv2

    from agent.data import Frame
    from agent.sources.pool import PixelPool

    pool, capture, found = PixelPool(), cv2.VideoCapture(str(clip)), []
    for seq in range(FRAMES):
        ok, small = capture.read()
        if not ok:
            break
        pixels = pool.take((FULL_HD[1], FULL_HD[0], 3)) if recycled else np.empty((FULL_HD[1], FULL_HD[0], 3), np.uint8)
        cv2.resize(small, FULL_HD, dst=pixels)
        found.append(Frame("bench", seq, pixels, time.time(), time.monotonic()))
    return found


def package_of(path: Path, name: str, folder: Path) -> ModelPackage:
    """A model package of an ONNX file."""
    from agent.detection.add import Wishes, add_model
    from agent.engines.onnx import OnnxEngine

    wishes = Wishes(name=name, labels="coco80")
    return add_model(path, wishes, folder / "models", OnnxEngine, replace=True).package


class Tutorial:
    """OpenCV letterbox and blob, session.run, all rows decoded in numpy, OpenCV's NMS: what one finds on the web."""

    def __init__(self, package: ModelPackage, path: Path) -> None:
        import onnxruntime

        from agent.detection.decoders.registry import decoder_class

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CUDAExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self._names = [output.name for output in self._session.get_outputs()]
        self._spec = package.input
        self._family = package.family
        self._decoder = decoder_class(package.family)(package.input.size, len(package.labels))

    def __call__(self, frame: Frame) -> object:
        import cv2

        blob, ratio = self._preprocess(frame.pixels)
        outputs = dict(zip(self._names, self._session.run(None, {self._input: blob}), strict=True))
        boxes, scores = self._decode(outputs)
        kept = cv2.dnn.NMSBoxes(boxes.tolist(), scores.tolist(), 0.4, 0.6)
        return boxes[np.asarray(kept, int)] / ratio

    def _preprocess(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], float]:
        import cv2

        width, height = self._spec.size
        ratio = min(width / pixels.shape[1], height / pixels.shape[0])
        inner = round(pixels.shape[1] * ratio), round(pixels.shape[0] * ratio)
        padded = np.full((height, width, 3), self._spec.pad, np.uint8)
        padded[: inner[1], : inner[0]] = cv2.resize(pixels, inner)
        ordered = cv2.cvtColor(padded, cv2.COLOR_BGR2RGB) if self._spec.colour == "rgb" else padded
        tensor = (ordered.astype(np.float32) - np.array(self._spec.mean, np.float32)) * np.array(
            self._spec.scale, np.float32
        )
        return np.ascontiguousarray(tensor.transpose(2, 0, 1)[None]), ratio

    def _decode(self, outputs: dict[str, NDArray[np.float32]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        if self._family == "nanodet":  # no tutorial decodes it otherwise than ours does
            (found,) = self._decoder.decode(outputs, 0.4)
            return found.boxes, found.scores
        (raw,) = outputs.values()
        rows = raw[0].T if self._family == "yolov8" else raw[0]
        scores = rows[:, 4:].max(1) if self._family == "yolov8" else (rows[:, 4:5] * rows[:, 5:]).max(1)
        boxes = np.concatenate((rows[:, :2] - rows[:, 2:4] / 2, rows[:, 2:4]), 1)
        keep = scores > 0.4
        return boxes[keep], scores[keep]


def each(work: Callable[[Frame], object], frames: Sequence[Frame]) -> None:
    """All of them, one after the other."""
    for frame in frames:
        work(frame)


def contestants(
    package: ModelPackage, clip: Path
) -> tuple[dict[str, Callable[[], None]], Callable[[], dict[str, Any]]]:
    """By name what runs through all frames once; and what is to be said of the device."""
    from agent.detection.detector import Detector
    from agent.detection.preprocess import plan
    from agent.engines.base import Placement
    from agent.engines.cuda.device import Device
    from agent.engines.cuda.engine import CudaEngine
    from agent.engines.cuda.onnx import OnnxNetwork

    path = package.file_of(package.choose())
    device = Device()
    engine = CudaEngine(device, OnnxNetwork(device, path))
    detector = Detector(package, engine)
    detector.warm_up()
    locked, copied = frames_of(clip, recycled=True), frames_of(clip, recycled=False)
    tutorial = Tutorial(package, path)
    layout = plan(package.input, FULL_HD)
    placement = Placement(layout.source, layout.target)

    def whole(frames: Sequence[Frame]) -> Callable[[], None]:
        return lambda: each(detector.detect, frames)

    def preprocess(frames: Sequence[Frame]) -> Callable[[], None]:
        return lambda: each(lambda frame: engine.run_preprocess([frame.pixels], [placement]), frames)

    def tell() -> dict[str, Any]:
        told = {"device": device.name, "backend": engine.backend, "mapped": engine.mapped, **engine.memory()}
        detector.close()
        return told

    return {
        "engine, graph": lambda: each(lambda _frame: engine.run_network(), locked),
        "copy and kernel, locked": preprocess(locked),
        "copy and kernel, copied": preprocess(copied),
        "whole frame, locked": whole(locked),
        "whole frame, copied": whole(copied),
        "tutorial loop": lambda: each(tutorial, locked),
    }, tell


def measure(package: ModelPackage, clip: Path, rounds: int) -> dict[str, Any]:
    """Medians, and the two ratios that matter."""
    runs, tell = contestants(package, clip)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    for _ in range(rounds):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            seconds[name].append((time.perf_counter() - started) / FRAMES)
    ms = {name: round(statistics.median(values) * 1e3, 4) for name, values in seconds.items()}
    floor = ms["engine, graph"] + ms["copy and kernel, locked"]
    floor_copied = ms["engine, graph"] + ms["copy and kernel, copied"]
    return {
        "ms": ms,
        "whole_over_floor": round(ms["whole frame, locked"] / floor, 3),
        "whole_over_floor_copied": round(ms["whole frame, copied"] / floor_copied, 3),
        "tutorial_over_whole": round(ms["tutorial loop"] / ms["whole frame, locked"], 2),
        "tutorial_over_whole_copied": round(ms["tutorial loop"] / ms["whole frame, copied"], 2),
        **tell(),
    }


def main() -> None:
    """The table."""
    from random_yolo import random_yolo

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--clip", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    report = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        random_yolo(folder / "random_yolo.onnx")
        files = [arguments.models / "yolox_nano_416.onnx", arguments.models / "nanodet_m_320.onnx"]
        for file in [*files, folder / "random_yolo.onnx"]:
            found = report[file.stem] = measure(package_of(file, file.stem, folder), arguments.clip, arguments.rounds)
            if not arguments.json:
                print(f"{file.stem}: {found['backend']}, pictures {'mapped' if found['mapped'] else 'copied'}")
                for contestant, ms in found["ms"].items():
                    print(f"  {contestant:26} {ms:8.3f} ms")
                print(f"  whole / (engine + copy and kernel): {found['whole_over_floor']} locked, ", end="")
                print(f"{found['whole_over_floor_copied']} copied; tutorial / whole: {found['tutorial_over_whole']} x")
    if arguments.json:
        print(json.dumps(report))


if __name__ == "__main__":
    main()
