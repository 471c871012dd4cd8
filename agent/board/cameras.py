"""The local cameras that the kernel knows: what each is, what it gives, and whether this user may open it.

A device is asked what it can, and never to give pictures: that would fail while the daemon has it, or disturb it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from pathlib import Path
from typing import NamedTuple

from agent.board.files import found, is_there, text

# linux/videodev2.h; the numbers are the same on x86-64 and aarch64.
QUERYCAP, ENUM_FMT = 0x80685600, 0xC0405602
CAPABILITY, DESCRIPTION = struct.Struct("16s32s32s3I12x"), struct.Struct("3I32sI16x")
CAPTURE, CAPTURE_PLANES, OF_DEVICE = 0x1, 0x1000, 0x80000000
BUFFERS = {CAPTURE: 1, CAPTURE_PLANES: 9}
MOST_FORMATS = 64
TEGRA = "vi-output"
"""So begin the names of the devices that a Jetson makes for the sensors on its CSI connectors."""
FAULTS = {
    errno.EACCES: "permission denied",
    errno.EPERM: "not allowed here",
    errno.EBUSY: "another program keeps it to itself",
    errno.ENODEV: "its driver lets nobody open it",
    errno.ENXIO: "its driver lets nobody open it",
}


class Camera(NamedTuple):
    """``node``: ``/dev/video0``; ``formats``: as four letters; ``captures``: whether it gives pictures at all (many a
    camera has a second device for what it knows of them). ``fault``: why it cannot be asked; ``denied``: by its mode.
    """

    node: str
    name: str
    formats: tuple[str, ...] = ()
    captures: bool = True
    fault: str = ""
    denied: bool = False

    @property
    def csi(self) -> bool:
        """Whether it is a bare sensor on a Jetson's CSI connector."""
        return self.name.startswith(TEGRA)


class Cameras(NamedTuple):
    """``argus``: whether the program that serves CSI cameras listens; ``group``: that of the devices."""

    cameras: tuple[Camera, ...]
    argus: bool
    group: str


def read_cameras(root: Path = Path("/")) -> Cameras:
    """All of them below the root. Never raises."""
    nodes = sorted(found(root, "dev/video[0-9]*"), key=lambda node: (len(node.name), node.name))
    cameras = tuple(_camera(root, node) for node in nodes)
    return Cameras(cameras, is_there(root / "tmp/argus_socket"), _group(nodes))


def _camera(root: Path, node: Path) -> Camera:
    named = text(root / "sys/class/video4linux" / node.name / "name")
    shown = f"/dev/{node.name}"
    try:
        handle = os.open(node, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        reason = FAULTS.get(error.errno or 0, (error.strerror or str(error)).lower())
        return Camera(shown, named, fault=reason, denied=error.errno == errno.EACCES)
    try:
        return _asked(handle, Camera(shown, named))
    except OSError:
        return camera_without_answer(shown, named)
    finally:
        os.close(handle)


def camera_without_answer(node: str, name: str) -> Camera:
    """Something that has a camera's name and does not answer like one."""
    return Camera(node, name, captures=False, fault="not a V4L2 device")


def _asked(handle: int, camera: Camera) -> Camera:
    answer = bytearray(CAPABILITY.size)
    fcntl.ioctl(handle, QUERYCAP, answer)
    _, card, _, _, whole, own = CAPABILITY.unpack(answer)
    able = own if whole & OF_DEVICE else whole
    formats = [name for flag, kind in BUFFERS.items() if able & flag for name in _formats(handle, kind)]
    name = camera.name or card.split(b"\0")[0].decode("utf-8", "replace")
    return camera._replace(name=name, formats=tuple(dict.fromkeys(formats)), captures=bool(able & sum(BUFFERS)))


def _formats(handle: int, kind: int) -> list[str]:
    names: list[str] = []
    for index in range(MOST_FORMATS):
        answer = bytearray(DESCRIPTION.pack(index, kind, 0, b"", 0))
        try:
            fcntl.ioctl(handle, ENUM_FMT, answer)
        except OSError:
            break  # EINVAL: there are no more
        names.append(DESCRIPTION.unpack(answer)[4].to_bytes(4, "little").decode("ascii", "replace").strip())
    return names


def _group(nodes: list[Path]) -> str:
    import grp

    for node in nodes:
        try:
            return grp.getgrgid(node.stat().st_gid).gr_name
        except (OSError, KeyError):
            continue
    return "video"
