"""How far a batch job has got, on disk, so that the same command goes on after an interruption.

One line of JSON a record, the last whole one counts. What is to be done stands in the first.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import msgspec

from agent.errors import AgentError

NAME = ".detect-journal"
DIGEST = "sha256:"
"""What a job says of itself and begins so is compared, and not shown to people."""


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

    Raises AgentError when another job was interrupted in this folder after it had done something, naming what
    differs, and when another process is at work there.
    """

    def __init__(self, folder: Path, job: Mapping[str, Any], *, restart: bool = False) -> None:
        self.path = folder / NAME
        self.batch: int | None = None
        self.records: list[Record] = []
        self._job = dict(job)
        self._file = self._locked()
        try:
            if restart:
                self._file.truncate(0)
            self._read()
        except BaseException:
            self.close()
            raise

    def begin(self, batch: int) -> None:
        """A new job: nothing is done."""
        self.batch = batch
        self._file.truncate(0)
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

    def finish(self) -> None:
        """Nothing is left to go on with."""
        self.path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Let another process go on here. Safe to call twice."""
        with contextlib.suppress(OSError):  # a full disk, told when the record was written
            self._file.close()

    def _locked(self) -> IO[bytes]:
        """The file, whose lock means one job a folder: taken before anything in it is touched."""
        try:
            file = self.path.open("ab")
        except OSError as error:
            raise AgentError(f"{self.path}: cannot be written: {error.strerror}") from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise AgentError(
                f"{self.path.parent}: another detect writes here; wait for it, or give another --out"
            ) from None
        return file

    def _append(self, value: Any) -> None:
        try:
            self._file.write(msgspec.json.encode(value) + b"\n")
            self._file.flush()
        except OSError as error:
            raise AgentError(
                f"{self.path}: cannot be written: {error.strerror}; make room and give the same command again"
            ) from None

    def _read(self) -> None:
        lines = self.path.read_bytes().split(b"\n")[:-1]  # behind the last line's end stands a torn record
        if not lines:
            return
        try:
            head = msgspec.json.decode(lines[0])
            if len(lines) == 1:
                return  # begun with nothing done (it may have had a fault that is mended now): a new job like any
            self._check(head["job"])
            self.batch = int(head["batch"])
            self.records = [msgspec.json.decode(line, type=Record) for line in lines[1:]]
        except (msgspec.DecodeError, KeyError, TypeError, ValueError):
            raise AgentError(f"{self.path}: damaged; --restart begins anew") from None
        os.truncate(self.path, len(b"\n".join(lines)) + 1)

    def _check(self, job: Mapping[str, Any]) -> None:
        differs = [_difference(key, job.get(key), now) for key, now in self._job.items() if job.get(key) != now]
        if differs:
            raise AgentError(
                f"{self.path.parent}: a job with other {' and '.join(differs)} was interrupted here; give the same "
                "command to finish it, --restart to begin anew, or another --out"
            )


def _difference(key: str, then: Any, now: Any) -> str:
    """``score (0.4 then, 0.7 now)``; of a digest its name alone."""
    return key if str(now).startswith(DIGEST) or str(then).startswith(DIGEST) else f"{key} ({then} then, {now} now)"
