"""Network cameras: RTSP (over TCP) and HTTP through OpenCV's FFmpeg, with timeouts, and without secrets in messages."""

from __future__ import annotations

import logging
import os
import time

from agent.errors import SourceError
from agent.sources.address import redact, with_credentials
from agent.sources.opencv import OpenCvSource, decode_threads, ffmpeg_or_any, hardware, silence
from agent.sources.probe import diagnose

log = logging.getLogger(__name__)

LEAST_TIMEOUT = 1.0
LOW_LATENCY = "rtsp_transport;tcp|max_delay;500000|analyzeduration;1000000"
"""TCP, since a lost packet of UDP is a torn picture; half a second at most to sort packets; the stream is looked
into for a second, not for five. Microseconds. OpenCV takes these from the environment alone, where files see them too:
``nobuffer`` and ``low_delay`` would lose pictures there, and gain nothing measurable here."""
BACKLOG_AT_MOST = 100
AT_ONCE = 0.003
SURELY_WAITED = 0.2
"""Seconds: no picture that lies ready takes this long, however busy the machine is."""


class Backlog:
    """Whether a stream's pictures still come out of a buffer: pure, told how long each took to come.

    A picture that had to be waited for is a new one. But one that lay ready may take its time as well, when others
    have the processor or decoding is slow: so it takes two in a row, or one that is beyond doubt.
    """

    def __init__(self) -> None:
        self._waits = 0

    def over(self, seconds: float, step: float) -> bool:
        """Whether a picture that took ``seconds`` to come is new; ``step``: seconds since the last, by the stream."""
        self._waits = self._waits + 1 if seconds > max(AT_ONCE, step / 4) else 0
        return self._waits >= 2 or seconds > SURELY_WAITED


class StreamCamera(OpenCvSource):
    """A live stream. ``username`` and ``password`` go into the URL percent-encoded; messages show neither.

    ``timeout``: seconds after which opening, and waiting for a picture, fail. ``hardware_decode``: use the board's
    video decoder where FFmpeg finds one.
    """

    def __init__(
        self,
        url: str,
        *,
        username: str | None = None,
        password: str | None = None,
        timeout: float = 5.0,
        hardware_decode: bool = True,
    ) -> None:
        super().__init__()
        self.shown = redact(url)
        self._url = with_credentials(url, username, password)
        self._milliseconds = int(max(LEAST_TIMEOUT, timeout) * 1000)
        self._backlog = False
        self._hardware = hardware_decode

    def open(self) -> None:
        """Connect. Raises SourceError that says why, as far as the server tells."""
        silence()
        # FFmpeg's options come to OpenCV by the environment alone; those of RTSP mean nothing to other inputs.
        os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", LOW_LATENCY)
        if not self._connect():
            self.close()
            reason = diagnose(self._url, credentials="@" in self._url)
            raise SourceError(f"{self.shown}: cannot be opened: {reason}")
        self._backlog = True

    def _connect(self) -> bool:
        """With the board's video decoder where there is one, else without."""
        backend, parameters = ffmpeg_or_any(), self._parameters()
        if self._hardware and parameters and self.connect(self._url, backend, parameters + hardware()):
            log.info("%s: decoded %s", self.shown, self.decoder())
            return True
        return self.connect(self._url, backend, parameters)

    def _parameters(self) -> list[int]:
        import cv2

        # Only FFmpeg (and GStreamer from 4.9) knows them, and an unknown parameter fails the open.
        if ffmpeg_or_any() == cv2.CAP_ANY:
            return []
        names = (cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, cv2.CAP_PROP_READ_TIMEOUT_MSEC)
        timeouts = [value for name in names for value in (name, self._milliseconds)]
        # FFmpeg decodes a picture on each of its threads, so each further thread is one more picture of delay.
        return [*timeouts, *decode_threads(1)]

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
        backlog = Backlog()
        for _ in range(BACKLOG_AT_MOST):
            shown, began = self._position(), time.perf_counter()
            self._wait()
            if backlog.over(time.perf_counter() - began, self._position() - shown):
                return

    def _position(self) -> float:
        """Where in the stream the last picture stands, in seconds; an input without time stamps may make it up."""
        import cv2

        return self.property(cv2.CAP_PROP_POS_MSEC) / 1000

    def _wait(self) -> None:
        if not super().grab():
            raise SourceError(f"{self.shown}: the stream ended or stalled")
