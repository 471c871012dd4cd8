"""A folder of events' files: written whole or not at all, the oldest events deleted first, a reserve left free."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from agent import PluginError
from plugins.snapshot.config import SnapshotConfig
from plugins.snapshot.paths import is_leftover, parts_of
from plugins.snapshot.shelf import Shelf

log = logging.getLogger(__name__)

MOUNT_RETRY = 30.0
RESERVE_SHARE = 1 / 20
LARGEST_RESERVE = 256 << 20


class NoRoomError(PluginError):
    """The disk, or a limit, does not take this file now. Nothing is lost but the file."""


class Store:
    """``folder`` is the plugin's alone as far as files named like its own go; others in it are left alone. Safe from
    any thread. What is held is never deleted: an open event refers to it. ``wall``: UNIX seconds."""

    def __init__(self, folder: Path, config: SnapshotConfig, wall: Callable[[], float] = time.time) -> None:
        self.folder = folder
        self._config = config
        self._wall = wall
        self._lock = threading.RLock()
        self._shelf = Shelf(config.keeps())
        self._held: dict[str, int] = {}

    @property
    def total(self) -> int:
        """Bytes of the files there."""
        return self._shelf.total

    def __len__(self) -> int:
        return len(self._shelf)

    def open(self) -> None:
        """Make the folder, see that it can be written, count what is in it. PluginError, retried, when it cannot."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.probe(0)
            self._count()
        except OSError as error:
            raise PluginError(
                f"snapshot: the folder {self.folder} cannot be written: {error.strerror or error}; mount it, make it "
                "writable for the user that edgewarden runs as, or set plugins.snapshot.folder to another",
                retry_after=MOUNT_RETRY,
            ) from error

    def hold(self, stem: str) -> None:
        """Delete none of its files, until as many ``release``."""
        with self._lock:
            self._held[stem] = self._held.get(stem, 0) + 1

    def release(self, stem: str) -> None:
        """It may go when its turn comes."""
        with self._lock:
            self._held[stem] = self._held.get(stem, 0) - 1
            if self._held[stem] <= 0:
                del self._held[stem]

    def files(self, stem: str) -> list[str]:
        """The suffixes of an event's files."""
        with self._lock:
            return sorted(self._shelf.files(stem))

    def write(self, stem: str, suffix: str, content: bytes) -> None:
        """Put a file there, in place of one of that name. NoRoomError when the disk or a limit does not take it."""
        temporary = self._temporary(stem, suffix)
        with self._lock:
            self._make_room(stem, suffix, len(content))
            while True:
                try:
                    temporary.parent.mkdir(parents=True, exist_ok=True)
                    _write(temporary, content)
                    self._adopt(stem, suffix, temporary)
                    return
                except OSError as error:
                    _discard(temporary)
                    if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not self._drop_oldest():
                        raise self._refused(error) from error

    def take(self, stem: str, suffix: str, temporary: Path) -> None:
        """The same with a file that was written already, to the path that ``scratch`` gave."""
        with self._lock:
            try:
                self._make_room(stem, suffix, temporary.stat().st_size, written=True)
                with temporary.open("rb+") as file:
                    os.fsync(file.fileno())
                self._adopt(stem, suffix, temporary)
            except (OSError, NoRoomError) as error:
                _discard(temporary)
                raise error if isinstance(error, NoRoomError) else self._refused(error) from error

    def scratch(self, stem: str, suffix: str, size: int) -> Path:
        """A path to write a file of about that size to, with its suffix, known as unfinished if the daemon dies.
        NoRoomError when there is no room."""
        path = self._temporary(stem, "")
        with self._lock:
            self._make_room(stem, suffix, size)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise self._refused(error) from error
        return path.with_name(path.name + suffix)

    def remove(self, stem: str, suffix: str) -> None:
        """Delete one file, if it is there."""
        with self._lock:
            if suffix in self._shelf.files(stem):
                self._unlink(self._path(stem, suffix))
                self._shelf.forget(stem, suffix)

    def tend(self) -> None:
        """What is older than it may become goes, and the oldest while less than the reserve is free."""
        with self._lock:
            for stem in self._shelf.outlived(self._wall(), self._held):
                self._delete(stem)
            while self._missing(0) > 0 and self._drop_oldest():
                continue

    def probe(self, size: int) -> None:
        """Whether so many bytes can be written: OSError when not."""
        path = self.folder / ".probe.tmp"
        try:
            _write(path, b"\0" * size)
        finally:
            path.unlink(missing_ok=True)

    def has_room(self, size: int) -> bool:
        """Whether a file of that size would be taken by the disk, which is tried."""
        try:
            self.probe(size)
            return self._missing(size) <= 0
        except OSError:
            return False

    def _make_room(self, stem: str, suffix: str, size: int, written: bool = False) -> None:
        if not self._shelf.fits(stem, size):
            raise NoRoomError(f"snapshot: a file of {size} bytes is larger than plugins.snapshot allows")
        victims = self._shelf.crowded_out(stem, suffix, size, self._held)
        if victims is None:
            raise NoRoomError("snapshot: everything that is kept belongs to events that last; raise the limits")
        for victim in victims:
            self._delete(victim)
        coming = 0 if written else size
        try:
            while (missing := self._missing(coming)) > 0 and self._drop_oldest():
                continue
        except OSError as error:
            raise self._refused(error) from error
        if missing > 0:
            raise NoRoomError(
                f"snapshot: no picture in {self.folder}: {missing} bytes too few are free on its disk, where "
                f"min_free = {self._reserve()} stay free; free space there"
            )

    def _missing(self, coming: int) -> int:
        """Bytes that the disk lacks to take ``coming`` and keep its reserve."""
        if self._config.min_free == 0:
            return 0
        return coming + self._reserve() - shutil.disk_usage(self.folder).free

    def _reserve(self) -> int:
        if self._config.min_free is not None:
            return self._config.min_free
        return min(LARGEST_RESERVE, int(shutil.disk_usage(self.folder).total * RESERVE_SHARE))

    def _drop_oldest(self) -> bool:
        stem = self._shelf.oldest(self._held)
        if stem is None:
            return False
        self._delete(stem)
        return True

    def _adopt(self, stem: str, suffix: str, temporary: Path) -> None:
        size = temporary.stat().st_size
        os.replace(temporary, self._path(stem, suffix))
        self._shelf.put(stem, suffix, size, self._wall())

    def _refused(self, error: OSError) -> NoRoomError:
        return NoRoomError(
            f"snapshot: no picture in {self.folder}: {error.strerror or error}; free space there or see to "
            "plugins.snapshot"
        )

    def _path(self, stem: str, suffix: str) -> Path:
        path = self.folder / stem
        return path.with_name(path.name + suffix)

    def _temporary(self, stem: str, suffix: str) -> Path:
        path = self._path(stem, suffix)
        return path.with_name(f".{path.name}.tmp")

    def _count(self) -> None:
        """Take in what an earlier run left, oldest first; delete what it left unfinished, and what is too much."""
        found: list[tuple[float, str, str, int]] = []
        for path in self.folder.glob("*/*/*"):
            name = PurePosixPath(path.relative_to(self.folder).as_posix())
            if is_leftover(name):
                path.unlink(missing_ok=True)
            elif parts := parts_of(name):
                status = path.stat()
                found.append((status.st_mtime, *parts, status.st_size))
        with self._lock:
            self._shelf = Shelf(self._config.keeps())
            for at, stem, suffix, size in sorted(found):
                self._admit_found(stem, suffix, size, at)
            self.tend()

    def _admit_found(self, stem: str, suffix: str, size: int, at: float) -> None:
        victims = self._shelf.crowded_out(stem, suffix, size, ()) if self._shelf.fits(stem, size) else None
        if victims is None:
            self._unlink(self._path(stem, suffix))
            return
        for victim in victims:
            self._delete(victim)
        self._shelf.put(stem, suffix, size, at)

    def _delete(self, stem: str) -> None:
        """Delete an event's files, and its day's and camera's folder with the last one in it."""
        for suffix in self._shelf.files(stem):
            self._unlink(self._path(stem, suffix))
        self._shelf.drop(stem)
        _remove_empty((self.folder / stem).parent, (self.folder / stem).parent.parent)

    def _unlink(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("snapshot: %s cannot be deleted: %s", path, error)


def _remove_empty(*folders: Path) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return  # not empty, or gone with all that was in it


def _write(path: Path, content: bytes) -> None:
    """Down to the disk, so that a power cut leaves no empty file under the final name."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _discard(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("snapshot: %s cannot be deleted: %s", path, error)
