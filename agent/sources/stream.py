"""Network cameras: RTSP (over TCP) and HTTP through OpenCV's FFmpeg, with timeouts, and without secrets in messages."""

from __future__ import annotations

import os
import time

from agent.errors import SourceError
from agent.sources.address import redact, with_credentials
from agent.sources.opencv import OpenCvSource, ffmpeg_or_any, silence
from agent.sources.probe import diagnose

LEAST_TIMEOUT = 1.0
BACKLOG_AT_MOST = 100
AT_ONCE = 0.003


class StreamCamera(OpenCvSource):
    """A live stream. ``username`` and ``password`` go into the URL percent-encoded; messages show neither.

    ``timeout``: seconds after which opening, and waiting for a picture, fail.
    """

    def __init__(
        self, url: str, *, username: str | None = None, password: str | None = None, timeout: float = 5.0
    ) -> None:
        super().__init__()
        self.shown = redact(url)
        self._url = with_credentials(url, username, password)
        self._milliseconds = int(max(LEAST_TIMEOUT, timeout) * 1000)
        self._backlog = False

    def open(self) -> None:
        """Connect. Raises SourceError that says why, as far as the server tells."""
        silence()
        # FFmpeg's options come to OpenCV by the environment alone; those of RTSP mean nothing to other inputs.
        os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;tcp")
        if not self.connect(self._url, ffmpeg_or_any(), self._timeouts()):
            self.close()
            reason = diagnose(self._url, credentials="@" in self._url)
            raise SourceError(f"{self.shown}: cannot be opened: {reason}")
        self._backlog = True

    def _timeouts(self) -> list[int]:
        import cv2

        names = (cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, cv2.CAP_PROP_READ_TIMEOUT_MSEC)
        # Only FFmpeg (and GStreamer from 4.9) knows them, and an unknown parameter fails the open.
        return (
            [value for name in names for value in (name, self._milliseconds)] if ffmpeg_or_any() != cv2.CAP_ANY else []
        )

    def grab(self) -> bool:
        """Wait for the next picture. Raises SourceError when the stream ends or stalls."""
        if self._backlog:
            self._backlog = False
            self._pass_over_backlog()
        else:
            self._wait()
        return True

    def _pass_over_backlog(self) -> None:
        """What FFmpeg collected while it looked into the stream is old; the first picture to wait for is not."""
        for _ in range(BACKLOG_AT_MOST):
            began = time.perf_counter()
            self._wait()
            if time.perf_counter() - began > AT_ONCE:
                return

    def _wait(self) -> None:
        if not super().grab():
            raise SourceError(f"{self.shown}: the stream ended or stalled")
