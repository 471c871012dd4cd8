"""``edgewarden model install`` as it is typed: what is refused, what is told, what is left."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
from model_updates import package
from signer import Signer

from agent.cli import main, model_install
from agent.detection import versions as versions_module
from agent.detection.model import ModelPackage, find_package, sha256_of
from agent.detection.versions import HOME, Versions
from agent.errors import ModelError

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """``edgewarden model …`` in this process: exit code, stdout, stderr."""
    monkeypatch.setenv("EDGEWARDEN_MODELS", str(models))
    monkeypatch.setenv("EDGEWARDEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("EDGEWARDEN_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)

    def command(*words: str | Path) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["model", *map(str, words)])
        out, err = capfd.readouterr()
        return int(ended.value.code or 0), out, err

    return command


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def old(models: Path) -> ModelPackage:
    """In use, as ``model add`` made it."""
    return package(models, version=1)


@pytest.fixture
def new(tmp_path: Path) -> ModelPackage:
    return package(tmp_path / "new", version=2)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(3):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((48, 64, 3), 60 * number, np.uint8))
    return folder


def tar_of(made: ModelPackage) -> Path:
    target = made.folder.parent / "street-2.tar.gz"
    with tarfile.open(target, "w:gz") as tar:
        tar.add(made.folder, arcname="street-2")
    return target


def is_untouched(models: Path, old: ModelPackage) -> bool:
    """Whether the old one is in use as ever, and nothing of another is left."""
    left = [path for path in (models / HOME).rglob("*") if path.suffix in (".onnx", ".toml")]
    return find_package(old.name, models) == old and not left


def test_an_update_gets_the_name_and_the_old_one_is_kept(run: Command, models: Path, old: ModelPackage) -> None:
    tar = tar_of(package(models.parent / "new", version=2))
    code, out, err = run("install", tar, "--sha256", sha256_of(tar), "--json")
    assert code == 0, err
    told = json.loads(out)
    assert {key: told[key] for key in ("name", "version", "previous", "state", "signed", "trial")} == {
        "name": "street",
        "version": "0001",
        "previous": "0002",
        "state": "waiting",
        "signed": None,
        "trial": 600.0,
    }
    assert told["seconds"] > 0
    assert told["old_seconds"] > 0
    assert find_package("street", models).folder == Path(told["folder"])
    assert Versions(models, "street").folder("0002").joinpath(old.choose().file).is_file()
    code, out, _ = run("list", "--json")
    row = next(row for row in json.loads(out) if row["name"] == "street")
    assert row["update"] == "0001: on trial as soon as the daemon takes it"
    assert json.loads(run("accept", "street", "--json")[1])["state"] == "accepted"
    assert run("install", tar)[1] == "street: nothing to do\n"


def test_the_first_of_a_name_stays_without_a_trial(run: Command, models: Path, new: ModelPackage) -> None:
    code, out, _ = run("install", new.folder, "--name", "gate-2")
    assert code == 0
    assert out.endswith("gate-2: 0001: accepted: the first of its name\n")
    assert find_package("gate-2", models).variant == new.variant
    code, _, err = run("rollback", "gate-2")
    assert code == 0, err
    assert run("inspect", "gate-2")[0] == 69, "nothing was before"


def test_an_update_of_a_model_that_ships_goes_back_to_it(run: Command, models: Path, tmp_path: Path) -> None:
    shipped = find_package("desk")
    made = package(tmp_path / "new", "desk")
    code, _, err = run("install", made.folder, "--slower", "1000")
    assert code == 0, err
    assert "it has no label phone, cup, book, hand" in err
    assert find_package("desk", models).variant == made.variant
    assert run("rollback", "desk")[0] == 0
    assert find_package("desk", models) == shipped


def test_a_slower_one_is_refused_and_may_be_allowed(
    run: Command, models: Path, old: ModelPackage, tmp_path: Path
) -> None:
    slow = package(tmp_path / "slow", version=2, size=(1600, 1200))
    code, _, err = run("install", slow.folder)
    assert code == 1
    assert "refused" in err
    assert "--slower 1.5 is allowed" in err
    assert is_untouched(models, old)
    assert run("install", slow.folder, "--slower", "100000")[0] == 0


def test_one_that_finds_nothing_in_the_pictures_of_the_place_is_refused(
    run: Command, models: Path, old: ModelPackage, new: ModelPackage, tmp_path: Path, pictures: Path
) -> None:
    blind = package(tmp_path / "blind", score=0.0)
    code, _, err = run("install", blind.folder, "--pictures", pictures, "--slower", "1000")
    assert code == 1
    assert "finds nothing in 3 picture(s), in which the one in use finds 3 thing(s)" in err
    assert is_untouched(models, old)
    code, out, _ = run("install", new.folder, "--pictures", pictures, "--slower", "1000", "--json")
    assert code == 0
    assert (json.loads(out)["found"], json.loads(out)["old_found"], json.loads(out)["agreement"]) == (3, 3, 1.0)


def test_one_that_does_not_run_is_refused(run: Command, models: Path, old: ModelPackage, tmp_path: Path) -> None:
    broken = package(tmp_path / "broken", version=2).folder
    file = broken / "street.onnx"
    before = sha256_of(file)
    file.write_bytes(file.read_bytes()[:200])
    manifest = broken / "model.toml"
    manifest.write_text(manifest.read_text().replace(before, sha256_of(file)))
    code, _, err = run("install", broken)
    assert code == 1
    assert err.startswith("edgewarden: street.onnx: runs at no level")
    assert is_untouched(models, old)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_or_tampered_tar_is_refused(
    share: float, run: Command, models: Path, old: ModelPackage, new: ModelPackage
) -> None:
    tar = tar_of(new)
    whole = tar.read_bytes()
    place = int(share * len(whole))
    tar.write_bytes(whole[:place])
    assert run("install", tar)[0] in (1, 69)
    tar.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
    assert run("install", tar, "--sha256", sha256_of(tar).replace("0", "1"))[0] == 1
    assert is_untouched(models, old)


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Command) -> Signer:
    """A key that the configuration names."""
    signer = Signer()
    config = tmp_path / "agent.toml"
    config.write_text(f'[model]\nkeys = ["{signer.key}"]\n[[camera]]\nname = "a"\nsource = "/dev/video0"\n')
    monkeypatch.setenv("EDGEWARDEN_CONFIG", str(config))
    return signer


def test_with_a_key_in_the_configuration_nothing_unsigned_is_installed(
    run: Command, models: Path, old: ModelPackage, new: ModelPackage, configured: Signer
) -> None:
    tar = tar_of(new)
    for source in (tar, new.folder):
        code, _, err = run("install", source, *(("--sha256", sha256_of(tar)) if source == tar else ()))
        assert code == 1
        assert "not signed, and a key is configured" in err
    assert is_untouched(models, old)
    configured.sign(tar)
    code, out, err = run("install", tar, "--json")
    assert code == 0, err
    assert json.loads(out)["signed"] == "made by a test"


def test_a_key_on_the_command_line_does_not_widen_what_the_configuration_allows(
    run: Command, new: ModelPackage, configured: Signer, tmp_path: Path
) -> None:
    other = Signer()
    other.sign(new.folder / "model.toml")
    code, _, err = run("install", new.folder, "--key", other.key)
    assert code == 78
    assert "is none of [model] keys" in err
    (tmp_path / "agent.toml").write_text("[")
    assert run("install", new.folder, "--key", other.key)[0] == 78, "what it demands cannot be known"
    (tmp_path / "agent.toml").unlink()
    assert run("install", new.folder, "--key", other.key)[0] == 69


def test_the_keys_of_the_usual_configuration_hold_without_being_named(
    run: Command, new: ModelPackage, configured: Signer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EDGEWARDEN_CONFIG")
    monkeypatch.setattr(model_install, "USUAL_CONFIG", tmp_path / "agent.toml")
    code, _, err = run("install", new.folder)
    assert code == 1
    assert "not signed, and a key is configured" in err
    monkeypatch.setattr(model_install, "USUAL_CONFIG", tmp_path / "agent.toml" / "below a file")
    assert run("install", new.folder)[0] == 0


def test_an_update_waits_for_the_end_of_the_trial_before(
    run: Command, models: Path, old: ModelPackage, new: ModelPackage, tmp_path: Path
) -> None:
    assert run("install", new.folder)[0] == 0
    third = package(tmp_path / "third", version=3)
    assert run("install", third.folder)[0] == 0, "a trial that has not begun makes room"
    versions = Versions(models, "street")
    versions.change(lambda trial: msgspec.structs.replace(trial, state="running"))
    code, _, err = run("install", new.folder)
    assert code == 1
    assert "edgewarden model accept street" in err
    assert run("rollback", "street")[0] == 0
    assert find_package("street", models).variant == old.variant, "the last one that showed what it is worth"


def test_two_installations_at_once_are_refused(run: Command, models: Path, new: ModelPackage) -> None:
    models.mkdir()
    with versions_module.only_installer(models):
        code, _, err = run("install", new.folder)
    assert code == 1
    assert "another installation is under way" in err


def test_root_installs_nothing_into_another_users_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() == 0:
        os.chown(tmp_path, 1234, -1)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(ModelError, match="install as that user"), versions_module.only_installer(tmp_path / "models"):
        pass


def test_what_is_not_there_has_its_own_exit_code(run: Command) -> None:
    assert run("install", "nothing.tar.gz")[0] == 69
    assert run("install", "x.tar", "--sha256", "12")[0] == 2
    assert run("rollback", "nothing")[0] == 69
    assert run("rollback", "../nothing")[0] == 1


def test_model_add_over_an_installed_version_takes_the_name_back(
    run: Command, models: Path, old: ModelPackage, new: ModelPackage
) -> None:
    assert run("install", new.folder)[0] == 0
    graph = shutil.copy(new.folder / "street.onnx", models.parent / "graph.onnx")
    words = ("--family", "end2end", "--labels", "person", "--replace")
    code, _, err = run("add", graph, "--name", "street", *words)
    assert code == 0, err
    assert not (models / "street").is_symlink()
    values: dict[str, Any] = json.loads(run("list", "--json")[1])[0]
    assert (values["fault"], values["update"]) == (None, None), "the trial says nothing of it"


def test_a_link_of_the_users_own_is_left_alone(run: Command, models: Path, new: ModelPackage, tmp_path: Path) -> None:
    own = package(tmp_path / "own")
    models.mkdir()
    (models / "street").symlink_to(own.folder)
    code, _, err = run("install", new.folder)
    assert code == 1
    assert "give another --name" in err
    assert find_package("street", models).variant == own.variant
