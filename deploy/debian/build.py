"""Builds the Debian package: ``python deploy/debian/build.py --arch amd64 --arch arm64 --out dist`` (``make deb``).

It carries its environment, /opt/edgewarden, made of wheels alone: no program of the target is run, so that a PC builds
for a Jetson. One package is for one Python, since compiled modules are. What it does when it is installed and removed
is in scripts/; what stands where, and who may read it, in ../../systemd/.
"""

from __future__ import annotations

import argparse
import configparser
import contextlib
import email.utils
import gzip
import hashlib
import importlib.metadata
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.version import Version

REPOSITORY = Path(__file__).resolve().parents[2]
SHIPPED = ("agent", "plugins", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")
PREFIX = "opt/edgewarden"
GLIBC = (17, 35)  # wheels for 2.17 to 2.35, which is Ubuntu 22.04's, the oldest that has a Python new enough
MAINTAINER = "edgewarden <edgewarden@users.noreply.github.com>"
COPYRIGHT = """edgewarden: Copyright the edgewarden authors, https://github.com/edgewarden/edgewarden
License: Apache-2.0, /usr/share/common-licenses/Apache-2.0

The libraries that it carries stand in /{prefix}/lib with the licences of their authors, each in its *.dist-info.
"""
CHANGELOG = """edgewarden ({version}) unstable; urgency=medium

  * What changed: CHANGELOG.md beside this file.

 -- {maintainer}  {date}
"""
PROGRAM = """#!/{prefix}/bin/python3
import sys

from agent.cli import main

sys.exit(main())
"""


class BuildError(Exception):
    """The package cannot be built; why, and what to do."""


class Target(NamedTuple):
    """``arch``: Debian's name; ``python``: ``3.11``, the system's on the machines it is for."""

    arch: str
    python: str

    @property
    def machine(self) -> str:
        return {"amd64": "x86_64", "arm64": "aarch64"}[self.arch]

    @property
    def elf_machine(self) -> int:
        """``e_machine`` of its libraries, as elf.h has it."""
        return {"amd64": 62, "arm64": 183}[self.arch]

    @property
    def platforms(self) -> list[str]:
        oldest, newest = GLIBC
        return [f"manylinux_2_{minor}_{self.machine}" for minor in range(newest, oldest - 1, -1)] + [
            f"manylinux2014_{self.machine}",
            f"manylinux2010_{self.machine}",
        ]

    @property
    def environment(self) -> dict[str, str]:
        """What the markers of requirements see there."""
        there = {
            "python_version": self.python,
            "python_full_version": f"{self.python}.0",
            "implementation_version": f"{self.python}.0",
            "platform_machine": self.machine,
            "platform_system": "Linux",
            "sys_platform": "linux",
            "os_name": "posix",
        }
        return {**{name: str(value) for name, value in default_environment().items()}, **there, "extra": ""}


def main(words: list[str] | None = None) -> int:
    """Build one package for each ``--arch``; print what was made."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--arch", action="append", choices=("amd64", "arm64"), required=True)
    parser.add_argument("--python", help="of the machines it is for; amd64: this one's, arm64: 3.10, JetPack 6's")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "dist")
    parser.add_argument("--wheels", type=Path, help="a folder with the wheels of what is needed; no registry is asked")
    parser.add_argument("--version", help="instead of setup.cfg's")
    parser.add_argument("--level", type=int, default=9, help="of compression by zstd: 1 quick, 19 small")
    arguments = parser.parse_args(words)
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    try:
        for arch in arguments.arch:
            target = Target(arch, arguments.python or (here if arch == "amd64" else "3.10"))
            package = build(target, arguments.out, arguments.wheels, arguments.version, arguments.level)
            print(f"{package} ({package.stat().st_size / 1e6:.0f} MB)", flush=True)
    except BuildError as error:
        print(f"build.py: {error}", file=sys.stderr)
        return 1
    return 0


def build(target: Target, out: Path, wheels: Path | None = None, version: str | None = None, level: int = 9) -> Path:
    """One package, ``edgewarden_VERSION+pyPYTHON_ARCH.deb`` in ``out``. Raises BuildError."""
    if shutil.which("dpkg-deb") is None:
        raise BuildError("dpkg-deb is not there: apt-get install dpkg")
    with tempfile.TemporaryDirectory(prefix="edgewarden-deb-") as name:
        source, root = Path(name) / "source", Path(name) / "root"
        version = copy_source(source, version)
        site = root / PREFIX / "lib" / f"python{target.python}" / "site-packages"
        install_wheels(target, source, site, wheels)
        check(target, site)
        lay_out_environment(root, target)
        lay_out_system(root, target)
        lay_out_papers(root, debian_version(version, target))
        package = out / f"edgewarden_{debian_version(version, target)}_{target.arch}.deb"
        write_control(root, target, debian_version(version, target))
        out.mkdir(parents=True, exist_ok=True)
        set_modes(root)
        _run("dpkg-deb", "--root-owner-group", "-Zzstd", f"-z{level}", "--build", str(root), str(package))
        return package


def debian_version(version: str, target: Target) -> str:
    """``1.0rc1`` is ``1.0~rc1+py3.11``: before 1.0, and after the same for Python 3.10, which an older system has."""
    ordered = re.sub(r"[.-]?(a|b|rc|dev)(?=[0-9])", r"~\1", version)
    return f"{ordered}+py{target.python}"


def copy_source(folder: Path, version: str | None) -> str:
    """What is shipped, with that version; which it is. A copy: building leaves folders behind."""
    folder.mkdir(parents=True)
    for name in SHIPPED:
        path = REPOSITORY / name
        if path.is_dir():
            shutil.copytree(path, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(path, folder / name)
    text = (folder / "setup.cfg").read_text(encoding="utf-8")
    if version is not None:
        text = re.sub(r"(?m)^version = .*$", f"version = {version}", text, count=1)
        (folder / "setup.cfg").write_text(text, encoding="utf-8")
    found = re.search(r"(?m)^version = (\S+)$", text)
    if found is None:
        raise BuildError(f"{REPOSITORY / 'setup.cfg'}: no version")
    return found[1]


def requirements(target: Target) -> list[str]:
    """What the environment holds besides edgewarden. On arm64 OpenCV is the system's, and built for numpy 1."""
    parser = configparser.ConfigParser()
    parser.read(REPOSITORY / "setup.cfg", encoding="utf-8")
    extras = parser["options.extras_require"]
    lines = [*parser["options"]["install_requires"].strip().splitlines(), *extras["signed"].strip().splitlines()]
    if target.arch == "arm64":
        extra = extras["cpu"].strip().splitlines()
        lines += [line for line in extra if not line.strip().startswith("opencv")] + ["numpy <2"]
    wanted = [Requirement(line) for line in lines]
    here = [one for one in wanted if one.marker is None or one.marker.evaluate(target.environment)]
    return [f"{one.name}{one.specifier}" for one in here]


def install_wheels(target: Target, source: Path, site: Path, wheels: Path | None) -> None:
    """edgewarden's own wheel, and those of all that it needs, unpacked into ``site``."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    where = ["--no-index", "--find-links", str(wheels)] if wheels else []
    for_target = ["--target", str(site), "--no-compile", "--only-binary=:all:", "--python-version", target.python]
    for_target += [
        "--implementation",
        "cp",
        "--abi",
        f"cp{target.python.replace('.', '')}",
        "--abi",
        "abi3",
        "--abi",
        "none",
    ]
    for platform in target.platforms:
        for_target += ["--platform", platform]
    _run(*pip, "install", *for_target, *where, *requirements(target))
    # pip judges markers by the Python it runs on: what only the target's lacks comes in a second round.
    if more := [f"{one.name}{one.specifier}" for one, _ in unmet(target, site)]:
        with contextlib.suppress(BuildError):  # ``check`` names what is missing and for what
            _run(*pip, "install", *for_target, *where, "--no-deps", *more)
    own = source.parent / "own"
    isolation = ["--no-build-isolation"] if _has_setuptools() else []
    _run(*pip, "wheel", "--no-deps", *isolation, "--wheel-dir", str(own), str(source))
    _run(*pip, "install", *for_target, "--no-deps", "--upgrade", *map(str, own.glob("*.whl")))
    # Programs of the libraries, with the builder's Python in their first line.
    shutil.rmtree(site / "bin", ignore_errors=True)


def check(target: Target, site: Path) -> None:
    """Raise BuildError for a library of another architecture, and for a requirement that is not there."""
    for path in sorted(site.rglob("*.so*")):
        with path.open("rb") as file:
            head = file.read(20)
        if head[:4] == b"\x7fELF" and struct.unpack_from("<H", head, 18)[0] != target.elf_machine:
            raise BuildError(f"{path.relative_to(site)} is not for {target.arch}")
    missing = sorted({f"{wanted} (for {name})" for wanted, name in unmet(target, site)})
    if missing:
        raise BuildError(f"not among the wheels for {target.arch}, Python {target.python}: {'; '.join(missing)}")


def unmet(target: Target, site: Path) -> Iterator[tuple[Requirement, str]]:
    """Requirements that hold on the target and that nothing in ``site`` meets, each with who has it."""
    found = {
        one.metadata["Name"].lower().replace("_", "-"): one
        for one in importlib.metadata.distributions(path=[str(site)])
    }
    for name, distribution in found.items():
        for line in distribution.requires or []:
            wanted = Requirement(line)
            if wanted.marker is not None and not wanted.marker.evaluate(target.environment):
                continue
            there = found.get(wanted.name.lower().replace("_", "-"))
            if there is None or not wanted.specifier.contains(there.version, prereleases=True):
                yield wanted, name


def lay_out_environment(root: Path, target: Target) -> None:
    """What makes ``site-packages`` an environment of the system's python3.

    On arm64 it sees the system's packages, where JetPack has TensorRT and OpenCV; its own come first.
    """
    prefix = root / PREFIX
    programs = prefix / "bin"
    programs.mkdir(parents=True)
    (programs / f"python{target.python}").symlink_to(f"/usr/bin/python{target.python}")
    for name in ("python3", "python"):
        (programs / name).symlink_to(f"python{target.python}")
    (programs / "edgewarden").write_text(PROGRAM.format(prefix=PREFIX), encoding="utf-8")
    system = "true" if target.arch == "arm64" else "false"
    (prefix / "pyvenv.cfg").write_text(
        f"home = /usr/bin\ninclude-system-site-packages = {system}\nversion = {target.python}\n", encoding="utf-8"
    )


def lay_out_system(root: Path, target: Target) -> None:
    """The unit, the user, the folders, a sample configuration, the command, the papers; for Jetsons their drop-in."""
    unit = "usr/lib/systemd/system/edgewarden.service"
    sources = {
        unit: "systemd/edgewarden.service",
        "usr/lib/sysusers.d/edgewarden.conf": "systemd/sysusers.d/edgewarden.conf",
        "usr/lib/tmpfiles.d/edgewarden.conf": "systemd/tmpfiles.d/edgewarden.conf",
        "etc/edgewarden/agent.toml": "deploy/jetson/agent.toml",
        "usr/share/doc/edgewarden/README.md": "README.md",
        "usr/share/doc/edgewarden/CHANGELOG.md": "CHANGELOG.md",
        "usr/share/doc/edgewarden/service.md": "docs/service.md",
    }
    for path in (REPOSITORY / "systemd" / "drop-ins").glob("*.conf"):
        sources[f"usr/share/edgewarden/drop-ins/{path.name}"] = f"systemd/drop-ins/{path.name}"
    if target.arch == "arm64":
        sources[f"{unit}.d/jetson.conf"] = "systemd/drop-ins/jetson.conf"
    for place, source in sources.items():
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(REPOSITORY / source, root / place)
    (root / "usr/bin").mkdir()
    (root / "usr/bin/edgewarden").symlink_to(f"/{PREFIX}/bin/edgewarden")


def lay_out_papers(root: Path, version: str) -> None:
    """What Debian wants to read: whose it is, and which version; of ``SOURCE_DATE_EPOCH``'s day, else of today."""
    papers = root / "usr/share/doc/edgewarden"
    (papers / "copyright").write_text(COPYRIGHT.format(prefix=PREFIX), encoding="utf-8")
    date = email.utils.formatdate(float(os.environ.get("SOURCE_DATE_EPOCH") or time.time()))
    text = CHANGELOG.format(version=version, maintainer=MAINTAINER, date=date)
    (papers / "changelog.gz").write_bytes(gzip.compress(text.encode(), mtime=0))


def write_control(root: Path, target: Target, version: str) -> None:
    """The folder DEBIAN: who we are, what we need, sums of all files, the scripts."""
    major, minor = target.python.split(".")
    needs = [
        f"python3 (>= {target.python})",
        f"python3 (<< {major}.{int(minor) + 1})",
        "systemd (>= 249)",
        f"libc6 (>= 2.{GLIBC[1]})",
        "libstdc++6",
        "libgcc-s1",
        "zlib1g",
    ]
    fields = {
        "Package": "edgewarden",
        "Version": version,
        "Architecture": target.arch,
        "Maintainer": MAINTAINER,
        "Section": "video",
        "Priority": "optional",
        "Homepage": "https://github.com/edgewarden/edgewarden",
        "Installed-Size": str(size(root) // 1024),
        "Depends": ", ".join(
            needs + (["libopencv-python | python3-opencv (>= 4.8)"] if target.arch == "arm64" else [])
        ),
        "Recommends": "python3-libnvinfer" if target.arch == "arm64" else "",
        "Suggests": "python3-pip, ffmpeg",
        "Description": "agent to run unattended on the edge box beside your cameras\n"
        f" Newest frame to dispatched event, as a service. Carries its own\n"
        f" environment in /{PREFIX}, for the system's Python {target.python}.",
    }
    control = root / "DEBIAN"
    control.mkdir()
    text = "".join(f"{name}: {value}\n" for name, value in fields.items() if value)
    (control / "control").write_text(text, encoding="utf-8")
    (control / "conffiles").write_text("/etc/edgewarden/agent.toml\n", encoding="utf-8")
    (control / "md5sums").write_text("".join(sums(root)), encoding="utf-8")
    for script in (Path(__file__).parent / "scripts").iterdir():
        shutil.copyfile(script, control / script.name)


def files(root: Path) -> list[Path]:
    """Regular files of the package, in order."""
    found = (path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    return sorted(path for path in found if "DEBIAN" not in path.relative_to(root).parts[:1])


def size(root: Path) -> int:
    """Bytes that it takes on the disk, blocks of 4 kB."""
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in files(root))


def sums(root: Path) -> Iterator[str]:
    """Lines of DEBIAN/md5sums (a check of transport; dpkg knows no other sum)."""
    for path in files(root):
        name = path.relative_to(root)
        if name.parts[0] != "etc":
            yield f"{hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}  {name}\n"


def set_modes(root: Path) -> None:
    """For all to read, for root to write, programs to run; the configuration is not for all."""
    programs = {root / PREFIX / "bin" / "edgewarden"}
    for path in [root, *root.rglob("*")]:
        if path.is_symlink():
            continue
        script = path.parent.name == "DEBIAN" and path.name in ("preinst", "postinst", "prerm", "postrm")
        path.chmod(0o755 if path.is_dir() or path in programs or script else 0o644)
    (root / "etc/edgewarden/agent.toml").chmod(0o640)


def _has_setuptools() -> bool:
    """Whether one is here that makes wheels by itself; else pip fetches one."""
    try:
        return Version(importlib.metadata.version("setuptools")) >= Version("70.1")
    except importlib.metadata.PackageNotFoundError:
        return False


def _run(*words: str) -> None:
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise BuildError(f"{' '.join(words[:5])}…: {(done.stderr or done.stdout).strip()[-1500:]}")


if __name__ == "__main__":
    sys.exit(main())
