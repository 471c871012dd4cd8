"""The GPU path for long: source sizes that change, engines closed and opened; what grows, and what differs.

    python benchmarks/gpu_soak.py --models DIR --images DIR [--frames 100000] [--switches 200] [--json]

Two detectors of the same model, one computing float32 and one TF32, take turns; at each turn the old one is closed with
all its device memory. Every picture's detections are compared with those of the first pass, bit for bit. Memory is read
at the end of each turn; slopes are by least squares over the turns after the first fifth. Exit 1 when anything differs.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

if TYPE_CHECKING:
    from agent.data import Detections, Frame
    from agent.detection.detector import Detector
    from agent.detection.model import ModelPackage

SIZES = ((640, 480), (1280, 720), (1920, 1080), (333, 217))


def frames_of(folder: Path) -> list[Frame]:
    """Photos in several sizes, half of them in memory that a device may lock."""
    import cv2

    from agent.data import Frame
    from agent.sources.pool import PixelPool

    pool, found = PixelPool(), []
    for seq, file in enumerate(sorted(folder.glob("*.jpg"))[:24]):
        width, height = SIZES[seq % len(SIZES)]
        pixels = pool.take((height, width, 3)) if seq % 2 else np.empty((height, width, 3), np.uint8)
        cv2.resize(np.asarray(cv2.imread(str(file)), np.uint8), (width, height), dst=pixels)
        found.append(Frame("soak", seq, pixels, 0.0, 0.0))
    return found


def detector_of(package: ModelPackage, *, strict: bool) -> Detector:
    """A detector on the device."""
    from agent.detection.detector import Detector
    from agent.engines.cuda.device import Device
    from agent.engines.cuda.engine import CudaEngine
    from agent.engines.cuda.onnx import OnnxNetwork

    device = Device()
    network = OnnxNetwork(device, package.file_of(package.choose()), strict_fp32=strict)
    return Detector(package, CudaEngine(device, network, slots=2))


def same(one: Detections, other: Detections) -> bool:
    """Bit for bit."""
    return (
        one.labels == other.labels
        and np.array_equal(one.boxes, other.boxes)
        and np.array_equal(one.scores, other.scores)
    )


def memory() -> tuple[float, float]:
    """MB in use on the device, and resident."""
    import psutil
    import pycuda.driver as driver

    driver.init()
    context = driver.Device(0).retain_primary_context()
    context.push()
    free, total = driver.mem_get_info()
    context.pop()
    return (total - free) / 1e6, psutil.Process().memory_info().rss / 1e6


def slope(values: list[float], frames: int) -> float:
    """MB per 100,000 frames, after the first fifth."""
    late = values[len(values) // 5 :]
    return float(np.polyfit(np.arange(len(late)), late, 1)[0]) * 100_000 / frames


def main() -> None:
    """The figures."""
    from gpu_path import package_of

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--switches", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    frames, each = frames_of(arguments.images), arguments.frames // arguments.switches
    first: dict[tuple[bool, int], Detections] = {}
    device, resident, differing, done, started = [], [], 0, 0, time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        package = package_of(arguments.models / "yolox_nano_416.onnx", "yolox", Path(name))
        for turn in range(arguments.switches):
            strict = bool(turn % 2)
            detector = detector_of(package, strict=strict)
            for start in range(0, each, 2):
                pair = [frames[(start + place) % len(frames)] for place in range(2)]
                for frame, pending in [(frame, detector.submit([frame])) for frame in pair]:
                    (found,) = detector.collect(pending)
                    differing += not same(found, first.setdefault((strict, frame.seq), found))
                    done += 1
            used = memory()
            device.append(used[0])
            detector.close()
            resident.append(used[1])
            if not arguments.json and turn % 20 == 19:
                print(f"  {turn + 1} switches, {done:,} frames: device {used[0]:,.0f} MB, resident {used[1]:,.0f} MB")
    report = {
        "frames": done,
        "switches": arguments.switches,
        "differing": differing,
        "detections_first_pass": sum(len(found) for found in first.values()),
        "device_mb": [round(min(device), 1), round(max(device[len(device) // 5 :]), 1)],
        "device_slope_mb_per_100k_frames": round(slope(device, each), 3),
        "resident_mb": [round(resident[len(resident) // 5], 1), round(resident[-1], 1)],
        "resident_slope_mb_per_100k_frames": round(slope(resident, each), 3),
        "seconds": round(time.monotonic() - started, 1),
    }
    print(json.dumps(report) if arguments.json else "\n".join(f"{key:36} {value}" for key, value in report.items()))
    sys.exit(differing > 0)


if __name__ == "__main__":
    main()
