"""A process that changes the version of a model and is killed before its n-th change of the disk, for every n.

``python killed_install.py SCENARIO PRISTINE SOURCE WORK``: each time PRISTINE, a folder of models, is copied to
WORK, a child does the scenario there and kills itself, and what it left is looked at. A JSON line for each.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.detection import delivery
from agent.detection.model import ModelPackage, find_package
from agent.detection.versions import HOME, Versions
from agent.precision import install as installing
from agent.precision.admission import Admission

CHANGES = frozenset({"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.symlink", "os.link", "os.truncate"})
MOST = 400
NAME = "street"


class Killer:
    """Kills this process, with SIGKILL, before its n-th change of the disk or told block."""

    def __init__(self, n: int) -> None:
        self._left = n

    def __call__(self, *_what: object) -> None:
        self._left -= 1
        if self._left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        """See sys.addaudithook."""
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if writes or event in CHANGES:
            self()


def unmeasured(_package: ModelPackage, _old: ModelPackage | None) -> Admission:
    """A gate that lets everything pass: what it measures changes no file."""
    return Admission(0.0, None, None, None, None, ())


def nobody(*_what: object) -> None:
    """Is told."""


def update(models: Path, source: Path, told: Callable[..., object], seconds: float = 60.0) -> None:
    order = delivery.Order(str(source))
    installing.install(order, models, unmeasured, at=0.0, seconds=seconds, tell=told, step=told)


def scenario(name: str, models: Path, source: Path, told: Callable[..., object]) -> None:
    """What the child does."""
    if name == "install":
        update(models, source, told)
    elif name == "install without a trial":
        update(models, source, told, seconds=0.0)
    elif name == "rollback":
        installing.roll_back(models, NAME, "by test")
    elif name == "accept":
        installing.accept(models, NAME, "by test")
    else:
        raise SystemExit(f"no such scenario: {name}")


def child(name: str, models: Path, source: Path, n: int) -> None:
    fsync: Callable[[Any], None] = os.fsync

    def synced(handle: Any) -> None:
        killer()
        fsync(handle)

    killer = Killer(n)
    delivery.BLOCK = 256  # several blocks a file
    vars(os)["fsync"] = synced
    sys.addaudithook(killer.hook)
    scenario(name, models, source, killer)


def looked_at(models: Path, source: Path) -> dict[str, Any]:
    """Which model there is now, and whether another installation puts everything right."""
    files = [variant.sha256 for variant in find_package(NAME, models).variant]
    update(models, source, nobody)
    left = sorted(
        path.name for path in (models / HOME).rglob("*") if path.name.startswith((".staging", ".link", ".trial"))
    )
    versions = Versions(models, NAME)
    return {
        "files": files,
        "after": [variant.sha256 for variant in find_package(NAME, models).variant],
        "left": left,
        "versions": len([path for path in versions.home.iterdir() if path.is_dir()]),
    }


def main(name: str, pristine: Path, source: Path, work: Path) -> None:
    for n in range(MOST):
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(pristine, work, symlinks=True)
        pid = os.fork()
        if not pid:
            child(name, work, source, n)
            os._exit(0)
        killed = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(json.dumps({"killed": killed, **looked_at(work, source)}), flush=True)
        if not killed:
            return
    raise SystemExit(f"not done after {MOST} changes")


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:]))
