"""SIGKILL before every single change of the disk that an update, a way back or an acceptance makes."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import killed_install
import pytest
from killed_install import nobody, update
from model_updates import package

from agent.detection.model import ModelPackage


@pytest.fixture
def old(tmp_path: Path) -> ModelPackage:
    return package(tmp_path / "sources" / "1", version=1)


@pytest.fixture
def new(tmp_path: Path) -> ModelPackage:
    return package(tmp_path / "sources" / "2", version=2)


def _killed_everywhere(scenario: str, models: Path, source: Path) -> list[dict[str, Any]]:
    """What was left after each kill; the last one was not killed."""
    done = subprocess.run(
        [sys.executable, killed_install.__file__, scenario, models, source, models.with_name("work")],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(row["killed"] == -9 for row in rows[:-1])
    assert rows[-1]["killed"] == 0
    return rows


def _files(package: ModelPackage) -> list[str]:
    return [variant.sha256 for variant in package.variant]


def _one_works_always(rows: list[dict[str, Any]], before: ModelPackage, after: ModelPackage) -> None:
    kept = [row["files"] for row in rows]
    assert all(files in (_files(before), _files(after)) for files in kept), "a whole model has the name, always"
    switched = kept.index(_files(after))
    assert set(map(tuple, kept[:switched])) <= {tuple(_files(before))}
    assert set(map(tuple, kept[switched:])) == {tuple(_files(after))}, "the change is made once"
    assert all(not row["left"] for row in rows), "nothing half done is left by the next installation"
    assert all(row["versions"] <= 3 for row in rows), "no versions pile up"


@pytest.mark.parametrize("scenario", ["install", "install without a trial"])
def test_an_update_of_a_plain_folder_killed_anywhere_leaves_one_whole_model(
    scenario: str, tmp_path: Path, new: ModelPackage
) -> None:
    models = tmp_path / "models"
    old = package(models, version=1)
    rows = _killed_everywhere(scenario, models, new.folder)
    assert len(rows) > 30, "the kills reach every step"
    _one_works_always(rows, old, new)
    assert all(row["after"] == _files(new) for row in rows)


def test_an_update_by_a_tar_killed_anywhere_leaves_one_whole_model(
    tmp_path: Path, old: ModelPackage, new: ModelPackage
) -> None:
    models = tmp_path / "models"
    update(models, old.folder, nobody, seconds=0.0)
    with tarfile.open(tmp_path / "new.tar.gz", "w:gz") as tar:
        tar.add(new.folder, arcname="street")
    rows = _killed_everywhere("install", models, tmp_path / "new.tar.gz")
    _one_works_always(rows, old, new)


def test_an_update_of_an_installed_version_killed_anywhere_leaves_one_whole_model(
    tmp_path: Path, old: ModelPackage, new: ModelPackage
) -> None:
    models = tmp_path / "models"
    update(models, old.folder, nobody, seconds=0.0)
    rows = _killed_everywhere("install", models, new.folder)
    _one_works_always(rows, old, new)
    assert all(row["after"] == _files(new) for row in rows)


def test_a_way_back_killed_anywhere_leaves_one_whole_model(
    tmp_path: Path, old: ModelPackage, new: ModelPackage
) -> None:
    models = tmp_path / "models"
    package(models, version=1)
    update(models, new.folder, nobody)
    rows = _killed_everywhere("rollback", models, new.folder)
    _one_works_always(rows, new, old)


def test_an_acceptance_killed_anywhere_leaves_the_new_model(tmp_path: Path, new: ModelPackage) -> None:
    models = tmp_path / "models"
    package(models, version=1)
    update(models, new.folder, nobody)
    rows = _killed_everywhere("accept", models, new.folder)
    assert all(row["files"] == _files(new) for row in rows)
