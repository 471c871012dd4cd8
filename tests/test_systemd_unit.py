"""The unit file and its drop-ins, without booting anything: systemd finds no fault in them, and little left open."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import REPOSITORY

SYSTEMD = REPOSITORY / "systemd"
UNIT = SYSTEMD / "edgewarden.service"
DROP_INS = sorted((SYSTEMD / "drop-ins").glob("*.conf"))
PROGRAM = "/opt/edgewarden/bin/edgewarden"
ENOUGH = 1.3
UNEXPLAINED = {"[Unit]", "[Service]", "[Install]", "Description", "Documentation", "WantedBy", "ExecStart"}


@pytest.fixture
def analyze() -> str:
    """systemd-analyze 252 or newer, or a skip."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed (Debian: apt-get install systemd)")
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    if int(re.match(r"\d+", version)[0]) < 252:  # type: ignore[index]
        pytest.skip(f"systemd {version} cannot judge a unit that is not installed; 252 can")
    return program


def placed(folder: Path, *drop_ins: Path) -> Path:
    """The unit in a folder of the test's, with a program that exists."""
    unit = folder / UNIT.name
    unit.write_text(UNIT.read_text(encoding="utf-8").replace(PROGRAM, "/bin/true"), encoding="utf-8")
    for drop_in in drop_ins:
        target = folder / f"{UNIT.name}.d" / drop_in.name
        target.parent.mkdir(exist_ok=True)
        shutil.copy(drop_in, target)
    return unit


def said(*words: str | Path) -> str:
    environment = {**os.environ, "SYSTEMD_COLORS": "0", "LC_ALL": "C.UTF-8"}
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, env=environment, check=False)
    return done.stdout + done.stderr


def exposure(program: str, unit: Path) -> float:
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", said(program, "security", "--offline=true", unit))
    assert found
    return float(found[1])


def test_little_is_left_open(tmp_path: Path, analyze: str) -> None:
    assert exposure(analyze, placed(tmp_path)) <= ENOUGH


@pytest.mark.parametrize("drop_in", [None, *DROP_INS], ids=lambda path: path.stem if path else "none")
def test_systemd_finds_no_fault_in_the_unit(tmp_path: Path, analyze: str, drop_in: Path | None) -> None:
    unit = placed(tmp_path, *([drop_in] if drop_in else []))
    assert said(analyze, "verify", "--man=no", unit) == ""


def test_with_the_network_narrowed_even_less_is_open(tmp_path: Path, analyze: str) -> None:
    assert exposure(analyze, placed(tmp_path, SYSTEMD / "drop-ins" / "local-network.conf")) < ENOUGH


@pytest.mark.parametrize("path", [UNIT, *DROP_INS], ids=lambda path: path.stem)
def test_every_setting_is_explained(path: Path) -> None:
    explained = False
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            explained = True
        elif not line:
            explained = False
        else:
            assert explained or line.split("=")[0] in UNEXPLAINED, f"{path.name}: {line}"


def test_a_wrong_configuration_stays_down_and_all_else_is_restarted_for_ever() -> None:
    lines = UNIT.read_text(encoding="utf-8").splitlines()
    for line in ("Type=notify", "Restart=always", "RestartPreventExitStatus=78", "StartLimitIntervalSec=0"):
        assert line in lines


def test_the_user_and_its_folders_can_be_made(tmp_path: Path) -> None:
    for program, file in (("systemd-sysusers", "sysusers.d"), ("systemd-tmpfiles", "tmpfiles.d")):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
        words = ["--create", "--dry-run"] if program == "systemd-tmpfiles" else ["--dry-run"]
        source = SYSTEMD / file / "edgewarden.conf"
        root = tmp_path / program
        (root / "etc").mkdir(parents=True)
        if program == "systemd-tmpfiles":
            (root / "etc" / "passwd").write_text("root:x:0:0::/root:/bin/sh\n", encoding="utf-8")
            (root / "etc" / "group").write_text("root:x:0:\nedgewarden:x:990:\n", encoding="utf-8")
            words = ["--create"]
        done = subprocess.run(
            [program, f"--root={root}", *words, str(source)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
