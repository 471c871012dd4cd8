"""Whether there is room to build a plan: memory and disk, looked at before the minutes are spent.

What a build needs cannot be known beforehand; these are estimates from the size of the graph, on the low side.
"""

from __future__ import annotations

import os
from pathlib import Path

from agent.errors import EngineError

MIB = 1 << 20
BASE_MEMORY = 384 * MIB
"""What the builder takes for itself: libraries and, on a board, its CUDA context."""
MEMORY_PER_BYTE = 8
"""Weights in several formats while tactics are tried."""
BASE_DISK = 16 * MIB
DISK_PER_BYTE = 3
"""A plan of TensorRT-RTX has up to twice the size of its graph, and the old one stays until the new one is there."""


def check_room(folder: Path, onnx_bytes: int, memory: int, what: str) -> None:
    """Raise EngineError, with both figures, when memory (bytes available now) or the store's disk will not do."""
    needed = BASE_MEMORY + MEMORY_PER_BYTE * onnx_bytes
    if memory < needed:
        raise EngineError(
            f"{what}: building needs about {needed // MIB} MB of memory, {memory // MIB} MB are free; "
            "stop what else runs, add swap, or build it while the agent does not run"
        )
    needed, free = BASE_DISK + DISK_PER_BYTE * onnx_bytes, free_disk(folder)
    if free < needed:
        raise EngineError(
            f"{what}: building needs about {needed // MIB} MB in {folder}, {free // MIB} MB are free; "
            "make room, or set EDGEWARDEN_CACHE to a folder on another disk"
        )


def free_disk(folder: Path) -> int:
    """Bytes that this user may still write there, or in the parent that it would be made in."""
    place = next(path for path in (folder, *folder.parents) if path.exists())
    found = os.statvfs(place)
    return found.f_bavail * found.f_frsize


def free_memory() -> int:
    """Bytes of memory available; on a Jetson the GPU's too."""
    import psutil

    return int(psutil.virtual_memory().available)


def workspace(memory: int) -> int:
    """Bytes of scratch memory for the builder: a quarter of what is free; an engine keeps what it chose to use."""
    return max(64 * MIB, min(memory // 4, 4096 * MIB))
