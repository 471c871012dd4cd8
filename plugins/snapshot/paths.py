"""What an event's files are called: parts built from it, each harmless; how to know such a file again. Pure."""

from __future__ import annotations

import re
import zlib
from datetime import datetime
from pathlib import PurePosixPath

from agent import Event

MAX_CHARACTERS = 48
STEM = r"\d{6}-(?P<label>.+)-[0-9a-zA-Z]{8}"
SUFFIXES = ("-crop.jpg", ".jpg", ".json", ".mp4", ".webm", ".avi")
PICTURE, CROP, SIDECAR = ".jpg", "-crop.jpg", ".json"
OURS = re.compile(f"({STEM})(-crop\\.jpg|\\.(?:jpg|json|mp4|webm|avi))")
LEFTOVER = re.compile(rf"\.{STEM}(-crop)?(\.\w+)?\.tmp(\.\w+)?")
DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


def safe(name: str) -> str:
    """A name as one part of a path: letters, digits and ``-_.``, no leading dot, at most 57 characters.

    What had to be changed carries a checksum of what it was, so that two names do not share a folder.
    """
    kept = "".join(c if c.isalnum() or c in "-_." else "_" for c in name).lstrip(".")[:MAX_CHARACTERS]
    if kept == name and kept:
        return kept
    return f"{kept}~{zlib.crc32(name.encode('utf-8', 'surrogatepass')):08x}"


def stem_of(event: Event) -> str:
    """Where an event's files go, relative to the folder and without a suffix; by local time of its start."""
    start = datetime.fromtimestamp(event.started_at).astimezone()
    name = f"{start:%H%M%S}-{safe(event.label)}-{short(event.id)}"
    return str(PurePosixPath(safe(event.camera)) / start.strftime("%Y-%m-%d") / name)


def short(event_id: str) -> str:
    """Eight characters of the event's id: the last, since a UUIDv7 begins with the time."""
    letters = "".join(c for c in event_id if c.isascii() and c.isalnum())
    return letters[-8:].rjust(8, "0")


def parts_of(path: PurePosixPath) -> tuple[str, str] | None:
    """The stem and the suffix of a file that this plugin made, its path relative to the folder; None for any other,
    which is never counted or deleted."""
    match = OURS.fullmatch(path.name)
    if len(path.parts) != 3 or not match or not DAY.fullmatch(path.parts[1]):
        return None
    return str(path.parent / match.group(1)), match.group(3)


def camera_and_label(stem: str) -> tuple[str, str]:
    """As they stand in a stem: as ``safe`` made them."""
    path = PurePosixPath(stem)
    match = re.fullmatch(STEM, path.name)
    return path.parts[0], match.group("label") if match else ""


def is_leftover(path: PurePosixPath) -> bool:
    """Whether it is a file that was being written when the daemon died."""
    return len(path.parts) == 3 and bool(DAY.fullmatch(path.parts[1]) and LEFTOVER.fullmatch(path.name))
