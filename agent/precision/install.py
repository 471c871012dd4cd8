"""Another version of a model: delivered, verified, judged on this machine against the one in use, and given its name.

Every step leaves one whole model under the name, wherever it is interrupted. How the steps are made stands in
detection/delivery.py, versions.py and admission.py; what becomes of the trial, in the daemon's model_trial.py.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from agent.detection.delivery import Order, Tell, deliver, untold
from agent.detection.manifest import NAME_PATTERN
from agent.detection.model import BUNDLED, MANIFEST, ModelPackage, load_package
from agent.detection.versions import Trial, Versions, only_installer, place_of, staging
from agent.engines.disk import sync
from agent.engines.plan_store import PlanStore
from agent.errors import MissingModelError, ModelError

if TYPE_CHECKING:
    from agent.precision.admission import Admission

STEPS = ("staged", "verified", "placed", "gated", "swapped", "done")
"""In their order."""
ALREADY = "this very version is in use already"

Gate = Callable[[ModelPackage, ModelPackage | None], "Admission"]
"""Judges a new package against the one in use, None where there is none. Raises ModelError, EngineError: refused."""


class Installed(NamedTuple):
    """``trial``: that begins, or None where the version was there already; ``notes``: what the user should know."""

    package: ModelPackage
    trial: Trial | None
    signed: str | None
    admission: Admission | None
    notes: tuple[str, ...]


def install(
    order: Order,
    models: Path,
    gate: Gate,
    *,
    at: float,
    seconds: float,
    name: str | None = None,
    tell: Tell = untold,
    step: Callable[[str], object] = str,
) -> Installed:
    """Install a package in the folder ``models`` under its name, or ``name``. ``at``: UNIX seconds; ``seconds`` of
    trial, none for 0; ``step`` is called after each of STEPS.

    Raises MissingModelError, ModelError, EngineError: then the model in use is the one that was.
    """
    with _told_of(models), only_installer(models):
        return _install(order, models, gate, at, seconds, name, tell, step)


def roll_back(models: Path, name: str, reason: str) -> Trial:
    """Give the name back to the version before. Raises MissingModelError, ModelError."""
    versions = _installed(models, name)
    with _told_of(models), only_installer(models):
        versions.settle()
        return versions.roll_back(reason)


def accept(models: Path, name: str, reason: str) -> Trial:
    """End a trial: the new version stays. Raises MissingModelError, ModelError."""
    versions = _installed(models, name)
    with _told_of(models), only_installer(models):
        return versions.accept(reason)


def _installed(models: Path, name: str) -> Versions:
    versions = Versions(models, _checked(name))
    if not versions.home.is_dir():
        raise MissingModelError(
            f"{versions.link}: no update of it was ever installed; `edgewarden model list` shows all"
        )
    return versions


@contextlib.contextmanager
def _told_of(models: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ModelError(f"{models}: cannot be written: {error.strerror or error}") from None


def _install(
    order: Order,
    models: Path,
    gate: Gate,
    at: float,
    seconds: float,
    name: str | None,
    tell: Tell,
    step: Callable[[str], object],
) -> Installed:
    with staging(models) as folder:
        delivered = deliver(order, folder, tell)
        step("staged")
        name = _checked(name or delivered.package.name)
        versions = Versions(models, name)
        versions.home.mkdir(exist_ok=True)
        for folder in (versions.home.parent, models):
            sync(folder)
        versions.settle()
        _forget(versions.prune())
        _refuse_while_in_use(versions)
        old, notes = _in_use(models, name)
        step("verified")
        if old is not None and _same(old, delivered.package):
            return Installed(old, None, delivered.signed, None, (ALREADY,))
        version = versions.take_in(delivered.package.folder)
    step("placed")
    try:
        package = load_package(versions.folder(version))
        admission = gate(package, old)
        step("gated")
    except BaseException:
        versions.drop(version)
        _forget([versions.folder(version)])
        raise
    trial = versions.begin(version, seconds=seconds, at=at)
    step("swapped")
    if not seconds or old is None:
        trial = versions.accept("without a trial" if old is not None else "the first of its name")
    _forget(versions.prune())
    step("done")
    return Installed(package, trial, delivered.signed, admission, notes)


def _forget(folders: Sequence[Path]) -> None:
    """The engines of versions that are gone."""
    for folder in folders:
        PlanStore().forget(folder)


def _refuse_while_in_use(versions: Versions) -> None:
    """By a trial, or by something that is no package of ours."""
    if os.path.lexists(versions.link) and not versions.current() and not _is_plain(versions.link):
        raise ModelError(f"{versions.link}: a link or a file, not a package's folder; move it, or give another --name")
    trial = versions.on_trial()
    if trial is not None and trial.state == "running":
        raise ModelError(
            f"{versions.link}: {trial.line()}; wait for its end, or end it: "
            f"edgewarden model accept {versions.name}, or edgewarden model rollback {versions.name}"
        )


def _is_plain(folder: Path) -> bool:
    return folder.is_dir() and not folder.is_symlink()


def _in_use(models: Path, name: str) -> tuple[ModelPackage | None, tuple[str, ...]]:
    """The package that has the name, of ours or of those that ship; None where there is none, or it is broken."""
    for folder in (place_of(models / name), BUNDLED / name):
        if (folder / MANIFEST).is_file():
            try:
                return load_package(folder), ()
            except ModelError as error:
                return None, (f"the model of that name cannot be used, so nothing is compared: {error}",)
    return None, ()


def _same(old: ModelPackage, new: ModelPackage) -> bool:
    """But for the variants that were made of it here."""
    known = {variant.sha256 for variant in old.variant}
    alike = msgspec.structs.replace(new, folder=old.folder, variant=old.variant) == old
    return alike and all(variant.sha256 in known for variant in new.variant)


def _checked(name: str) -> str:
    if not re.fullmatch(NAME_PATTERN, name):
        raise ModelError(f"{name!r}: no name for a package; letters, digits, dot, dash, underscore, 64 at most")
    return name
