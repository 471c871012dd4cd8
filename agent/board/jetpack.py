"""JetPack releases: which TensorRT, CUDA and Python each brings, and the commands that install what is missing.

Pure. The table rests on NVIDIA's release notes and on reports from boards; boards of ours have confirmed none of it.
"""

from __future__ import annotations

from typing import NamedTuple

from agent.board.jetson import Jetson


class Release(NamedTuple):
    """``l4t``: the Jetson Linux it begins with. ``tensorrt``, ``cuda``, ``python``: what its packages are."""

    l4t: tuple[int, ...]
    jetpack: str
    tensorrt: str
    cuda: str
    python: str


RELEASES = (
    Release((32,), "4", "8.2", "10.2", "3.6"),
    Release((35,), "5", "8.5", "11.4", "3.8"),
    Release((36, 2), "6.0 DP", "8.6", "12.2", "3.10"),
    Release((36, 3), "6.0", "8.6", "12.2", "3.10"),
    Release((36, 4), "6.1", "10.3", "12.6", "3.10"),
    Release((36, 4, 3), "6.2", "10.3", "12.6", "3.10"),
    Release((36, 4, 4), "6.2.1", "10.3", "12.6", "3.10"),
    Release((36, 5), "6.2.2", "10.3", "12.6", "3.10"),
    Release((38, 2), "7.0", "10.13", "13.0", "3.12"),
    Release((38, 4), "7.1", "10.13", "13.0", "3.12"),
    Release((39, 2), "7.2", "10.16", "13.2", "3.12"),
)
OLDEST = (36, 2)


def release_of(l4t: str) -> Release | None:
    """The JetPack of a Jetson Linux version (``36.4.3``): the newest that is not newer; None for what is no version."""
    try:
        version = tuple(int(part) for part in l4t.split("."))
    except ValueError:
        return None
    older = [release for release in RELEASES if release.l4t <= version]
    return older[-1] if older else None


def too_old(l4t: str) -> str:
    """Why this JetPack cannot run TensorRT for us; empty where it can."""
    release = release_of(l4t)
    if release is None or release.l4t >= OLDEST:
        return ""
    return f"JetPack {release.jetpack} has TensorRT {release.tensorrt} for Python {release.python}: flash JetPack 6"


def tensorrt_command(jetson: Jetson, *, in_system: bool, venv: bool) -> str:
    """How to get TensorRT's Python bindings. ``in_system``: the system's Python has them; ``venv``: this one is in an
    environment of its own, which does not see them."""
    if not jetson.l4t:
        return "pip install 'edgewarden[tensorrt]'"
    if old := too_old(jetson.l4t):
        return old
    release = release_of(jetson.l4t)
    install = "sudo apt-get install -y python3-libnvinfer"
    see = "python3 -m venv --system-site-packages --upgrade .venv"
    if release is not None:
        see = f"{see}  # with the system's Python {release.python}"
    if in_system:
        return see if venv else install
    return f"{install} && {see}" if venv else install


def pycuda_command(jetson: Jetson) -> str:
    """How to get pycuda, which is built against JetPack's CUDA."""
    if not jetson.l4t:
        return "pip install 'edgewarden[tensorrt]'"
    release = release_of(jetson.l4t)
    toolkit = f"cuda-toolkit-{release.cuda.replace('.', '-')}" if release is not None else "nvidia-cuda"
    return f"sudo apt-get install -y {toolkit} && PATH=$PATH:/usr/local/cuda/bin pip install 'edgewarden[jetson]'"
