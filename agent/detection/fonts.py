"""Which font file has all characters of a label: the user's, one that ships, else one found on the system.

It reads fonts' character maps itself, so that nothing is promised that would come out as an empty box. Drawing is
text.py's.
"""

from __future__ import annotations

import functools
import logging
import os
import shutil
import struct
import subprocess
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

log = logging.getLogger(__name__)

SHIPPED = Path(__file__).resolve().parent.parent / "fonts"
FONT_VARIABLE = "EDGEWARDEN_FONT"
FOLDERS = ("/usr/share/fonts", "/usr/local/share/fonts", "~/.local/share/fonts", "~/.fonts")
SUFFIXES = {".ttf", ".otf", ".ttc", ".otc"}
FONTCONFIG_PATIENCE = 5.0
# Separators, controls and what only steers the shaping have no picture of their own.
UNDRAWN = {"Cc", "Cf", "Zl", "Zp", "Zs"}
VARIATION_SELECTORS = range(0xFE00, 0xFE10)


class FontFile(NamedTuple):
    """A font: its file, and which one of a collection."""

    path: Path
    face: int = 0


def font_for(text: str) -> FontFile | None:
    """The first font that has every character of ``text``; None, with a line in the log, where there is none.

    First comes the file that ``$EDGEWARDEN_FONT`` names, then those that ship, so that pictures look alike on every
    board, then the system's in fontconfig's order, or those in the usual folders where there is no fontconfig.
    """
    found = _font_with(characters(text))
    if found is None:
        _note_missing(text)
    return found


def characters(text: str) -> frozenset[int]:
    """The code points of a text that need a glyph."""
    return frozenset(
        ord(character)
        for character in text
        if unicodedata.category(character) not in UNDRAWN and ord(character) not in VARIATION_SELECTORS
    )


def covers(font: FontFile, needed: frozenset[int]) -> bool:
    """Whether the font has a glyph for each code point. A file that is no font has none."""
    return needed <= code_points(font)


@functools.lru_cache(maxsize=256)
def _font_with(needed: frozenset[int]) -> FontFile | None:
    return next((font for font in _candidates(needed) if covers(font, needed)), None)


@functools.lru_cache(maxsize=256)
def _note_missing(text: str) -> None:
    log.warning(
        "no font for the label %r: install one that has its characters (Debian: fonts-noto-core, fonts-noto-cjk), "
        "or name its file in %s",
        text,
        FONT_VARIABLE,
    )


@functools.lru_cache(maxsize=64)
def code_points(font: FontFile) -> frozenset[int]:
    """Every code point that a TrueType or OpenType font maps to a glyph, empty for what cannot be read.

    Formats 4 and 12 of the character map: https://learn.microsoft.com/typography/opentype/spec/cmap
    """
    try:
        data = font.path.read_bytes()
        return frozenset(_mapped(_character_map(data, font.face)))
    except (OSError, struct.error, IndexError, ValueError) as error:
        log.info("%s: no font that can be read: %s", font.path, error)
        return frozenset()


def _candidates(needed: frozenset[int]) -> Iterator[FontFile]:
    if chosen := os.environ.get(FONT_VARIABLE):
        yield FontFile(Path(chosen).expanduser())
    yield from (FontFile(path) for path in sorted(SHIPPED.glob("labels-*.?tf"), reverse=True))
    yield from _of_fontconfig(needed) if shutil.which("fc-match") else _in_folders()


def _of_fontconfig(needed: frozenset[int]) -> Iterator[FontFile]:
    """Fontconfig's fonts with these characters, sans serif first."""
    pattern = "sans-serif:charset=" + " ".join(f"{point:x}" for point in sorted(needed))
    command = ["fc-match", "--sort", "--format", "%{file}\t%{index}\n", pattern]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=FONTCONFIG_PATIENCE, check=True)
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError) as error:
        log.warning("fc-match does not answer, so fonts are looked for in %s: %s", ", ".join(FOLDERS), error)
        yield from _in_folders()
        return
    for line in answer.stdout.splitlines():
        file, _, index = line.partition("\t")
        if Path(file).suffix.lower() in SUFFIXES:
            yield FontFile(Path(file), int(index or 0) & 0xFFFF)  # above that: the instance of a variable font


def _in_folders() -> Iterator[FontFile]:
    for folder in FOLDERS:
        files = sorted(path for path in Path(folder).expanduser().rglob("*") if path.suffix.lower() in SUFFIXES)
        # Upright and regular before bold and slanted.
        yield from (FontFile(path) for path in sorted(files, key=lambda path: "Regular" not in path.stem))


def _character_map(data: bytes, index: int) -> bytes:
    """The best Unicode subtable of a font: one of format 12 before one of format 4."""
    start = struct.unpack_from(">I", data, 12 + 4 * index)[0] if data[:4] == b"ttcf" else 0
    tables = struct.unpack_from(">H", data, start + 4)[0]
    records = (struct.unpack_from(">4sIII", data, start + 12 + 16 * number) for number in range(tables))
    offset = next((where for tag, _, where, _ in records if tag == b"cmap"), None)
    if offset is None:
        raise ValueError("it has no character map")
    count = struct.unpack_from(">H", data, offset + 2)[0]
    entries = (struct.unpack_from(">HHI", data, offset + 4 + 8 * number) for number in range(count))
    found = [data[offset + where :] for platform, coding, where in entries if (platform, coding) != (3, 0)]
    by_format = {struct.unpack_from(">H", table)[0]: table for table in found}
    if not {4, 12} & set(by_format):
        raise ValueError("its character map is of no known format")
    return by_format.get(12) or by_format[4]


def _mapped(table: bytes) -> Iterator[int]:
    if struct.unpack_from(">H", table)[0] == 12:
        for number in range(min(struct.unpack_from(">I", table, 12)[0], 0x110000)):
            first, last, glyph = struct.unpack_from(">III", table, 16 + 12 * number)
            yield from range(first + (glyph == 0), min(last, 0x10FFFF) + 1)
        return
    half = struct.unpack_from(">H", table, 6)[0] // 2
    ends, starts = _shorts(table, 14, half), _shorts(table, 16 + 2 * half, half)
    deltas, offsets = _shorts(table, 16 + 4 * half, half), _shorts(table, 16 + 6 * half, half)
    for number, (first, last, delta) in enumerate(zip(starts, ends, deltas, strict=True)):
        for point in range(first, min(last, 0xFFFE) + 1):
            glyph = point
            if offsets[number]:
                place = 16 + 6 * half + 2 * number + offsets[number] + 2 * (point - first)
                glyph = struct.unpack_from(">H", table, place)[0]
                if glyph == 0:
                    continue
            if (glyph + delta) & 0xFFFF:
                yield point


def _shorts(table: bytes, offset: int, count: int) -> tuple[int, ...]:
    return struct.unpack_from(f">{count}H", table, offset)
