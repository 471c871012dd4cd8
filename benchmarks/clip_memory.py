"""What a clip costs: memory a picture, as JPEG and raw, and processor time to encode and to write it.

python benchmarks/clip_memory.py VIDEO...
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from plugins.snapshot.clips import CODECS, encode, encode_clip

PICTURES = 80
FPS = 8


def pictures_of(path: str) -> list[np.ndarray[Any, Any]]:
    """The first pictures of a video."""
    video = cv2.VideoCapture(path)
    pictures: list[np.ndarray[Any, Any]] = []
    while len(pictures) < PICTURES and (frame := video.read())[0]:
        pictures.append(frame[1])
    return pictures


def measure(path: str) -> None:
    """One table."""
    pictures = pictures_of(path)
    if not pictures:
        sys.exit(f"{path}: no video that can be read")
    print(f"{Path(path).name}: {pictures[0].shape[1]}x{pictures[0].shape[0]}")
    for width in (640, 960):
        began = time.process_time()
        jpegs = [encode(pixels, width) for pixels in pictures]
        cpu = (time.process_time() - began) / len(pictures) * 1e3
        small = cv2.imdecode(np.frombuffer(jpegs[0], np.uint8), cv2.IMREAD_COLOR)
        assert small is not None
        size = sum(map(len, jpegs)) / len(jpegs)
        ratio, seconds = small.nbytes / size, size * 10 * FPS / 1e6
        print(f"  {small.shape[1]} wide: {size / 1e3:.0f} kB a picture, raw {small.nbytes / 1e3:.0f} kB ({ratio:.0f}x)")
        print(f"    10 s at {FPS} a second: {seconds:.1f} MB; {cpu:.1f} ms of a processor a picture")
        with tempfile.TemporaryDirectory() as folder:
            for name, codec in CODECS.items():
                file = Path(folder) / f"clip.{name}"
                began = time.process_time()
                encode_clip(file, jpegs, FPS, codec)
                cpu = (time.process_time() - began) / len(jpegs) * 1e3
                print(f"    {name}: {file.stat().st_size / 1e6:.2f} MB, {cpu:.1f} ms a picture")


if __name__ == "__main__":
    for video in sys.argv[1:] or [sys.exit(__doc__)]:
        measure(video)
