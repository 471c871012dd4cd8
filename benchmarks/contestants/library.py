"""Ours as a library, on one thread of Python: the clip's source, the detector, the tracker, the events; no daemon."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from rounds import serve

from agent.data import Frame
from agent.detection.model import find_package
from agent.precision.trial import open_detector
from agent.sources.video import VideoFile
from agent.tracking.events import Events
from agent.tracking.tracker import Tracker


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--package", required=True)
    parser.add_argument("--clip", type=Path, required=True)
    parser.add_argument("--frames", type=int, required=True)
    options = parser.parse_args()
    package = find_package(options.package)
    variant = package.choose()
    detector = open_detector(package, package.file_of(variant), variant.optimisation or "all")

    def over(frames: int) -> dict[str, float]:
        source, tracker, events = VideoFile(options.clip), Tracker(), Events("bench", "bench")
        source.open()
        done, boxes, wall, spent = 0, 0, time.perf_counter(), time.process_time()
        while done < frames and (picture := source.read()) is not None:
            now = time.monotonic()
            frame = Frame("bench", done, picture.pixels, time.time(), now)
            found = detector.detect(frame)
            events.update(tracker.update(found, now), frame, now)
            boxes += len(found)
            done += 1
        spent, wall = time.process_time() - spent, time.perf_counter() - wall
        source.close()
        return {"ms": wall / done * 1e3, "cpu_ms": spent / done * 1e3, "frames": done, "boxes": boxes}

    over(10)
    serve(lambda: over(options.frames), backend=detector.backend)


if __name__ == "__main__":
    main()
