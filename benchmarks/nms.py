"""Exact, fast and matrix NMS on a real detector's candidates: time at several counts, and what each does to mAP.

python benchmarks/nms.py --model PACKAGE --annotations COCO_JSON --images DIR [--json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any, get_args

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

COUNTS = (100, 1000, 3000)
ROUNDS = 30


def crowd(count: int, seed: int = 1) -> tuple[Any, Any, Any]:
    """Candidates as a detector gives them: clusters of boxes around objects."""
    rng = np.random.default_rng(seed)
    objects = max(1, count // 20)
    centre = rng.uniform(20, 400, (objects, 2))[rng.integers(0, objects, count)] + rng.normal(0, 3, (count, 2))
    half = rng.uniform(10, 40, (count, 2))
    boxes = np.concatenate([centre - half, centre + half], 1).astype(np.float32)
    return boxes, rng.uniform(0.01, 1, count).astype(np.float32), rng.integers(0, 5, count).astype(np.int32)


def milliseconds() -> dict[str, dict[int, float]]:
    """Medians of interleaved rounds."""
    from agent.detection.nms import Method, suppress

    found: dict[str, dict[int, float]] = {method: {} for method in get_args(Method)}
    for count in COUNTS:
        boxes, scores, classes = crowd(count)
        rounds: dict[str, list[float]] = {method: [] for method in found}
        for _ in range(ROUNDS):
            for method in get_args(Method):
                started = time.perf_counter()
                suppress(method, boxes, scores, classes, 0.65, 300)
                rounds[method].append((time.perf_counter() - started) * 1e3)
        for method, values in rounds.items():
            found[method][count] = round(statistics.median(values), 3)
    return found


def accuracy(model: str, annotations: Path, images: Path) -> dict[str, tuple[float, float]]:
    """mAP50-95 and mAP50 by method."""
    from agent.data import Frame
    from agent.detection.detector import Detector
    from agent.detection.model import find_package
    from agent.detection.nms import Method
    from agent.engines.onnx import OnnxEngine
    from agent.precision.accuracy import Truth
    from agent.sources.images import read_image

    package = find_package(model)
    truth = Truth(annotations, package.labels)
    names = [name for name in sorted(truth.images) if (images / name).is_file()]
    found = {}
    for method in get_args(Method):
        detector = Detector(package, OnnxEngine(package.file_of(package.choose())), score=0.001, iou=0.65, nms=method)
        told = {name: detector.detect(Frame("nms", 0, read_image(images / name), 0.0, 0.0)) for name in names}
        detector.close()
        figures = truth.score(told)
        found[method] = (round(figures.map50_95, 4), round(figures.map50, 4))
    return found


def main() -> int:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--model", required=True, help="model package")
    parser.add_argument("--annotations", type=Path, required=True, help="COCO annotations")
    parser.add_argument("--images", type=Path, required=True, help="folder of their pictures")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    args = parser.parse_args()
    times, maps = milliseconds(), accuracy(args.model, args.annotations, args.images)
    if args.json:
        print(json.dumps({"milliseconds": times, "map": maps}))
        return 0
    print(f"{'':8}" + "".join(f"{count:>9} boxes" for count in COUNTS) + f"{'mAP50-95':>11}{'mAP50':>8}")
    for method, row in times.items():
        cells = "".join(f"{row[count]:>12.2f} ms" for count in COUNTS)
        print(f"{method:8}{cells}{maps[method][0]:>11.4f}{maps[method][1]:>8.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
