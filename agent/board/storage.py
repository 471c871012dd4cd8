"""The disk under a folder of ours: its file system, what is free on it, and whether it keeps what is written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from agent.board.files import text
from agent.board.finding import Finding

MIB = 1 << 20
LEAST_FREE = 512 * MIB
LEAST_INODES = 1000
FORGETFUL = frozenset({"tmpfs", "ramfs", "overlay", "squashfs", "aufs"})
REMOTE = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ceph"})
WITHOUT_LOCKS = frozenset({"vfat", "exfat", "msdos", "ntfs", "ntfs3", "fuseblk"})


class Storage(NamedTuple):
    """``kind``: of the file system, empty when nobody says; ``free``: bytes for this user, ``inodes``: files that may
    still be made, None where the file system does not count them. ``owner``: whose it is. ``fault``: why nothing is
    known."""

    folder: str
    kind: str = ""
    free: int = 0
    inodes: int | None = None
    read_only: bool = False
    writable: bool = True
    owner: str = ""
    fault: str = ""


def read_storage(folder: Path, root: Path = Path("/")) -> Storage:
    """The disk of the folder, or of the parent that it would be made in. Never raises."""
    try:
        place = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
        found, found_owner = os.statvfs(place), place.stat().st_uid
    except (OSError, ValueError, StopIteration) as error:
        return Storage(str(folder), fault=str(error) or "not there")
    return Storage(
        str(folder),
        kind=_kind(text(root / "proc/self/mountinfo"), os.path.realpath(place)),
        free=found.f_bavail * found.f_frsize,
        inodes=found.f_favail if found.f_files else None,
        read_only=bool(found.f_flag & os.ST_RDONLY),
        writable=os.access(place, os.W_OK | os.X_OK),
        owner=_owner(found_owner),
    )


def disk(storage: Storage, needed: int = LEAST_FREE) -> Finding:
    """Whether what is kept there will be kept. ``needed``: bytes that will still be written."""
    what, folder = "disk", storage.folder
    if storage.fault:
        return Finding(what, "warn", f"{folder}: {storage.fault}", "set [agent] state_dir to a folder on a disk")
    told = f"{folder}: {storage.kind or 'unknown file system'}, {storage.free // MIB} MB free"
    if storage.read_only:
        advice = f"sudo mount -o remount,rw {folder}; when that fails the disk is worn out: sudo dmesg | grep -i error"
        return Finding(what, "warn", f"{told}, read-only", advice)
    if not storage.writable:
        advice = f"look as that user: sudo -u {storage.owner or 'USER'} edgewarden doctor …; or set [agent] state_dir"
        return Finding(what, "warn", f"{told}; it is {storage.owner or 'another user'}'s alone", advice)
    if advice := _wrong_kind(storage.kind):
        return Finding(what, "warn", told, advice)
    if storage.free < needed:
        room = f"make room: du -xh {folder} | sort -h | tail; [log] max_bytes bounds the event log"
        return Finding(what, "warn", told, room)
    if storage.inodes is not None and storage.inodes < LEAST_INODES:
        return Finding(what, "warn", f"{told}, {storage.inodes} more files", "delete small files: df -i names the disk")
    return Finding(what, "ok", told)


def _owner(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _wrong_kind(kind: str) -> str:
    if kind in FORGETFUL:
        return "what is kept here is lost with the next start: set [agent] state_dir to a disk (a container: -v volume)"
    if kind in REMOTE:
        return "SQLite is not safe on a network file system: set [agent] state_dir to a local disk"
    if kind in WITHOUT_LOCKS:
        return "this file system loses what power loss interrupts: set [agent] state_dir to ext4 or similar"
    return ""


def _kind(mounts: str, place: str) -> str:
    """The file system of a path, by the mount whose point is the longest before it (proc(5), mountinfo)."""
    best, kind = "", ""
    for line in mounts.splitlines():
        before, dash, after = line.partition(" - ")
        fields = before.split(" ")
        if not dash or len(fields) < 5:
            continue
        point = fields[4].replace("\\040", " ")
        if (place == point or place.startswith(point.rstrip("/") + "/")) and len(point) >= len(best):
            best, kind = point, after.split(" ")[0]
    return kind
