"""Small files of the system, below a root, read so that nothing which lies there can stop or crash the reader."""

from __future__ import annotations

import os
import stat
from pathlib import Path

LONGEST = 1 << 20


def text(path: Path) -> str:
    """What stands in the file, without zero bytes and white space around it; empty for what is none or not ours."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return ""  # a pipe would be waited for
        with path.open("rb") as file:
            return file.read(LONGEST).decode("utf-8", "replace").replace("\0", "").strip()
    except (OSError, ValueError):
        return ""


def number(path: Path) -> int | None:
    """The whole number that stands in the file."""
    try:
        return int(text(path))
    except ValueError:
        return None


def found(root: Path, *patterns: str) -> list[Path]:
    """What is there below the root, by shell patterns, in the order of names."""
    try:
        return sorted({path for pattern in patterns for path in root.glob(pattern)})
    except OSError:
        return []


def is_there(path: Path) -> bool:
    """Whether it exists, as far as one may look."""
    return os.path.exists(path)
