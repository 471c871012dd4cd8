"""How far a batch job has got, on disk, so that the same command goes on after an interruption.

One line of JSON a record, the last whole one counts. What is to be done stands in the first.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import msgspec

from agent.errors import AgentError

NAME = ".detect-journal"


class Tally(msgspec.Struct):
    """What was done. ``errors``: one line for each source or picture that could not be read."""

    pictures: int = 0
    detections: int = 0
    errors: list[str] = []
    exit_code: int = 0

    def fail(self, line: str, exit_code: int = 1) -> None:
        """Note one thing that could not be read."""
        self.errors.append(line)
        self.exit_code = max(self.exit_code, exit_code)


class Record(msgspec.Struct):
    """The first ``done`` items are finished. ``marks``: where each writer was then. ``failed``: of this stretch."""

    done: int
    marks: dict[str, dict[str, Any]]
    pictures: int
    detections: int
    failed: list[str] = []
    exit_code: int = 0


class BatchJournal:
    """Of one output folder. ``job`` says what is done with what; ``batch`` (pictures at once) is kept over a resume.

    Raises AgentError when another job was interrupted in this folder, naming what differs.
    """

    def __init__(self, folder: Path, job: Mapping[str, str], *, restart: bool = False) -> None:
        self.path = folder / NAME
        self.batch: int | None = None
        self.records: list[Record] = []
        self._job = dict(job)
        if restart:
            self.path.unlink(missing_ok=True)
        self._read()
        self._file: IO[bytes] | None = self.path.open("ab") if self.batch else None
        self._lock()

    def begin(self, batch: int) -> None:
        """A new job: nothing is done."""
        self.batch = batch
        self._file = self.path.open("wb")
        self._lock()
        self._append({"job": self._job, "batch": batch})

    def keep_while(self, true: Callable[[Record], bool]) -> None:
        """Forget the last records until one is true of what stands on the disk."""
        kept = list(self.records)
        while kept and not true(kept[-1]):
            kept.pop()
        if len(kept) == len(self.records):
            return
        self.records = []
        self.begin(self.batch or 1)
        for record in kept:
            self.note(record)

    def tally(self) -> Tally:
        """What was done before."""
        tally = Tally()
        for record in self.records:
            tally.pictures, tally.detections = record.pictures, record.detections
            tally.errors += record.failed
            tally.exit_code = max(tally.exit_code, record.exit_code)
        return tally

    def note(self, record: Record) -> None:
        """So far it is done."""
        self.records.append(record)
        self._append(msgspec.to_builtins(record))

    def close(self, *, finished: bool) -> None:
        """``finished``: there is nothing to go on with."""
        if self._file is not None:
            self._file.close()
        if finished:
            self.path.unlink(missing_ok=True)

    def _lock(self) -> None:
        """One job a folder. Raises AgentError."""
        if self._file is None:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise AgentError(
                f"{self.path.parent}: another detect writes here; wait for it, or give another --out"
            ) from None

    def _append(self, value: Any) -> None:
        assert self._file is not None
        self._file.write(msgspec.json.encode(value) + b"\n")
        self._file.flush()

    def _read(self) -> None:
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return
        lines = content.split(b"\n")[:-1]  # what stands behind the last line's end is a torn record
        if not lines:
            return
        try:
            head = msgspec.json.decode(lines[0])
            self._check(head["job"])
            self.batch = int(head["batch"])
            self.records = [msgspec.json.decode(line, type=Record) for line in lines[1:]]
        except (msgspec.DecodeError, KeyError, TypeError, ValueError):
            raise AgentError(f"{self.path}: damaged; --restart begins anew") from None
        os.truncate(self.path, len(b"\n".join(lines)) + 1)

    def _check(self, job: Mapping[str, str]) -> None:
        differs = [key for key in self._job if job.get(key) != self._job[key]]
        if differs:
            raise AgentError(
                f"{self.path.parent}: a job with other {' and '.join(differs)} was interrupted here; give the same "
                "command to finish it, --restart to begin anew, or another --out"
            )
