"""Keeps what a detector finds in every frame of a clip, so that tracking can be tried again and again without it.

    python benchmarks/record_detections.py --model PACKAGE --out FOLDER CLIP…

Writes FOLDER/NAME.npz for each clip: ``rows`` float32 ``[N, 7]`` = frame, x1, y1, x2, y2, score, class (doubtful ones
from .1 on too), ``times`` float64 seconds of each frame, ``size`` width and height, ``labels``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from agent.data import Frame
from agent.detection.coco_labels import COCO80
from agent.detection.detector import Detector
from agent.detection.model import find_package
from agent.engines.onnx import OnnxEngine
from agent.sources.video import VideoFile

DOUBTFUL = 0.1


def record(detector: Detector, clip: Path, out: Path) -> tuple[int, int]:
    """Run the clip through; frames and detections kept."""
    source = VideoFile(clip)
    source.open()
    rows: list[np.ndarray] = []
    times: list[float] = []
    size = (0, 0)
    while source.grab():
        picture = source.retrieve()
        if picture is None:
            continue
        frame = Frame(clip.stem, len(times), picture.pixels, 0.0, 0.0)
        found = detector.detect(frame)
        size = frame.size
        number = np.full((len(found), 1), len(times), np.float32)
        rows.append(np.hstack([number, found.boxes, found.scores[:, None], found.class_ids[:, None]]))
        times.append(float(picture.position if picture.position is not None else len(times)))
    source.close()
    table = np.concatenate(rows).astype(np.float32)
    table[:, 1:5] = table[:, 1:5].round(1)
    table[:, 5] = table[:, 5].round(3)
    np.savez_compressed(out, rows=table, times=np.array(times), size=np.array(size), labels=np.array(COCO80))
    return len(times), len(table)


def main() -> None:
    """One file a clip."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("clips", nargs="+", type=Path, metavar="CLIP")
    arguments = parser.parse_args()
    package = find_package(arguments.model)
    detector = Detector(package, OnnxEngine(package.file_of(package.choose("fp32"))), score=DOUBTFUL, iou=0.6)
    for clip in arguments.clips:
        frames, count = record(detector, clip, arguments.out / f"{clip.name.split('.')[0]}.npz")
        print(f"{clip.name}: {frames} frames, {count} detections")


if __name__ == "__main__":
    main()
