"""An update of the model on trial in the running daemon: taken, watched, and kept or rolled back by itself.

What is as good as before is detection/probation.py's, what stands on the disk versions.py's; loading and swapping,
app.py's.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from agent.detection.model import BUNDLED, MANIFEST, ModelPackage, load_package, versions_of
from agent.detection.probation import Observed, Observer, judge
from agent.detection.versions import Trial
from agent.errors import AgentError

log = logging.getLogger(__name__)

T = TypeVar("T")
LIVES = 2
"""Starts with a new version that may end without order before it is given up."""
WINDOW = 600
"""Looks, one a second, for what the old version does."""
SAVE_EVERY = 5.0
SAVE_OLD_EVERY = 60.0
ASK_EVERY = 30.0
MEMORY = "model.json"


class Look(NamedTuple):
    """At one moment: frames inferred and detections told since the process began, the age of frames of late in
    milliseconds, and whether there is anything to work on."""

    frames: int
    detections: int
    age_ms: float | None
    working: bool


class Remembered(msgspec.Struct, frozen=True):
    """What a model did in earlier runs; ``model`` says which one."""

    model: str
    observed: Observed


class ModelTrial:
    """Of the model that ``spec``, ``[model] path``, names. ``load`` and ``tick`` may be called from different threads.

    ``told``: how the trial stands, for health; empty where there is none, or it was passed.
    """

    def __init__(self, spec: str, state_dir: Path) -> None:
        self.told = ""
        self._memory = state_dir / MEMORY
        self._lock = threading.RLock()
        self._versions = versions_of(spec)
        self._used: ModelPackage | None = None
        self._watched: Trial | None = None
        self._observer = Observer(window=WINDOW)
        self._save_due = self._ask_due = 0.0
        self._asked: str | None = None

    def load(self, spec: str, load: Callable[[], T]) -> T:
        """Load the model by ``load``. A version on trial that has failed too often, or that cannot be loaded, is rolled
        back, and the one before is loaded."""
        with self._lock:
            self._versions = versions_of(spec)
            trial = self._begun()
        try:
            return load()
        except AgentError as error:
            with self._lock:
                if trial is None or not self._roll_back(f"it cannot be loaded: {error}"):
                    raise
        return load()

    def use(self, package: ModelPackage | None, now: float) -> None:
        """This package is in use from now on."""
        with self._lock:
            if package is None or package == self._used:
                return
            before, self._used = self._observed_before(), package
            trial = self._versions.on_trial()
            if trial is None or package.folder != self._versions.folder(trial.candidate):
                self._watched = None
                self._observer = Observer(self._remembered(package), WINDOW)
            else:
                self._watch(trial, before)
            self._save_due = now + SAVE_EVERY
            self._tell()

    def tick(self, look: Look, now: float) -> bool:
        """Look at it, once a second; whether the model is another one than is in use and is to be loaded."""
        with self._lock:
            self._observer.look(now, look.frames, look.detections, look.age_ms, working=look.working)
            if now >= self._save_due:
                self._save(now)
            if self._watched is not None:
                self._judge(self._watched)
            return self._is_to_be_loaded(now)

    def stop(self, problem: BaseException | None) -> None:
        """The end of the process. An orderly one does not count against the version; a ``problem`` of the engine's ends
        its trial."""
        with self._lock:
            if self._watched is None:
                self._remember()
            elif problem is not None:
                self._roll_back(f"it failed: {problem}")
            else:
                self._change(lambda trial: msgspec.structs.replace(trial, starts=0, seen=self._observer.observed))

    def _begun(self) -> Trial | None:
        """The version on trial that is to be loaded now, counted; None where it is in use already, or there is none, or
        it was rolled back since it was loaded too often."""
        if not self._versions.home.is_dir():
            return None
        try:
            self._versions.settle()
        except OSError as error:
            log.warning("%s: %s", self._versions.home, error)
        trial = self._versions.on_trial()
        if trial is None or (self._used is not None and self._used.folder == self._versions.folder(trial.candidate)):
            return None
        if trial.starts >= LIVES and self._roll_back(f"the agent came {trial.starts} times to no orderly end with it"):
            return None
        return self._change(lambda trial: msgspec.structs.replace(trial, starts=trial.starts + 1))

    def _watch(self, trial: Trial, before: Observed | None) -> None:
        old = trial.old or before or self._remembered_of(trial)
        self._watched = self._change(lambda trial: msgspec.structs.replace(trial, state="running", old=old)) or trial
        self._observer = Observer(trial.seen)
        log.info("%s: %s is on trial for %g s", self._versions.name, trial.candidate, trial.seconds)

    def _judge(self, trial: Trial) -> None:
        verdict = judge(self._observer.observed, trial.old, trial.seconds)
        if verdict.word == "worse":
            self._roll_back(verdict.reason)
        elif verdict.word == "accepted":
            self._change(lambda trial: msgspec.structs.replace(trial, state="accepted", reason=verdict.reason))
            log.info("%s: %s passed its trial: %s", self._versions.name, trial.candidate, verdict.reason)
            self._watched = None
            self._observer = Observer(self._observer.observed, WINDOW)
            self._tell()

    def _roll_back(self, reason: str) -> bool:
        """Whether there is something to go back to."""
        trial, self._watched = self._versions.record(), None
        if trial is not None and not trial.previous and not (BUNDLED / self._versions.name / MANIFEST).is_file():
            log.error("%s: %s is worse, but nothing was before it: %s", self._versions.name, trial.candidate, reason)
            return False
        try:
            trial = self._versions.roll_back(reason)
        except (AgentError, OSError) as error:
            log.error("%s: cannot be rolled back (%s): %s", self._versions.name, reason, error)
            return False
        log.error("%s: %s is rolled back: %s", self._versions.name, trial.candidate, reason)
        self._tell()
        return True

    def _is_to_be_loaded(self, now: float) -> bool:
        """Whether the name stands for another version than the one in use; one that was refused is asked for later."""
        if self._used is None:
            return False
        ours = self._used.folder.parent == self._versions.home
        wanted = self._versions.current()
        if wanted == (self._used.folder.name if ours else ""):
            self._asked = None
            return False
        if wanted == self._asked and now < self._ask_due:
            return False
        self._asked, self._ask_due = wanted, now + ASK_EVERY
        return True

    def _save(self, now: float) -> None:
        """How far the trial is, or what the model does that may once be the old one."""
        if self._watched is None:
            self._save_due = now + SAVE_OLD_EVERY
            self._remember()
        else:
            self._save_due = now + SAVE_EVERY
            self._watched = self._change(lambda trial: msgspec.structs.replace(trial, seen=self._observer.observed))
            if self._watched is None:  # it was ended by hand
                self._observer = Observer(self._observer.observed, WINDOW)
        self._tell()

    def _change(self, to: Callable[[Trial], Trial]) -> Trial | None:
        try:
            return self._versions.change(to) if self._versions.home.is_dir() else None
        except OSError as error:
            log.warning("%s: the trial cannot be recorded: %s", self._versions.home, error)
            return self._watched

    def _tell(self) -> None:
        trial = self._versions.standing()
        is_told = trial is not None and trial.state != "accepted"
        self.told = f"{self._versions.name}: {trial.line()}" if trial is not None and is_told else ""

    def _observed_before(self) -> Observed | None:
        """Of the version that was in use until now in this process."""
        observed = self._observer.observed
        return observed if self._used is not None and self._watched is None and observed.frames else None

    def _remember(self) -> None:
        if self._used is None or not (observed := self._observer.observed).frames:
            return
        part = self._memory.with_suffix(".part")
        try:
            part.write_bytes(msgspec.json.encode(Remembered(_which(self._used), observed)))
            part.replace(self._memory)
        except OSError as error:
            log.warning("%s: cannot be written: %s", self._memory, error.strerror)

    def _remembered(self, package: ModelPackage) -> Observed | None:
        try:
            remembered = msgspec.json.decode(self._memory.read_bytes(), type=Remembered)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.warning("%s: cannot be read, as if it were not there: %s", self._memory, error)
            return None
        return remembered.observed if remembered.model == _which(package) else None

    def _remembered_of(self, trial: Trial) -> Observed | None:
        """Of the version before, in an earlier run."""
        folder = self._versions.folder(trial.previous) if trial.previous else BUNDLED / self._versions.name
        try:
            return self._remembered(load_package(folder))
        except AgentError as error:
            log.warning("%s: what it did is not known: %s", folder, error)
            return None


def _which(package: ModelPackage) -> str:
    """The same for the same files, wherever they are."""
    return hashlib.sha256(" ".join(variant.sha256 for variant in package.variant).encode()).hexdigest()
