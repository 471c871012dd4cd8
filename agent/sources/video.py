"""Video files through OpenCV: pictures with their positions, and a plain word on a file that ends too early."""

from __future__ import annotations

import logging
from pathlib import Path

from agent.errors import MissingSourceError, SourceError
from agent.sources.base import Picture
from agent.sources.container import Layout, ended_early, examine
from agent.sources.opencv import DECODERS, OpenCvSource, decode_threads, ffmpeg_or_any, hardware, silence
from agent.sources.pacing import Positions

log = logging.getLogger(__name__)


class VideoFile(OpenCvSource):
    """A recording. ``skipped`` names the pictures that could not be decoded; ``promised`` is the container's count.

    ``threads``: of FFmpeg's decoder, by default its choice; each holds pictures of its own. ``hardware_decode``: use
    the board's video decoder where FFmpeg finds one; where that gives no picture the file is decoded in software.

    ``open`` raises MissingSourceError when there is no such file and SourceError when it is no video. After the last
    picture of a file that is cut short or damaged, ``read`` raises SourceError with both counts.
    """

    live = False

    def __init__(self, path: Path, *, threads: int | None = None, hardware_decode: bool = False) -> None:
        super().__init__()
        self.path = path
        self._threads = threads
        self._hardware = hardware_decode
        self.promised = 0
        self.fps = 0.0
        self.delivered = 0
        self.skipped: list[str] = []
        self._layout = Layout()
        self._positions = Positions(0.0)
        self._position = 0.0

    def open(self) -> None:
        """Open the file from its beginning."""
        silence()
        import cv2

        self._layout = self._examine()
        if not self._connect():
            self.close()
            raise SourceError(f"{self.path}: {self._why_not()}")
        self.fps = self.property(cv2.CAP_PROP_FPS)
        self.promised = max(0, int(self.property(cv2.CAP_PROP_FRAME_COUNT)))
        self.delivered = 0
        self.skipped.clear()
        self._positions = Positions(self.fps)

    def _connect(self) -> bool:
        """As asked for, or without what this OpenCV does not know."""
        import cv2

        # An absolute path: FFmpeg would take "cam:1.mp4" for a protocol called cam.
        address, backend = str(self.path.absolute()), ffmpeg_or_any()
        if backend == cv2.CAP_ANY:  # an unknown parameter fails the open
            return self.connect(address, backend)
        threads = decode_threads(self._threads) if self._threads else []
        if self._hardware and self.connect(address, backend, threads + hardware()):
            if self.decoder() != DECODERS[0]:
                log.info("%s: decoded %s", self.path, self.decoder())
            return True
        return self.connect(address, backend, threads) or self.connect(address, backend)

    def _grabs(self) -> bool:
        """Go to the next picture; a hardware decoder that does not even give the first is done without."""
        if super().grab():
            return True
        if self.delivered or not self._hardware or self.decoder() == DECODERS[0]:
            return False
        log.warning("%s: decoded %s gives no picture, so in software", self.path, self.decoder())
        self._hardware = False
        return self._connect() and super().grab()

    def _examine(self) -> Layout:
        try:
            with self.path.open("rb") as file:
                return examine(file)
        except FileNotFoundError:
            raise MissingSourceError(f"{self.path}: no such file") from None
        except OSError as error:
            raise SourceError(f"{self.path}: cannot be read: {error.strerror}") from None

    def _why_not(self) -> str:
        if self.path.stat().st_size == 0:
            return "is an empty file"
        if not self._layout.indexed:
            return "truncated or never finished: its index (the moov box) is missing; copy or record it again"
        return "not a video that OpenCV can read"

    @property
    def position(self) -> float:
        """Of the picture that was grabbed, in seconds."""
        return self._position

    def grab(self) -> bool:
        """Go to the next picture; False at the end. Raises SourceError when that came too early."""
        import cv2

        if not self._grabs():
            self._check_the_end()
            return False
        self.delivered += 1
        self._position = self._positions.next(self.property(cv2.CAP_PROP_POS_MSEC) / 1000)
        return True

    def retrieve(self) -> Picture | None:
        """The picture with its position in seconds."""
        picture = super().retrieve()
        if picture is None:
            self.skipped.append(f"{self.path}: picture {self.delivered - 1}")
            return None
        return picture._replace(position=self._position)

    def _check_the_end(self) -> None:
        if self._device is None:
            return
        good = self.delivered - len(self.skipped)
        if good == 0:
            raise SourceError(f"{self.path}: not one picture in it can be decoded")
        share = self._positions.end * self.fps / self.promised if self.promised else 1.0
        if ended_early(self._layout, self.promised, good, share):
            about = "" if self._layout.exact else "about "
            of = f" of {about}{self.promised}" if self.promised > good else ""
            raise SourceError(f"{self.path} ended after {good}{of} frames: truncated or damaged")
