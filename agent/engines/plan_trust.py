"""Whether a folder and its files may be believed: a plan runs as native code, so nobody else may have written it.

Only owners and modes are looked at; that the content is what the store wrote is the store's seal.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from agent.errors import EngineError

GROUP_OR_OTHERS = 0o022
OTHERS = 0o002


def folder_fault(folder: Path) -> str:
    """Why plans in this folder are not believed, with the way out; empty where they are. Looks at its parents too."""
    try:
        own = folder.lstat()
    except OSError as error:
        return f"{folder}: {error.strerror}"
    if not stat.S_ISDIR(own.st_mode):
        return f"{folder}: not a folder (a link is none)"
    if own.st_uid not in (0, os.geteuid()):
        return f"{folder}: belongs to user {own.st_uid}, who could put native code there; use a folder of your own"
    if own.st_mode & GROUP_OR_OTHERS:
        return f"{folder}: others may write there, and a plan is native code: delete its plans, chmod go-w {folder}"
    return next((fault for parent in folder.resolve().parents if (fault := _parent_fault(parent))), "")


def read_own(path: Path) -> bytes:
    """The content of a file of ours. Raises FileNotFoundError, and EngineError when others may have written it."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(handle, "rb") as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise EngineError(f"{path}: not a file")
        if found.st_uid not in (0, os.geteuid()) or found.st_mode & GROUP_OR_OTHERS:
            raise EngineError(f"{path}: others may write it, and a plan is native code")
        return file.read()


def _parent_fault(parent: Path) -> str:
    """Who may write to a parent may exchange the folder, except where the sticky bit forbids that."""
    found = parent.stat()
    if found.st_mode & stat.S_ISVTX:
        return ""
    if found.st_uid not in (0, os.geteuid()):
        return f"{parent}: belongs to user {found.st_uid}, who could exchange the plans in it"
    # Many systems give each user a group of the same number, and folders that this group may write.
    private = found.st_gid == found.st_uid or found.st_gid == os.getegid()
    if found.st_mode & (OTHERS if private else GROUP_OR_OTHERS):
        return f"{parent}: others may write there and exchange the plans in it: chmod go-w {parent}"
    return ""
