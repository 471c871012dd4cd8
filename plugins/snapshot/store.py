"""A folder of pictures that never grows beyond its cap: written whole or not at all, the oldest deleted first."""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from pathlib import Path, PurePosixPath

from agent import PluginError
from plugins.snapshot.paths import is_leftover, is_picture

log = logging.getLogger(__name__)

MOUNT_RETRY = 30.0


class Ledger:
    """Which files there are, oldest first, and how many bytes they hold. Pure."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.total = 0
        self._sizes: OrderedDict[str, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sizes)

    def admit(self, name: str, size: int) -> list[str]:
        """Take a file in as the newest, in place of an older one of that name; the files to delete for it first.

        ValueError when it alone is more than the cap.
        """
        if size > self.max_bytes:
            raise ValueError(f"{size} bytes are more than the cap of {self.max_bytes}")
        self.forget(name)
        self._sizes[name] = size
        self.total += size
        dropped = []
        while self.total > self.max_bytes:
            dropped.append(self._drop_oldest())
        return dropped

    def forget(self, name: str) -> None:
        """The file is not there."""
        self.total -= self._sizes.pop(name, 0)

    def _drop_oldest(self) -> str:
        name, size = self._sizes.popitem(last=False)
        self.total -= size
        return name


class Store:
    """``folder`` is the plugin's alone as far as files named like its own go; others in it are left alone."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._ledger = Ledger(max_bytes)

    @property
    def total(self) -> int:
        """Bytes of the pictures there."""
        return self._ledger.total

    def open(self) -> None:
        """Make the folder, see that it can be written, count what is in it. PluginError, retried, when it cannot."""
        probe = self._folder / ".probe.tmp"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"")
            probe.unlink()
            self._count()
        except OSError as error:
            raise PluginError(
                f"snapshot: the folder {self._folder} cannot be written: {error.strerror or error}; mount it, make it "
                "writable for the user that edgewarden runs as, or set plugins.snapshot.folder to another",
                retry_after=MOUNT_RETRY,
            ) from error

    def write(self, path: PurePosixPath, content: bytes) -> None:
        """Put a picture there, in place of one of that name. PluginError when the disk does not take it."""
        target = self._folder / path
        temporary = target.with_name(f".{target.name}.tmp")
        try:
            for name in self._ledger.admit(str(path), len(content)):
                self._delete(name)
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(content)
            os.replace(temporary, target)
        except (OSError, ValueError) as error:
            self._undo(path, temporary)
            reason = getattr(error, "strerror", None) or error
            raise PluginError(
                f"snapshot: no picture in {self._folder}: {reason}; free space there or see to plugins.snapshot"
            ) from error

    def _count(self) -> None:
        """Take in what an earlier run left, oldest first; delete what it left unfinished."""
        found: list[tuple[float, str, int]] = []
        for path in self._folder.glob("*/*/*.jpg*"):
            name = PurePosixPath(path.relative_to(self._folder).as_posix())
            if is_leftover(name):
                path.unlink(missing_ok=True)
            elif is_picture(name):
                status = path.stat()
                found.append((status.st_mtime, str(name), status.st_size))
        self._ledger = Ledger(self._ledger.max_bytes)
        for _, name_of, size in sorted(found):
            self._admit_found(name_of, size)

    def _admit_found(self, name: str, size: int) -> None:
        try:
            victims = self._ledger.admit(name, size)
        except ValueError:
            victims = [name]
        for victim in victims:
            self._delete(victim)

    def _delete(self, name: str) -> None:
        """Delete a picture, and its day's and camera's folder with the last one in it."""
        path = self._folder / name
        path.unlink(missing_ok=True)
        for folder in (path.parent, path.parent.parent):
            try:
                folder.rmdir()
            except OSError:
                return  # not empty, or gone with all that was in it

    def _undo(self, path: PurePosixPath, temporary: Path) -> None:
        """What is there after a failure: the older picture, if there was one, and nothing half written."""
        try:
            temporary.unlink(missing_ok=True)
        except OSError as error:
            log.warning("snapshot: %s cannot be deleted: %s", temporary, error)
        self._ledger.forget(str(path))
        target = self._folder / path
        if target.exists():
            self._ledger.admit(str(path), target.stat().st_size)
