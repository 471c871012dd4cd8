"""The picture that goes with an alert: of every open event the best one so far, small, and on disk from when an alert
needs it until it was told. Nothing of this ever holds an alert back."""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

from agent import Event, Frame, Mark, Overlay, colour_of
from plugins.alert.message import AlertMessage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

WIDTH = 640
QUALITY = 80
BUDGET = 16 << 20
"""Bytes of pictures in memory, and of those on disk."""


class Portraits:
    """``folder`` is its own. ``see`` and ``keep`` are called on one thread, ``path_of`` on any."""

    def __init__(self, folder: Path, budget: int = BUDGET) -> None:
        self._folder = folder
        self._budget = budget
        self._seen: OrderedDict[str, bytes] = OrderedDict()
        self._boxes: dict[str, object] = {}
        self._complained = False

    def see(self, event: Event, frame: Frame | None) -> None:
        """A message of an event with its best picture so far."""
        if event.kind == "end" and frame is None:
            return
        if frame is not None and self._boxes.get(event.id) != event.best_box:
            self._seen.pop(event.id, None)
            self._seen[event.id] = portrait(event, frame)
            self._boxes[event.id] = event.best_box
            while sum(map(len, self._seen.values())) > self._budget:
                self._boxes.pop(self._seen.popitem(last=False)[0], None)

    def forget(self, event_id: str) -> None:
        """The event is over."""
        self._seen.pop(event_id, None)
        self._boxes.pop(event_id, None)

    def keep(self, alert: AlertMessage) -> None:
        """An alert about that event is to be told: its picture is put where it outlives us."""
        picture = self._seen.get(alert.id)
        if picture is None:
            return
        target = self._folder / f"{alert.alert}.jpg"
        temporary = target.with_suffix(".tmp")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(picture)
            os.replace(temporary, target)
            self._clear()
            self._complained = False
        except OSError as error:
            if not self._complained:
                log.warning("alert: %s cannot be written (%s); alerts go without pictures", target, error.strerror)
            self._complained = True

    def path_of(self, alert: AlertMessage) -> Path | None:
        """Its picture's file, for a message that shows something; None when there is none."""
        path = self._folder / f"{alert.alert}.jpg"
        return path if alert.state in ("raised", "updated", "escalated") and path.is_file() else None

    def _clear(self) -> None:
        """The oldest go first."""
        files = sorted(self._folder.glob("*.jpg"), key=lambda path: path.stat().st_mtime_ns)
        sizes = [path.stat().st_size for path in files]
        total = sum(sizes)
        for path, size in zip(files[:-1], sizes, strict=False):
            if total <= self._budget:
                return
            path.unlink(missing_ok=True)
            total -= size


def portrait(event: Event, frame: Frame) -> bytes:
    """The whole picture as JPEG, at most 640 wide, the object marked."""
    import cv2

    width, height = frame.size
    scale = min(1.0, WIDTH / width)
    small: NDArray[np.uint8] = frame.pixels
    if scale < 1.0:
        size = (round(width * scale), max(1, round(height * scale)))
        small = cv2.resize(frame.pixels, size, interpolation=cv2.INTER_AREA).astype("uint8", copy=False)
    left, top, right, bottom = (side * scale for side in event.best_box)
    overlay = Overlay(small)
    mark = Mark((left, top, right, bottom), (event.label, f" {event.top_score:.2f}"), colour_of(event.label))
    overlay.mark([mark])
    ok, buffer = cv2.imencode(".jpg", overlay.canvas, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not ok:
        raise ValueError(f"a picture of shape {small.shape} cannot be encoded as JPEG")
    return bytes(buffer.tobytes())
