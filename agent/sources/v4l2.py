"""USB and other local cameras: a V4L2 device by its number or by its stable path under /dev/v4l."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Mapping
from pathlib import Path

from agent.errors import MissingSourceError, SourceError
from agent.sources.device_path import DEV, current_device, stable_link
from agent.sources.opencv import OpenCvSource, silence
from agent.sources.v4l2_modes import CONTROLS, Format, Mode, fourcc_for, fourcc_text, shortfall

log = logging.getLogger(__name__)

BUFFERS = 1
OUT = {
    errno.EACCES: "permission denied; add the user to the group `video`",
    errno.EBUSY: "another program is using it",
    errno.ENODEV: "the device is gone",
}


class V4l2Camera(OpenCvSource):
    """A live camera at ``/dev/videoN`` or ``/dev/v4l/by-id/…``.

    ``size``, ``fps``, ``format``: what is asked for; what the driver gives instead is taken, and told. ``controls``:
    values by name (``v4l2_modes.CONTROLS``). A camera that returns under another number is found by its stable path
    below ``root``.
    """

    def __init__(
        self,
        path: str,
        *,
        size: tuple[int, int] | None = None,
        fps: float | None = None,
        format: Format = "auto",
        controls: Mapping[str, float] | None = None,
        root: Path = DEV,
    ) -> None:
        super().__init__()
        self.path = path
        self.mode: Mode | None = None
        self._size, self._fps, self._format = size, fps, format
        self._controls = dict(controls or {})
        self._root = root
        self._link: Path | None = None

    def open(self) -> None:
        """Connect. Raises MissingSourceError when there is no such device, SourceError when it gives no video."""
        silence()
        import cv2

        device = self._find()
        if not cv2.videoio_registry.hasBackend(cv2.CAP_V4L2):
            raise SourceError(f"{self.path}: this OpenCV was built without V4L2; install opencv-python-headless")
        if not self.connect(str(device), cv2.CAP_V4L2):
            self.close()
            raise SourceError(f"{self.path}: not a camera, or another program is using it")
        self._negotiate()
        self._set_controls()

    def grab(self) -> bool:
        """Wait for the next picture. Raises SourceError when the device gives none."""
        if not super().grab():
            raise SourceError(f"{self.path}: the camera stopped giving pictures")
        return True

    def _find(self) -> Path:
        """The device as it is called now. OpenCV does not say why it cannot open one; the operating system does."""
        named = Path(self.path)
        device = current_device(named, self._link)
        try:
            os.close(os.open(device, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
        except FileNotFoundError:
            raise MissingSourceError(f"{self.path}: no such device; `ls /dev/v4l/by-id` lists the cameras") from None
        except OSError as error:
            reason = OUT.get(error.errno or 0, error.strerror)
            raise SourceError(f"{self.path}: {reason}") from None
        if device != named and self._link is not None:
            log.info("%s: is %s now (found by %s)", self.path, device, self._link)
        self._link = self._link or stable_link(device, self._root)
        return device

    def _negotiate(self) -> None:
        """Ask for the mode and read back what the driver made of it."""
        import cv2

        assert self._device is not None
        # A small queue in the driver: a frame that waits there is an old frame.
        self._device.set(cv2.CAP_PROP_BUFFERSIZE, BUFFERS)
        size = self._size or self._mode_now()[1:3]
        if fourcc := fourcc_for(self._format, size):
            # The format before the size: at a size that it has in another format alone, a driver falls back.
            self._device.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*fourcc))
        if self._size is not None:
            self._device.set(cv2.CAP_PROP_FRAME_WIDTH, self._size[0])
            self._device.set(cv2.CAP_PROP_FRAME_HEIGHT, self._size[1])
        if self._fps is not None:
            self._device.set(cv2.CAP_PROP_FPS, self._fps)
        self.mode = self._mode_now()
        missing = shortfall(self._size, self._fps, self._format, self.mode)
        log.log(
            logging.WARNING if missing else logging.INFO,
            "%s: gives %s%s",
            self.path,
            self.mode,
            f"; it does not do {missing}" if missing else "",
        )

    def _mode_now(self) -> Mode:
        import cv2

        width, height = self.property(cv2.CAP_PROP_FRAME_WIDTH), self.property(cv2.CAP_PROP_FRAME_HEIGHT)
        return Mode(
            fourcc_text(self.property(cv2.CAP_PROP_FOURCC)), int(width), int(height), self.property(cv2.CAP_PROP_FPS)
        )

    def _set_controls(self) -> None:
        import cv2

        assert self._device is not None
        for name, constant in CONTROLS.items():
            if name in self._controls and not self._device.set(getattr(cv2, constant), self._controls[name]):
                log.warning("%s: has no control %s, or not the value %g", self.path, name, self._controls[name])
