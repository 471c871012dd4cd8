"""The versions of an installed model on the disk: which one has the name, which was before, and the trial's record.

``models/NAME`` is a link to ``models/.versions/NAME/VERSION``, exchanged by one rename, so that at any moment the name
stands for one whole version. What is in a version is model.py's, who decides about it install.py's and the daemon's.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import msgspec

from agent.detection.probation import Observed
from agent.engines.disk import sync
from agent.errors import ModelError

log = logging.getLogger(__name__)

HOME = ".versions"
RECORD = "trial.json"
STAGING = ".staging-"
VERSION = re.compile(r"\d{4,9}")

State = Literal["waiting", "running", "accepted", "rolled back"]


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """An update on trial, or how its trial ended. ``previous``: the version that it goes back to; empty where that is
    the package that ships. ``seconds``: how long it is to be watched; ``seen``: what it did so far, ``old``: what the
    version before did; ``starts``: of the daemon with it, that did not come to an orderly end."""

    candidate: str
    previous: str
    state: State
    seconds: float
    at: float
    seen: Observed = Observed()
    old: Observed | None = None
    starts: int = 0
    reason: str = ""

    @property
    def open(self) -> bool:
        """Whether it is not decided yet."""
        return self.state in ("waiting", "running")

    def line(self) -> str:
        """How it stands, for a person."""
        if self.state == "waiting":
            return f"{self.candidate}: on trial as soon as the daemon takes it"
        if self.state == "running":
            return f"{self.candidate}: on trial, {self.seen.seconds:.0f} of {self.seconds:.0f} s watched"
        return f"{self.candidate}: {self.state}" + (f": {self.reason}" if self.reason else "")


class Versions:
    """Of the model ``name`` in the folder ``models``. All of it raises OSError where the disk refuses."""

    def __init__(self, models: Path, name: str) -> None:
        self.name = name
        self.link = models / name
        self.home = models / HOME / name

    def folder(self, version: str) -> Path:
        """Where a version's package is."""
        return self.home / version

    def current(self) -> str:
        """The version that has the name; empty where it is none of ours: a plain folder, or nothing."""
        try:
            target = Path(os.readlink(self.link))
        except OSError:
            return ""
        return target.name if target.parent == Path(HOME) / self.name else ""

    def record(self) -> Trial | None:
        """The last trial; None where there was none, or nobody can read it."""
        try:
            return msgspec.json.decode((self.home / RECORD).read_bytes(), type=Trial)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.warning("%s: cannot be read, as if there were no trial: %s", self.home / RECORD, error)
            return None

    def on_trial(self) -> Trial | None:
        """The trial of the version that has the name, while it is not decided."""
        record = self.record()
        return record if record is not None and record.open and record.candidate == self.current() else None

    def standing(self) -> Trial | None:
        """The last trial, while it says something of what has the name now: the version on trial or accepted, or the
        one that it went back to."""
        record = self.record()
        if record is None:
            return None
        wanted = record.previous if record.state == "rolled back" else record.candidate
        return record if self.current() == wanted else None

    def change(self, to: Callable[[Trial], Trial]) -> Trial | None:
        """Exchange the record of the version that is on trial; None, and nothing is changed, where none is."""
        with self._alone():
            record = self.on_trial()
            if record is not None:
                record = to(record)
                self._save(record)
            return record

    def take_in(self, package: Path) -> str:
        """Make a folder, whose files are on the disk, the next version; nothing uses it yet. Its name."""
        number = 1 + max((int(path.name) for path in self._versions()), default=0)
        version = f"{number:04d}"
        package.rename(self.folder(version))
        sync(self.home)
        return version

    def drop(self, version: str) -> None:
        """Remove a version that nothing uses."""
        shutil.rmtree(self.folder(version), ignore_errors=True)

    def begin(self, version: str, *, seconds: float, at: float) -> Trial:
        """Give the name to a version, on trial. What had it before is kept, to go back to. ``at``: UNIX seconds."""
        with self._alone():
            before, previous = self.record(), self.current()
            if before is not None and before.open and before.candidate == previous:
                previous = before.previous  # that one never showed what it is worth
            is_plain = self.link.is_dir() and not self.link.is_symlink()
            if is_plain:
                previous = f"{int(version) + 1:04d}"
            record = Trial(candidate=version, previous=previous, state="waiting", seconds=seconds, at=at)
            self._save(record)
            if is_plain:
                # For a moment nothing has the name: until the next line is done, place_of() finds it by the record.
                self.link.rename(self.folder(previous))
                sync(self.home)
            self._switch(version)
            return record

    def accept(self, reason: str) -> Trial:
        """The version that is on trial stays. Raises ModelError where none is."""
        record = self.change(lambda record: msgspec.structs.replace(record, state="accepted", reason=reason))
        if record is None:
            raise ModelError(f"{self.link}: no update of it is on trial")
        return record

    def roll_back(self, reason: str) -> Trial:
        """Give the name back to the version before. Raises ModelError where there is none."""
        with self._alone():
            record = self.record()
            if record is None or record.candidate != self.current():
                raise ModelError(f"{self.link}: nothing to go back to; no update of it is in use")
            if record.previous and not self.folder(record.previous).is_dir():
                raise ModelError(
                    f"{self.folder(record.previous)}: not there any more, so there is nothing to go back to"
                )
            record = msgspec.structs.replace(record, state="rolled back", reason=reason)
            self._save(record)
            self._switch(record.previous)
            return record

    def settle(self) -> None:
        """Finish what an interruption left half done: a name that nothing has, a way back not gone."""
        record = self.record()
        if record is None:
            return
        with self._alone():
            stayed = record.state == "rolled back" and record.candidate == self.current()
            nameless = record.state == "waiting" and record.previous and not os.path.lexists(self.link)
            if stayed or nameless:
                self._switch(record.previous)

    def prune(self) -> list[Path]:
        """Remove what is neither in use nor what the last trial was about: those folders. By the installer alone."""
        with self._alone():
            for part in self.home.glob(".*.part"):
                part.unlink()
        record = self.record()
        kept = {self.current()} | ({record.candidate, record.previous} if record is not None else set())
        gone = [path for path in self._versions() if path.name not in kept]
        for path in gone:
            shutil.rmtree(path, ignore_errors=True)
        return gone

    def _save(self, record: Trial) -> None:
        part = self.home / f".{RECORD}.part"
        part.write_bytes(msgspec.json.encode(record))
        sync(part)
        part.replace(self.home / RECORD)
        sync(self.home)

    def _switch(self, version: str) -> None:
        """The name stands for that version from now on, or, with an empty one, for nothing."""
        if version:
            part = self.home / ".link.part"
            part.unlink(missing_ok=True)
            part.symlink_to(Path(HOME) / self.name / version)
            part.replace(self.link)
        else:
            self.link.unlink(missing_ok=True)
        sync(self.link.parent)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """For the moment of a change, which the daemon and a command may want to make at once."""
        handle = os.open(self.home / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _versions(self) -> Iterator[Path]:
        return (path for path in self.home.glob("*") if VERSION.fullmatch(path.name))


def place_of(folder: Path) -> Path:
    """Where the package of that name really is: the version that its link names, so that its files stay together when
    the link is exchanged; or the one that it had, when an interruption took the name away."""
    versions = Versions(folder.parent, folder.name)
    if version := versions.current():
        return versions.folder(version)
    if not os.path.lexists(folder) and (versions.home / RECORD).is_file():
        record = versions.record()
        if record is not None and record.state == "waiting" and record.previous:
            return versions.folder(record.previous)
    return folder


@contextlib.contextmanager
def only_installer(models: Path) -> Iterator[None]:
    """Hold the folder of models against other installations, and clear away what a killed one left.

    Raises ModelError while another one is under way, and where the folder is another user's.
    """
    home = models / HOME
    _check_owner(models)
    home.mkdir(parents=True, exist_ok=True)
    handle = os.open(home / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ModelError(f"{models}: another installation is under way; wait for its end") from None
        for path in home.glob(f"{STAGING}*"):
            shutil.rmtree(path, ignore_errors=True)
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def staging(models: Path) -> Iterator[Path]:
    """A folder on the disk of the models, which goes at the end."""
    folder = Path(tempfile.mkdtemp(prefix=STAGING, dir=models / HOME))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _check_owner(models: Path) -> None:
    """What root would write into a user's folder, that user's daemon could neither watch nor undo."""
    place = next(path for path in (models, *models.absolute().parents) if path.exists())
    owner = place.stat().st_uid
    if os.geteuid() == 0 and owner != 0:
        raise ModelError(f"{place}: belongs to user {owner}, not to root; install as that user: sudo -u '#{owner}' …")
