"""How long a start took from the process's first moment to the first inferred frame, and which part of it.

Pure but for ``process_began``, which asks the kernel, and for ``read_ahead``, ``hold_little`` and ``take_turns``, which
tell it, the C library and the interpreter what to expect. Who ends a part says so with ``ended``.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

LARGE = ("onnxruntime", "cv2", "numpy")
"""Packages whose shared libraries are most of what a start reads from the disk."""
M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8
"""mallopt(3)"""
ARENAS = 2
LARGE_PIECE = 128 << 10
"""Bytes from which on memory is the kernel's again as soon as it is freed: glibc's own beginning, which it raises to
the largest piece that it has seen freed, 32 MB at most."""
TURN = 0.001
"""Seconds for which a thread may compute in Python while another waits to; Python's own are five times that."""
PARTS = ("interpreter", "config", "imports", "plugins", "engine", "camera")
"""In their order. The last one ends with the first inferred frame."""


class Startup:
    """``began``: when the process did, monotonic seconds. Parts follow each other."""

    def __init__(self, began: float) -> None:
        self._began = began
        self._last = began
        self.parts: dict[str, float] = {}

    def ended(self, part: str, now: float) -> None:
        """That part is over; the next one begins."""
        self.parts[part] = self.parts.get(part, 0.0) + now - self._last
        self._last = now

    @property
    def complete(self) -> bool:
        """Whether the first frame was inferred."""
        return PARTS[-1] in self.parts

    def line(self) -> str:
        """All of it in a line, in seconds."""
        parts = ", ".join(f"{part} {seconds:.2f}" for part, seconds in self.parts.items())
        return f"first frame inferred after {self._last - self._began:.2f} s: {parts}"


def process_began() -> float:
    """When this process was made, on the axis of ``time.monotonic()``; now, where the kernel does not say."""
    now = time.monotonic()
    try:
        # Field 22 of proc(5): clock ticks since boot; the second, the program's name, may hold spaces.
        ticks = int(
            Path("/proc/self/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[19]
        )
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return now
    return now - max(age, 0.0)


def read_ahead(packages: Sequence[str] = LARGE) -> None:
    """Have the kernel read the packages' shared libraries meanwhile: at power-on the disk is what a start waits for.

    Nothing is imported; what is in memory already costs next to nothing.
    """
    for package in packages:
        for path in _libraries(package):
            with contextlib.suppress(OSError):  # then it is read when it is needed
                handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_WILLNEED)
                finally:
                    os.close(handle)


def hold_little() -> None:
    """Have glibc keep less of what was freed. By default each of a few dozen threads may get an arena of its own, and
    keeps there what other threads' pictures and engines left: after many reloads that is a hundred megabytes. And once
    a picture has been freed the next ones lie among what is small and stays, so that memory grows for hours."""
    with contextlib.suppress(OSError, AttributeError):  # another C library has no arenas
        import ctypes

        libc = ctypes.CDLL(None)
        libc.mallopt(M_ARENA_MAX, ARENAS)
        libc.mallopt(M_MMAP_THRESHOLD, LARGE_PIECE)


def take_turns() -> None:
    """Have a thread that computes in Python, a plugin's or one that imports its packages, let others in sooner. On its
    way from the camera to its events a frame waits for its turn some ten times, since each call into OpenCV and the
    engine gives the turn away: beside a plugin that never pauses it is half as old so (benchmarks/busy_plugin.py)."""
    sys.setswitchinterval(TURN)


def _libraries(package: str) -> Iterator[Path]:
    """Beside the package's modules, and where wheels put what they bring along: ``PACKAGE.libs``."""
    with contextlib.suppress(ImportError, ValueError):
        found = importlib.util.find_spec(package)
        for folder in (found.submodule_search_locations if found else None) or ():
            for place in (Path(folder), Path(folder).with_name(f"{package}.libs")):
                yield from sorted(place.rglob("*.so*"))
