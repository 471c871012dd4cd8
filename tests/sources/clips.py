"""Small video files made by the tests themselves, so that they run without the material."""

from __future__ import annotations

from pathlib import Path

import cv2
from mjpeg_server import numbered_picture


def write_clip(
    path: Path, pictures: int, fps: float = 25.0, codec: str = "MJPG", size: tuple[int, int] = (160, 120)
) -> Path:
    """A clip of numbered pictures (``number_of`` reads the number back), MJPEG in AVI or MPEG-4 in MP4."""
    backend = cv2.CAP_OPENCV_MJPEG if codec == "MJPG" else cv2.CAP_FFMPEG
    writer = cv2.VideoWriter(str(path), backend, cv2.VideoWriter.fourcc(*codec), fps, size)
    assert writer.isOpened(), f"{path}: this OpenCV cannot write {codec}"
    for number in range(pictures):
        writer.write(numbered_picture(number, size))
    writer.release()
    return path


def cut(path: Path, share: float) -> Path:
    """Another file with the first ``share`` of the bytes."""
    data = path.read_bytes()
    shorter = path.with_name(f"cut-{path.name}")
    shorter.write_bytes(data[: int(len(data) * share)])
    return shorter
