"""The tables of the event log's file, and how a file of an older version becomes one of this. Nothing about threads."""

from __future__ import annotations

import sqlite3

VERSION = 2

_CREATE = (
    """CREATE TABLE messages (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        stream TEXT NOT NULL,
        priority INTEGER NOT NULL,
        payload BLOB NOT NULL,
        known REAL NOT NULL,   -- seconds of known time at which it was accepted, see KnownTime
        wall REAL NOT NULL,    -- UNIX seconds by the wall clock, right or wrong
        synced INTEGER NOT NULL,
        crc INTEGER            -- of all but seq, see store.checksum; NULL: written before version 2
    )""",
    "CREATE INDEX messages_of_a_stream ON messages (stream, seq)",
    "CREATE INDEX messages_by_priority ON messages (stream, priority DESC, seq) WHERE stream <> 'events'",
    """CREATE TABLE cursors (
        name TEXT PRIMARY KEY,
        stream TEXT NOT NULL,
        position INTEGER NOT NULL,        -- everything up to it has been dealt with
        above TEXT NOT NULL DEFAULT '',   -- and these ranges behind it, see Ranges.encode
        used REAL                         -- known time at which somebody last asked for it
    )""",
    "CREATE TABLE facts (name TEXT PRIMARY KEY, value) WITHOUT ROWID",
)
_MIGRATIONS = {
    1: (
        "ALTER TABLE messages ADD COLUMN crc INTEGER",
        "CREATE INDEX messages_by_priority ON messages (stream, priority DESC, seq) WHERE stream <> 'events'",
        "ALTER TABLE cursors ADD COLUMN above TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE cursors ADD COLUMN used REAL",
    ),
}
"""By the version that they start from; each leads to the next."""


class NewerSchemaError(sqlite3.DatabaseError):
    """The file was written by a newer agent."""


def bring_up_to_date(db: sqlite3.Connection) -> int:
    """Make the tables, or migrate them, in one transaction; the version that was found (0: a new file).

    Raises NewerSchemaError, or sqlite3.Error with the file as it was.
    """
    found = int(db.execute("PRAGMA user_version").fetchone()[0])
    if found > VERSION:
        raise NewerSchemaError(f"written by a newer agent (schema {found}, this one knows {VERSION})")
    if found == VERSION:
        return found
    db.execute("BEGIN IMMEDIATE")
    try:
        for step in range(found, VERSION) if found else (0,):
            for statement in _MIGRATIONS[step] if step else _CREATE:
                db.execute(statement)
        db.execute(f"PRAGMA user_version = {VERSION}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    return found
