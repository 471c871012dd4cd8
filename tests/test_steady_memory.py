"""In steady state nothing is allocated that grows with the picture: from the decoder to the event. What is freed is the
kernel's again."""

from __future__ import annotations

import mmap
import platform
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest

from agent.config import CameraConfig
from agent.data import Detections, Event, Frame
from agent.detection.detector import Detector
from agent.detection.engine_set import EngineSet
from agent.detection.model import find_package
from agent.engines.onnx import OnnxEngine
from agent.pipeline import Lane, Pipeline
from agent.sources.capture import Capture
from agent.sources.video import VideoFile
from agent.tracking.events import Events
from agent.tracking.tracker import Tracker

FRAMES, WARM = 90, 45


class Used(NamedTuple):
    """Bytes: the most that one frame took for a while, and what stayed from the end of the warm-up to the end.
    ``pieces``: of picture memory that were made after the warm-up."""

    most: int
    stayed: int
    pieces: int


class Watch:
    """Sees what each frame takes, by tracemalloc, which numpy and OpenCV's arrays report to."""

    def __init__(self) -> None:
        self.most: list[int] = []
        self.now: list[int] = []
        self.pieces: list[int] = []
        self.made = 0
        self.pictures = 0

    def offer_events(self, events: Sequence[tuple[Event, Frame | None]]) -> None:
        self.pictures += len(events)

    def offer_detections(self, detections: Detections, frame: Frame) -> None:
        now, peak = tracemalloc.get_traced_memory()
        self.most.append(peak - (self.now[-1] if self.now else 0))
        self.now.append(now)
        self.pieces.append(self.made)
        tracemalloc.reset_peak()


def clip(path: Path, size: tuple[int, int]) -> Path:
    """A bright thing that moves over a grey ground."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, size)
    for index in range(FRAMES):
        picture = np.full((size[1], size[0], 3), 90, np.uint8)
        left = size[0] * index // FRAMES // 2
        picture[size[1] // 4 : size[1] // 2, left : left + size[0] // 6] = (30, 200, 240)
        writer.write(picture)
    writer.release()
    return path


def warm_up(engines: EngineSet) -> None:
    """Every slot has its input from now on: those beyond the first are made when they are needed."""
    frame = Frame("cam", 0, np.zeros((240, 320, 3), np.uint8), 0.0, 0.0)
    for started in [engines.submit([frame]) for _ in range(engines.slots)]:
        engines.collect(started)


def used(path: Path, monkeypatch: pytest.MonkeyPatch, *, workers: int) -> Used:
    watch = Watch()

    class Counted(mmap.mmap):
        def __new__(cls, *args: Any) -> Counted:
            watch.made += 1
            return super().__new__(cls, *args)

    monkeypatch.setattr(mmap, "mmap", Counted)
    package = find_package("desk")
    engines = EngineSet({"fp32": Detector(package, OnnxEngine(package.file_of(package.choose()), threads=1))})
    engines.spread(workers, 1 if workers > 1 else 0)
    warm_up(engines)
    wake = threading.Event()
    capture = Capture("cam", VideoFile(path, threads=1), realtime=False, on_frame=wake.set)
    lane = Lane(CameraConfig(name="cam", source="x", realtime=False), capture, Tracker(), Events("cam", "node"))
    tracemalloc.start()
    capture.start()
    Pipeline([lane], engines, watch, score=0.4, wake=wake).run()
    tracemalloc.stop()
    capture.stop()
    engines.close()
    assert len(watch.now) == FRAMES
    return Used(max(watch.most[WARM:]), watch.now[-1] - watch.now[WARM], watch.pieces[-1] - watch.pieces[WARM])


@pytest.mark.parametrize("workers", [1, 2])
def test_no_frame_allocates_anything_that_grows_with_the_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    small = used(clip(tmp_path / "small.avi", (320, 240)), monkeypatch, workers=workers)
    large = used(clip(tmp_path / "large.avi", (1920, 1080)), monkeypatch, workers=workers)
    # One more now and then, when as many frames as never before happen to be under way at once.
    assert max(large.pieces, small.pieces) <= 3, "pictures are decoded into memory that was used before"
    assert large.most < 256 * 1024, f"a picture is {1920 * 1080 * 3} bytes"
    assert large.most < small.most + 64 * 1024
    assert large.stayed < 128 * 1024


FREED = """
import numpy as np
from pathlib import Path
from agent.startup import hold_little

def resident_mb():
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024

hold_little()
np.ones(8 << 20, np.uint8)  # glibc by itself would take all that is smaller from the heap from now on
before, pictures, kept = resident_mb(), [], []
for _ in range(60):
    pictures.append(np.ones(1 << 20, np.uint8))
    kept.append(np.ones(4096, np.uint8))
held = resident_mb() - before
del pictures
print(held, resident_mb() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library manages its memory in its own way")
def test_pictures_that_were_let_go_are_the_kernels_again_whatever_lies_between_them() -> None:
    told = subprocess.run([sys.executable, "-c", FREED], capture_output=True, text=True, check=True, timeout=60)
    held, left = map(float, told.stdout.split())
    assert held > 55
    assert left < 5
