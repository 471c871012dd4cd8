"""USB and other local cameras: a V4L2 device by its number or by its stable path under /dev/v4l."""

from __future__ import annotations

import errno
import os

from agent.errors import MissingSourceError, SourceError
from agent.sources.opencv import OpenCvSource, silence

BUFFERS = 1
OUT = {
    errno.EACCES: "permission denied; add the user to the group `video`",
    errno.EBUSY: "another program is using it",
    errno.ENODEV: "the device is gone",
}


class V4l2Camera(OpenCvSource):
    """A live camera at ``/dev/videoN`` or ``/dev/v4l/by-id/…``."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def open(self) -> None:
        """Connect. Raises MissingSourceError when there is no such device, SourceError when it gives no video."""
        silence()
        import cv2

        self._check_device()
        if not cv2.videoio_registry.hasBackend(cv2.CAP_V4L2):
            raise SourceError(f"{self.path}: this OpenCV was built without V4L2; install opencv-python-headless")
        if not self.connect(self.path, cv2.CAP_V4L2):
            self.close()
            raise SourceError(f"{self.path}: not a camera, or another program is using it")
        assert self._device is not None
        # A small queue in the driver: a frame that waits there is an old frame.
        self._device.set(cv2.CAP_PROP_BUFFERSIZE, BUFFERS)

    def _check_device(self) -> None:
        """OpenCV does not say why it cannot open a device; the operating system does."""
        try:
            os.close(os.open(self.path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
        except FileNotFoundError:
            raise MissingSourceError(f"{self.path}: no such device; `ls /dev/v4l/by-id` lists the cameras") from None
        except OSError as error:
            reason = OUT.get(error.errno or 0, error.strerror)
            raise SourceError(f"{self.path}: {reason}") from None

    def grab(self) -> bool:
        """Wait for the next picture. Raises SourceError when the device gives none."""
        if not super().grab():
            raise SourceError(f"{self.path}: the camera stopped giving pictures")
        return True
