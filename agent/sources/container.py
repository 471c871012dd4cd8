"""What a video file's outer structure says: whether it ends before its container does. Pictures are video.py's.

MP4 and QuickTime boxes: ISO/IEC 14496-12, 4.2. AVI: RIFF chunks, several in OpenDML 1.02. Matroska: RFC 8794, 9559.
"""

from __future__ import annotations

import os
from typing import BinaryIO, Literal, NamedTuple

MOST_BOXES = 100_000
MKV_EBML = b"\x1a\x45\xdf\xa3"
MKV_SEGMENT = b"\x18\x53\x80\x67"


class Layout(NamedTuple):
    """``cut``: the container declares more bytes than the file has. ``indexed``: False when an MP4 lacks its moov box.

    ``exact``: the container's count of pictures is a count, not an estimate from a duration.
    """

    kind: Literal["mp4", "avi", "matroska", "other"] = "other"
    cut: bool = False
    indexed: bool = True
    exact: bool = False


def examine(file: BinaryIO) -> Layout:
    """Look at the outer structure of a video file; reads a few bytes of each part."""
    size = os.fstat(file.fileno()).st_size
    head = file.read(12)
    if head[4:8] == b"ftyp" or head[4:8] in (b"moov", b"mdat", b"wide"):
        return _examine_mp4(file, size)
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return Layout("avi", cut=_riff_is_cut(file, size), exact=True)
    if head[:4] == MKV_EBML:
        return Layout("matroska", cut=_matroska_is_cut(file, size))
    return Layout()


def _examine_mp4(file: BinaryIO, size: int) -> Layout:
    at, kinds = 0, set()
    for _ in range(MOST_BOXES):
        file.seek(at)
        head = file.read(16)
        if len(head) < 8:
            break
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        length = int.from_bytes(head[8:16], "big") if length == 1 else length
        kinds.add(kind)
        if length == 0:  # "to the end of the file"
            at = size
            break
        if length < 8:
            break
        at += length
    # In fragments (moof) the count of the moov is not that of the file.
    return Layout("mp4", cut=at > size, indexed=b"moov" in kinds, exact=b"moof" not in kinds)


def _riff_is_cut(file: BinaryIO, size: int) -> bool:
    at = 0
    while at + 12 <= size:
        file.seek(at)
        head = file.read(8)
        if head[:4] != b"RIFF":
            return False
        length = int.from_bytes(head[4:], "little")
        if length == 0:  # never finished by its writer: no promise, none broken
            return False
        at += 8 + length + length % 2
    # The pad byte of the last chunk is often left out.
    return at > size + 1


def _matroska_is_cut(file: BinaryIO, size: int) -> bool:
    file.seek(4)
    header = _ebml_size(file)
    if header is None:
        return False
    file.seek(header, os.SEEK_CUR)
    if file.read(4) != MKV_SEGMENT:
        return False
    segment = _ebml_size(file)
    return segment is not None and file.tell() + segment > size


def _ebml_size(file: BinaryIO) -> int | None:
    """A variable-length size; None for "unknown" (all ones) and at the end of the file."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    length = 9 - first[0].bit_length()
    rest = file.read(length - 1)
    value = int.from_bytes(bytes([first[0] & ((1 << (8 - length)) - 1)]) + rest, "big")
    return None if value == (1 << (7 * length)) - 1 or len(rest) < length - 1 else value


def ended_early(layout: Layout, promised: int, delivered: int, share_of_time: float) -> bool:
    """Whether a recording that gave ``delivered`` pictures should have had more.

    A file known to be cut may lack none (two where the count is an estimate). In a whole one much must be missing, in
    count and in time: edit lists, variable rates and longer sound tracks make the promise larger than the pictures.
    """
    if promised <= 0:
        return layout.cut
    if layout.cut:
        return promised - delivered > (0 if layout.exact else 2)
    return max(delivered / promised, share_of_time) < 0.75
