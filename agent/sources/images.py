"""One image, or a folder of images in natural order. A broken one in a folder is counted, told and passed over."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, cast

from agent.errors import MissingSourceError, SourceError
from agent.sources.base import Picture
from agent.sources.opencv import silence

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pnm"})
JPEG_START, JPEG_SCAN, JPEG_END = b"\xff\xd8", 0xDA, b"\xff\xd9"
PNG_START, PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND"


def is_image(path: Path) -> bool:
    """Whether the name is an image's; hidden files (``._a.jpg`` of macOS) are not."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def natural_order(name: str) -> list[tuple[int, int, str]]:
    """A sort key by which ``frame2`` comes before ``frame10``."""
    parts = re.findall(r"\d+|\D+", name.lower())
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts]


def read_image(path: Path) -> NDArray[np.uint8]:
    """Decode an image file to BGR uint8 ``[H, W, 3]``, turned as its EXIF orientation says.

    Raises SourceError naming the file when it is missing, empty, truncated or no image.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise MissingSourceError(f"{path}: no such file") from None
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}") from None
    if not data:
        raise SourceError(f"{path}: is an empty file")
    if is_truncated(data):
        raise SourceError(f"{path}: truncated image")
    pixels = _decode(data)
    if pixels is None:
        raise SourceError(f"{path}: not an image that OpenCV can decode")
    return pixels


def _decode(data: bytes) -> NDArray[np.uint8] | None:
    silence()
    import cv2
    import numpy as np

    try:
        return cast("NDArray[np.uint8] | None", cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))
    except cv2.error:  # a picture larger than OpenCV takes; the caller names the file
        return None


def is_truncated(data: bytes) -> bool:
    """Whether a JPEG or PNG lacks its end; OpenCV would show the missing part of a JPEG as grey."""
    if data.startswith(JPEG_START):
        scan = _jpeg_scan(data)
        return scan is None or data.find(JPEG_END, scan) < 0
    return data.startswith(PNG_START) and PNG_END not in data


def _jpeg_scan(data: bytes) -> int | None:
    """Where the picture's first scan begins, past every segment (one may hold a thumbnail with an end of its own)."""
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            at += 1  # rubbish between segments, which decoders pass over too
        elif data[at + 1] == JPEG_SCAN:
            return at
        elif data[at + 1] in (0x00, 0x01, 0xFF) or 0xD0 <= data[at + 1] <= 0xD8:
            at += 1 if data[at + 1] == 0xFF else 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


class ImageFile:
    """One image: a recording of one picture. ``open`` raises SourceError when it cannot be decoded."""

    live = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self._picture: Picture | None = None

    def open(self) -> None:
        """Decode the file."""
        self._picture = Picture(read_image(self.path), 0.0, self.path.name)

    def read(self) -> Picture | None:
        """The picture, once."""
        picture, self._picture = self._picture, None
        return picture

    def close(self) -> None:
        """Forget the picture."""
        self._picture = None


class ImageFolder:
    """The images of a folder (not of those below it), by name, ``fps`` a second.

    ``Picture.name`` is the file's name. ``skipped`` holds one line for each image that could not be decoded. ``open``
    raises MissingSourceError and, for a folder without images, SourceError; so does ``read`` at the end when not one
    of them could be decoded.
    """

    live = False

    def __init__(self, path: Path, fps: float | None = None) -> None:
        self.path = path
        self.skipped: list[str] = []
        self._step = 1.0 / (fps or 1.0)
        self._files: list[Path] = []
        self._next = 0

    def __len__(self) -> int:
        """Images in the folder when it was opened."""
        return len(self._files)

    def open(self) -> None:
        """List the folder."""
        try:
            images = [path for path in self.path.iterdir() if is_image(path) and path.is_file()]
        except FileNotFoundError:
            raise MissingSourceError(f"{self.path}: no such folder") from None
        except OSError as error:
            raise SourceError(f"{self.path}: cannot be read: {error.strerror}") from None
        if not images:
            raise SourceError(f"{self.path}: no images in this folder (looked for {', '.join(sorted(IMAGE_SUFFIXES))})")
        self._files = sorted(images, key=lambda path: natural_order(path.name))
        self._next = 0
        self.skipped.clear()

    def read(self) -> Picture | None:
        """The next image that can be decoded."""
        while self._next < len(self._files):
            path = self._files[self._next]
            delivered = self._next - len(self.skipped)
            self._next += 1
            try:
                return Picture(read_image(path), delivered * self._step, path.name)
            except SourceError as error:
                log.warning("%s; skipped", error)
                self.skipped.append(str(error))
        if self._files and len(self.skipped) == len(self._files):
            raise SourceError(f"{self.path}: not one of its {len(self._files)} images can be decoded")
        return None

    def close(self) -> None:
        """Nothing is held open between two pictures."""
