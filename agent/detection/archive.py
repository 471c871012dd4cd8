"""A tar that a stranger made, unpacked: plain files with plain names into one folder, within bounds, nothing else.

It does not know what a model package is; whose word on the content counts is delivery.py's.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import lzma
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from agent.engines.disk import sync
from agent.errors import ModelError

BLOCK = 1 << 20
GZIP, XZ = b"\x1f\x8b", b"\xfd7zXZ\x00"
XZ_MEMORY = 256 << 20
LARGEST_HEADER = 1 << 20
"""Bytes that tarfile may read from one file to the next; its headers are 512, extended ones a few thousand."""
PLAIN = re.compile(r"[^/\\\x00-\x1f]{1,200}")
BROKEN = (
    tarfile.TarError,
    gzip.BadGzipFile,
    lzma.LZMAError,
    zlib.error,
    EOFError,
    ValueError,
    OverflowError,
    RecursionError,
)


class Bounds(NamedTuple):
    """The most that an archive may hold, unpacked: bytes and files."""

    bytes: int = 4 << 30
    files: int = 64


def unpack(archive: Path, target: Path, bounds: Bounds | None = None, each: Callable[[int], object] = int) -> None:
    """Write the files of a tar, tar.gz or tar.xz into ``target``, a new folder; ``each`` hears of bytes written.

    Files may lie at the top, or all of them in one folder at the top, whose name goes. Raises ModelError for anything
    else, and for what is too much, truncated or damaged; OSError where nothing can be written.
    """
    target.mkdir()
    bounds = bounds or Bounds()
    with archive.open("rb") as raw, contextlib.closing(_Bounded(_plain(raw), bounds.bytes)) as content:
        content.allow(LARGEST_HEADER)
        try:
            with tarfile.open(fileobj=content, mode="r|") as tar:
                _write_all(tar, content, target, archive.name, bounds, each)
            content.allow(bounds.bytes)
            while content.read(BLOCK):
                pass  # to its end, where the checksum is
        except BROKEN as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise ModelError(
                f"{archive.name}: not a tar, tar.gz or tar.xz, or truncated or damaged: {reason}"
            ) from None
    sync(target)


def _write_all(
    tar: tarfile.TarFile,
    content: _Bounded,
    target: Path,
    origin: str,
    bounds: Bounds,
    each: Callable[[int], object],
) -> None:
    folders: set[str] = set()
    for count in range(2 * bounds.files + 1):
        content.allow(LARGEST_HEADER)
        if (member := tar.next()) is None:
            return
        name = _checked(member, origin)
        if member.isreg() and count < 2 * bounds.files:
            folders.add("/".join(name.parts[:-1]))
            if len(folders) > 1:
                raise ModelError(f"{origin}: files in more than one folder; a package lies at the top, or in one")
            content.allow(LARGEST_HEADER + member.size)
            _write(tar, member, target / name.name, origin, each)
    raise ModelError(f"{origin}: holds more than {bounds.files} files and their folders; a model package has a few")


def _checked(member: tarfile.TarInfo, origin: str) -> PurePosixPath:
    """The member's path, where it is that of a plain file or a folder in the package. Raises ModelError."""
    shown = ascii(member.name)[:100]
    if not (member.isreg() or member.isdir()) or member.issparse():
        raise ModelError(f"{origin}: {shown} is neither a file nor a folder (a link, a device); a package has none")
    parts = [part for part in member.name.split("/") if part != "."]
    plain = all(PLAIN.fullmatch(part) and part != ".." for part in parts if part or not member.isdir())
    if member.name.startswith("/") or not plain or len(parts) > 2 + member.isdir():
        raise ModelError(f"{origin}: {shown} is no name of a file in a package; nothing is written outside it")
    return PurePosixPath(*[part for part in parts if part])


def _write(
    tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path, origin: str, each: Callable[[int], object]
) -> None:
    content = tar.extractfile(member)
    assert content is not None  # of a plain file
    try:
        file = path.open("xb")
    except FileExistsError:
        raise ModelError(f"{origin}: holds {path.name!a} twice") from None
    with file:
        while block := content.read(BLOCK):
            each(file.write(block))
    if path.stat().st_size != member.size:
        raise ModelError(f"{origin}: ends within {path.name!a}; it was truncated")
    sync(path)


def _plain(raw: IO[bytes]) -> IO[bytes]:
    """The tar itself, whatever it was compressed with."""
    start = raw.read(6)
    raw.seek(0)
    if start.startswith(GZIP):
        return gzip.GzipFile(fileobj=raw)  # type: ignore[return-value]
    if start == XZ:
        return io.BufferedReader(_Xz(raw), BLOCK)
    return raw


class _Xz(io.RawIOBase):
    """An xz stream, unpacked with bounded memory, which lzma.open has no bound for."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._blocks = self._unpacked(raw)
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        self._rest = self._rest or next(self._blocks, b"")
        view = memoryview(buffer)  # type: ignore[arg-type]
        count = min(len(view), len(self._rest))
        view[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    @staticmethod
    def _unpacked(raw: IO[bytes]) -> Iterator[bytes]:
        unpacker = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY)
        while not unpacker.eof:
            packed = raw.read(BLOCK) if unpacker.needs_input else b""
            if unpacker.needs_input and not packed:
                raise EOFError("the xz stream ends too early")
            if block := unpacker.decompress(packed, BLOCK):
                yield block


class _Bounded(io.RawIOBase):
    """Reads no more than so many bytes in all, nor than is allowed at the moment. Raises ModelError: a bomb."""

    def __init__(self, content: IO[bytes], most: int) -> None:
        self._content = content
        self._left = most
        self._allowed = 0

    def allow(self, size: int) -> None:
        """So many bytes from here on. tarfile keeps the headers that it reads in memory, however long they are."""
        self._allowed = size

    def read(self, size: int = -1) -> bytes:
        block = self._content.read(size)
        self._left -= len(block)
        self._allowed -= len(block)
        if self._left < 0:
            raise ModelError("the archive unpacks to more than a model package may hold")
        if self._allowed < 0:
            raise ModelError("the archive has a header of absurd size; a model package has none")
        return block
