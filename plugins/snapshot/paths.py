"""What a picture's file is called: parts built from an event, each harmless; how to know such a file again. Pure."""

from __future__ import annotations

import re
import zlib
from datetime import datetime
from pathlib import PurePosixPath

from agent import Event

MAX_CHARACTERS = 48
PICTURE = re.compile(r"\d{6}-.+-[0-9a-zA-Z]{8}(-crop)?\.jpg")
LEFTOVER = re.compile(r"\." + PICTURE.pattern + r"\.tmp")
DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


def safe(name: str) -> str:
    """A name as one part of a path: letters, digits and ``-_.``, no leading dot, at most 57 characters.

    What had to be changed carries a checksum of what it was, so that two names do not share a folder.
    """
    kept = "".join(c if c.isalnum() or c in "-_." else "_" for c in name).lstrip(".")[:MAX_CHARACTERS]
    if kept == name and kept:
        return kept
    return f"{kept}~{zlib.crc32(name.encode('utf-8', 'surrogatepass')):08x}"


def picture_paths(event: Event) -> tuple[PurePosixPath, PurePosixPath]:
    """Where the annotated picture and the crop of an event go, relative to the folder; by local time of its start."""
    start = datetime.fromtimestamp(event.started_at).astimezone()
    folder = PurePosixPath(safe(event.camera)) / start.strftime("%Y-%m-%d")
    stem = f"{start:%H%M%S}-{safe(event.label)}-{short(event.id)}"
    return folder / f"{stem}.jpg", folder / f"{stem}-crop.jpg"


def short(event_id: str) -> str:
    """Eight characters of the event's id: the last, since a UUIDv7 begins with the time."""
    letters = "".join(c for c in event_id if c.isascii() and c.isalnum())
    return letters[-8:].rjust(8, "0")


def is_picture(path: PurePosixPath) -> bool:
    """Whether a path relative to the folder is one that this plugin made; no other is ever counted or deleted."""
    return len(path.parts) == 3 and bool(DAY.fullmatch(path.parts[1]) and PICTURE.fullmatch(path.name))


def is_leftover(path: PurePosixPath) -> bool:
    """Whether it is a picture that was being written when the daemon died."""
    return len(path.parts) == 3 and bool(DAY.fullmatch(path.parts[1]) and LEFTOVER.fullmatch(path.name))
