"""A camera's stable name under /dev/v4l: the number in /dev/videoN may be another one after it was unplugged."""

from __future__ import annotations

import os
from pathlib import Path

DEV = Path("/dev")
KINDS = ("by-id", "by-path")


def stable_link(device: Path, root: Path = DEV) -> Path | None:
    """The link below ``root/v4l`` that leads to the device: by its serial number, else by the socket it is in; None
    where udev made none."""
    target = _real(device)
    for kind in KINDS:
        folder = root / "v4l" / kind
        try:
            links = sorted(folder.iterdir())
        except OSError:
            continue
        for link in links:
            if link.is_symlink() and _real(link) == target:
                return link
    return None


def current_device(device: Path, link: Path | None) -> Path:
    """Where the camera is now: where its stable link leads to, if anywhere; else the device as it was named."""
    return link.resolve() if link is not None and link.exists() else device


def _real(path: Path) -> str:
    return os.path.realpath(path)
