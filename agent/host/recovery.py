"""A file that cannot be used, damaged or of a newer agent: it is set aside under a dated name, a fresh one begins."""

from __future__ import annotations

import contextlib
import datetime
import logging
import sqlite3
from pathlib import Path

from agent.host.schema import NewerSchemaError
from agent.host.store import Store

log = logging.getLogger(__name__)

KEPT_ASIDE = 3
SHORT_READ = 522
"""SQLITE_IOERR_SHORT_READ: the file ends where a page should be."""


def is_damage(error: sqlite3.Error) -> bool:
    """Whether it is the file that is wrong, and not the disk that is full, slow or read-only."""
    # Exactly this class: its subclasses are about the disk (OperationalError) or about what was to be written.
    return type(error) in (sqlite3.DatabaseError, NewerSchemaError) or (
        getattr(error, "sqlite_errorcode", 0) == SHORT_READ  # no such attribute before Python 3.11
    )


def open_store(path: Path, *, check: bool = True) -> tuple[Store, str]:
    """The store at ``path``, and what had to be done for it in words (empty: nothing).

    Raises sqlite3.Error or OSError when there is no way to a file that can be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        store = Store(path, check=check)
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        notice = replace(path, error)
        return Store(path), notice
    if 0 < store.migrated_from < store.version:
        log.info("%s: migrated from schema %d to %d", path, store.migrated_from, store.version)
    return store, ""


def replace(path: Path, error: Exception) -> str:
    """Set the file aside; what was done, in words. Raises OSError when it cannot be renamed."""
    newer = isinstance(error, NewerSchemaError)
    aside = set_aside(path, "newer" if newer else "damaged")
    log.error("%s: %s: set aside as %s, a fresh event log begins", path, error, aside)
    return f"a {'newer' if newer else 'damaged'} file was set aside as {aside}"


def set_aside(path: Path, why: str) -> str:
    """Rename the file and its journals to a name with the date; that name. The newest three damaged ones stay."""
    stamp = datetime.datetime.now(tz=datetime.timezone.utc).strftime("%Y%m%d-%H%M%S-%f")
    name = f"{path.stem}.{why}-{stamp}{path.suffix}"
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(path.with_name(name + suffix))
    for old in sorted(path.parent.glob(f"{path.stem}.damaged-*{path.suffix}"))[:-KEPT_ASIDE]:
        log.warning("%s: removed, newer damaged files were set aside since", old)
        for suffix in ("", "-wal", "-shm"):
            old.with_name(old.name + suffix).unlink(missing_ok=True)
    return name
