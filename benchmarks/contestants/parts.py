"""Our parts, each beside what bounds it from below: preprocessing beside a bare cv2.resize of the same picture to the
same size, for sources of two sizes; and what comes after the engine, from its outputs to detections in the picture."""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import cv2
import numpy as np
from numpy.typing import NDArray
from rounds import serve

from agent.app import detector_score
from agent.config import ModelConfig
from agent.data import Frame
from agent.detection.detector import Detector
from agent.detection.model import ModelPackage, find_package
from agent.detection.preprocess import Preprocessor, plan
from agent.engines.onnx import OnnxEngine

PICTURES = 8
TIMES = 120


class Replay:
    """An engine that takes no time: it gives back what a real one made of the same pictures."""

    def __init__(self, engine: OnnxEngine, outputs: Sequence[Mapping[str, NDArray[Any]]]) -> None:
        self.backend, self.input, self.outputs = engine.backend, engine.input, engine.outputs
        self.slots, self.max_batch = 1, engine.max_batch
        self._outputs = itertools.cycle(outputs)

    def submit(self, _batch: NDArray[Any]) -> object:
        """Nothing to do."""
        return self

    def collect(self, _ticket: object) -> Mapping[str, NDArray[Any]]:
        """The next outputs."""
        return next(self._outputs)

    def close(self) -> None:
        """Nothing to free."""


def pictures(clip: str) -> list[NDArray[np.uint8]]:
    """Some of a clip, evenly over it: more than the processor's caches hold."""
    device = cv2.VideoCapture(clip)
    step = max(1, int(device.get(cv2.CAP_PROP_FRAME_COUNT)) // PICTURES)
    found: list[NDArray[np.uint8]] = []
    for number in itertools.count():
        read, picture = device.read()
        if not read or len(found) == PICTURES:
            break
        if number % step == 0:
            found.append(picture.astype(np.uint8, copy=False))
    device.release()
    if not found:
        raise SystemExit(f"{clip}: not one picture of it can be read")
    return found


def turns(first: Callable[[Any], object], second: Callable[[Any], object], things: list[Any]) -> tuple[float, float]:
    """Median milliseconds of each of two, in turn over the same things, but never both on one that was just in use:
    whoever comes second would find it in the processor's cache."""
    spent: tuple[list[float], list[float]] = ([], [])
    for at in range(TIMES):
        for do, into, offset in zip((first, second), spent, (0, len(things) // 2), strict=True):
            thing = things[(at + offset) % len(things)]
            began = time.perf_counter()
            do(thing)
            into.append(time.perf_counter() - began)
    return statistics.median(spent[0]) * 1e3, statistics.median(spent[1]) * 1e3


def preprocessing(package: ModelPackage, source: list[NDArray[np.uint8]]) -> tuple[float, float]:
    """Ours, and the bare resize into memory that is there."""
    ours = Preprocessor(package.input)
    height, width = source[0].shape[:2]
    _, _, wide, high = plan(package.input, (width, height)).target
    there = np.empty((high, wide, 3), np.uint8)

    def bare(picture: NDArray[np.uint8]) -> object:
        return cv2.resize(picture, (wide, high), dst=there, interpolation=cv2.INTER_LINEAR)

    return turns(lambda picture: ours.fill(0, picture), bare, source)


def replaying(package: ModelPackage, source: list[NDArray[np.uint8]]) -> tuple[Detector, list[Frame]]:
    """A detector on the outputs of these pictures, which it is to be given in their order."""
    engine, ours, outputs = OnnxEngine(package.file_of(package.choose())), Preprocessor(package.input), []
    for picture in source:
        ours.fill(0, picture)
        raw = engine.collect(engine.submit(ours.buffer))
        outputs.append({name: np.array(array) for name, array in raw.items()})
    config = ModelConfig()
    detector = Detector(
        package,
        Replay(engine, outputs),
        score=detector_score(config),
        iou=config.iou,
        max_detections=config.max_detections,
    )
    return detector, [Frame("bench", seq, picture, 0.0, 0.0) for seq, picture in enumerate(source)]


def postprocessing(detector: Detector, frames: list[Frame]) -> tuple[float, float]:
    """Milliseconds from the engine's outputs to detections, and how many of them there were."""
    spent, found = [], []
    for frame in itertools.islice(itertools.cycle(frames), TIMES):
        pending = detector.submit([frame])
        began = time.perf_counter()
        (detections,) = detector.collect(pending)
        spent.append(time.perf_counter() - began)
        found.append(len(detections))
    return statistics.median(spent) * 1e3, statistics.fmean(found)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packages", nargs="+", required=True)
    parser.add_argument("--clips", nargs="+", required=True)
    parser.add_argument("--busy", required=True, help="a clip with much to be found")
    options = parser.parse_args()
    packages = [find_package(package) for package in options.packages]
    sources, busy = [pictures(clip) for clip in options.clips], pictures(options.busy)
    shown = {Path(options.clips[0]).name: sources[0], Path(options.busy).name: busy}
    replays = [
        (package.name, clip, *replaying(package, source))
        for package, (clip, source) in itertools.product(packages, shown.items())
    ]

    def round_() -> dict[str, Any]:
        prepared = []
        for package, source in itertools.product(packages, sources):
            ours, bare = preprocessing(package, source)
            prepared.append({"model": package.name, "width": source[0].shape[1], "ms": ours, "bare_ms": bare})
        finished = []
        for name, clip, detector, frames in replays:
            ms, boxes = postprocessing(detector, frames)
            finished.append({"model": name, "clip": clip, "ms": ms, "boxes": boxes})
        return {"preprocess": prepared, "postprocess": finished}

    round_()
    serve(round_, threads=cv2.getNumThreads())


if __name__ == "__main__":
    main()
