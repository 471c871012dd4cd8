"""Pictures through cv2.VideoCapture, and OpenCV kept quiet so that a bad source is one clear line of our own.

What is opened, with which settings, and what a failure means is said by video.py, v4l2.py and stream.py.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from agent.sources.base import Picture

if TYPE_CHECKING:
    import cv2
    import numpy as np
    from numpy.typing import NDArray

    from agent.sources.pool import PixelPool

DECODERS = {0: "in software", 2: "by VAAPI", 3: "by Media SDK"}
QUIET = {"OPENCV_LOG_LEVEL": "SILENT", "OPENCV_FFMPEG_LOGLEVEL": "-8"}


@functools.cache
def silence() -> None:
    """Stop the messages of OpenCV and FFmpeg on stderr, unless the user's environment sets their level."""
    own_level = "OPENCV_LOG_LEVEL" not in os.environ
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    import cv2

    # The variable is read when OpenCV is loaded, which may have happened before.
    if own_level:
        _log_level_setter(cv2)(0)


def _log_level_setter(cv2: Any) -> Callable[[int], Any]:
    """It stands in ``cv2.utils.logging``, in OpenCV 4.8 in ``cv2`` itself; 0 is silent."""
    logging = getattr(getattr(cv2, "utils", None), "logging", None)
    return cast("Callable[[int], Any]", getattr(logging or cv2, "setLogLevel", lambda _level: None))


def as_bgr(pixels: Any) -> NDArray[np.uint8]:
    """``[H, W]``, ``[H, W, 1]`` or ``[H, W, 4]`` as BGR ``[H, W, 3]``; BGR as it is."""
    import cv2

    if pixels.ndim == 2 or pixels.shape[2] == 1:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR)
    elif pixels.shape[2] == 4:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGRA2BGR)
    return cast("NDArray[np.uint8]", pixels)


def ffmpeg_or_any() -> int:
    """FFmpeg where this OpenCV was built with it, else whatever opens the address."""
    import cv2

    return cv2.CAP_FFMPEG if cv2.videoio_registry.hasBackend(cv2.CAP_FFMPEG) else cv2.CAP_ANY


def hardware() -> list[int]:
    """The parameters with which FFmpeg uses a video decoder of the board, where it finds one."""
    import cv2

    return [cv2.CAP_PROP_HW_ACCELERATION, cv2.VIDEO_ACCELERATION_ANY]


def decode_threads(count: int) -> list[int]:
    """The parameters with which FFmpeg decodes on so many threads; none where this OpenCV cannot say so."""
    import cv2

    number = getattr(cv2, "CAP_PROP_N_THREADS", None)
    return [] if number is None else [number, count]


class OpenCvSource:
    """The part of a source that waits for pictures and fetches them; a subclass opens the device."""

    live = True

    def __init__(self) -> None:
        self._device: cv2.VideoCapture | None = None
        self._pool: PixelPool | None = None
        self._shape: tuple[int, ...] = ()

    def connect(self, target: str, backend: int, parameters: Sequence[int] = ()) -> bool:
        """Open ``target``; False when OpenCV cannot. ``parameters``: pairs of property and value."""
        silence()
        import cv2

        self.close()
        self._device = cv2.VideoCapture()
        return self._device.open(target, backend, list(parameters))

    def property(self, number: int) -> float:
        """A ``cv2.CAP_PROP_…`` of the open device, 0 where it has none."""
        return self._device.get(number) if self._device is not None else 0.0

    def decoder(self) -> str:
        """What decodes, in words, of a device that was opened with ``hardware()``."""
        import cv2

        used = int(self.property(cv2.CAP_PROP_HW_ACCELERATION))
        return DECODERS.get(used, f"by hardware ({used})")

    def grab(self) -> bool:
        """Wait for the next picture; False when there is none."""
        return self._device is not None and self._device.grab()

    def retrieve(self) -> Picture | None:
        """The picture that was grabbed, in an array that nothing is written to again while anybody has it.

        None when it cannot be decoded.
        """
        if self._device is None:
            return None
        # The first picture, and one of another size, comes in memory of OpenCV's; its like then in ours.
        ok, pixels = self._device.retrieve(self._destination())
        if not ok or pixels is None or not pixels.size:
            return None
        self._shape = pixels.shape
        return Picture(as_bgr(pixels))

    def _destination(self) -> NDArray[np.uint8] | None:
        if not self._shape:
            return None
        if self._pool is None:
            from agent.sources.pool import PixelPool

            self._pool = PixelPool()
        return self._pool.take(self._shape)

    def read(self) -> Picture | None:
        """The next picture that can be decoded; None at the end."""
        while self.grab():
            picture = self.retrieve()
            if picture is not None:
                return picture
        return None

    def close(self) -> None:
        """Let go of the device. Safe to call twice."""
        if self._device is not None:
            self._device.release()
            self._device = None
