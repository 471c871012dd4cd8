"""Reading small files below a root: the machine's own ``/``, or a recorded tree of another's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


class Sysfs:
    """``root``: where ``sys`` and ``proc`` are. What is not there, or cannot be read now, is None."""

    def __init__(self, root: Path | str = "/") -> None:
        self.root = Path(root)

    def glob(self, pattern: str) -> list[Path]:
        """Paths that match, those with numbers in the order of the numbers."""
        return sorted(self.root.glob(pattern), key=lambda path: (len(path.name), path.name))

    def text(self, path: Path) -> str | None:
        """A file's content without the line break."""
        try:
            return path.read_bytes().decode("utf-8", "replace").strip()
        except OSError:
            # An unpowered unit answers ENODATA, EAGAIN or EIO, a driver that was unloaded ENOENT: all mean nothing now.
            return None

    def number(self, path: Path) -> float | None:
        """A file's content as a number."""
        try:
            return float(path.read_bytes())
        except (OSError, ValueError):
            return None

    def numbered(self, folder: Path, prefix: str, suffix: str) -> Iterator[tuple[str, Path]]:
        """Files like ``in2_label`` with the number between prefix and suffix, in order."""
        for path in sorted(folder.glob(f"{prefix}*{suffix}"), key=lambda path: (len(path.name), path.name)):
            number = path.name[len(prefix) : len(path.name) - len(suffix)]
            if number.isdigit():
                yield number, path
