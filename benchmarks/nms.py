"""Exact, fast and matrix NMS on a real detector's candidates: time at several counts, and what each does to mAP.

    python benchmarks/nms.py --model PACKAGE --annotations COCO_JSON --images DIR [--json]

Of each picture the 100, 1,000 or 3,000 best candidates are given to NMS, as the network made them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

if TYPE_CHECKING:
    from agent.data import Frame
    from agent.detection.decoders.base import Candidates, Decoder
    from agent.detection.model import ModelPackage
    from agent.precision.accuracy import Truth

COUNTS = (100, 1000, 3000)
IOU, MOST, ROUNDS = 0.65, 300, 3


class Row(NamedTuple):
    """One method at one count: median milliseconds a picture, as a share of exact's, and mAP."""

    method: str
    candidates: int
    ms: float
    ratio: float
    map50_95: float
    map50: float


def best_of(family: type[Decoder], count: int, seen: list[Candidates]) -> type[Decoder]:
    """The family's decoder with all but the ``count`` best candidates left out; what it gives is noted in ``seen``."""

    class BestOf(family):  # type: ignore[misc, valid-type]
        def decode(self, outputs: Mapping[str, Any], min_score: float) -> list[Candidates]:
            found = [_best(some, count) for some in super().decode(outputs, min_score)]
            seen.extend(found)
            return found

    return BestOf


def _best(found: Candidates, count: int) -> Candidates:
    rows = np.sort(np.argsort(-found.scores, kind="stable")[:count])
    points = None if found.landmarks is None else found.landmarks[rows]
    return type(found)(found.boxes[rows], found.scores[rows], found.class_ids[rows], points)


def milliseconds(pictures: Sequence[Candidates]) -> dict[str, float]:
    """Medians by method, each picture's candidates given to each method in turn."""
    from agent.detection.nms import Method, suppress

    spent: dict[str, list[float]] = {method: [] for method in get_args(Method)}
    for _ in range(ROUNDS):
        for one in pictures:
            for method in get_args(Method):
                started = time.perf_counter()
                suppress(method, one.boxes, one.scores, one.class_ids, IOU, MOST)
                spent[method].append((time.perf_counter() - started) * 1e3)
    return {method: statistics.median(values) for method, values in spent.items()}


def measure(package: ModelPackage, truth: Truth, frames: Mapping[str, Frame]) -> list[Row]:
    """A row a count and method."""
    from agent.detection.decoders.registry import decoder_class
    from agent.detection.detector import Detector
    from agent.detection.nms import Method
    from agent.engines.onnx import OnnxEngine

    rows = []
    for count in COUNTS:
        seen: list[Candidates] = []
        families = {package.family: best_of(decoder_class(package.family), count, seen)}
        figures = {}
        for method in get_args(Method):
            seen.clear()
            engine = OnnxEngine(package.file_of(package.choose()))
            detector = Detector(package, engine, score=0.0, iou=IOU, max_detections=MOST, decoders=families, nms=method)
            figures[method] = truth.score({name: detector.detect(frame) for name, frame in frames.items()})
            detector.close()
        given = round(statistics.median(len(one.scores) for one in seen))
        times = milliseconds(seen)
        for method, one in figures.items():
            ratio = times[method] / times["exact"]
            figure = round(one.map50_95, 4), round(one.map50, 4)
            rows.append(Row(method, given, round(times[method], 3), round(ratio, 2), *figure))
    return rows


def main() -> int:
    """Measure, print."""
    from agent.data import Frame
    from agent.detection.model import find_package
    from agent.precision.accuracy import Truth
    from agent.sources.images import read_image

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--model", required=True, help="model package")
    parser.add_argument("--annotations", type=Path, required=True, help="COCO annotations")
    parser.add_argument("--images", type=Path, required=True, help="folder of their pictures")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    args = parser.parse_args()
    package = find_package(args.model)
    truth = Truth(args.annotations, package.labels)
    names = [name for name in sorted(truth.images) if (args.images / name).is_file()]
    frames = {name: Frame("nms", 0, read_image(args.images / name), 0.0, 0.0) for name in names}
    rows = measure(package, truth, frames)
    if args.json:
        print(json.dumps([row._asdict() for row in rows]))
        return 0
    print(f"{'candidates':>10}  {'method':8}{'ms':>9}{'ratio':>8}{'mAP50-95':>10}{'mAP50':>8}")
    for row in rows:
        print(
            f"{row.candidates:>10}  {row.method:8}{row.ms:>9.2f}{row.ratio:>8.2f}{row.map50_95:>10.4f}{row.map50:>8.4f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
