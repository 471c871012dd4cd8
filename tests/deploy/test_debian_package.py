"""deploy/debian/build.py, on wheels that are made here: what is in the package, for whom, and what its scripts may do.

That it installs, upgrades and leaves is shown under a real systemd (tests/system); what is really in the wheels, by
``make deb``, which refuses libraries of another architecture and requirements that nothing meets.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import importlib.util
import io
import itertools
import shutil
import struct
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
from conftest import REPOSITORY

FOLDER = REPOSITORY / "deploy" / "debian"
# Versions of some day, with an extension module where the real ones have one; onnxruntime needs two more, of which one
# only on old Pythons.
PURE = {
    "click": "8.4.1",
    "paho-mqtt": "2.1.0",
    "pluggy": "1.6.0",
    "rich": "15.0",
    "tomli": "2.2",
    "flatbuffers": "25.1",
    "typing-extensions": "4.15",
}
COMPILED = {
    "cryptography": "45.0",
    "lapx": "0.9.4",
    "msgspec": "0.21",
    "numpy": "1.26.4",
    "pillow": "12.0",
    "psutil": "7.1",
}
COMPILED |= {"onnxruntime": "1.23.2", "opencv-python-headless": "4.13.0.90"}
NEEDS = {
    "onnxruntime": ["flatbuffers", "tomli; python_version < '3.11'", "coloredlogs; extra == 'colour'"],
    "cryptography": ["typing-extensions>=4.13; python_version < '3.11'"],
}
MACHINES = {"amd64": ("x86_64", 62), "arm64": ("aarch64", 183)}


@pytest.fixture(scope="module")
def build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_debian", FOLDER / "build.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def make_wheel(folder: Path, name: str, version: str, tag: str, machine: int | None) -> None:
    """A wheel with one module, and one shared library for ``machine`` (ELF's number)."""
    stem = name.replace("-", "_")
    info = f"{stem}-{version}.dist-info"
    requires = "".join(f"Requires-Dist: {line}\n" for line in NEEDS.get(name, []))
    content = {
        f"{stem}/__init__.py": b"",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}".encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n".encode(),
        f"{info}/entry_points.txt": f"[console_scripts]\n{stem} = {stem}:main\n".encode(),
    }
    if machine is not None:
        content[f"{stem}/native.so"] = b"\x7fELF" + bytes(14) + struct.pack("<H", machine)
    record = "".join(
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip('=')},{len(data)}\n"
        for path, data in content.items()
    )
    with zipfile.ZipFile(folder / f"{stem}-{version}-{tag}.whl", "w") as archive:
        for path, data in content.items():
            archive.writestr(path, data)
        archive.writestr(f"{info}/RECORD", f"{record}{info}/RECORD,,\n")


def wheels(folder: Path, arch: str, python: str, *, without: str = "", alien: str = "") -> Path:
    folder.mkdir()
    machine, number = MACHINES[arch]
    for name, version in PURE.items():
        if name != without:
            make_wheel(folder, name, version, "py3-none-any", None)
    abi = f"cp{python.replace('.', '')}"
    for name, version in COMPILED.items():
        if name != without:
            tag = f"{abi}-{abi}-manylinux_2_27_{machine}"
            make_wheel(folder, name, version, tag, 183 if name == alien else number)
    return folder


class Package:
    def __init__(self, path: Path) -> None:
        self.path = path
        archive = subprocess.run(["dpkg-deb", "--fsys-tarfile", path], capture_output=True, check=True).stdout
        self.tar = tarfile.TarFile(fileobj=io.BytesIO(archive))
        self.entries = {entry.name.removeprefix("./"): entry for entry in self.tar.getmembers()}

    def text(self, name: str) -> str:
        file = self.tar.extractfile(self.entries[name])
        assert file
        return file.read().decode()

    def field(self, name: str) -> str:
        done = subprocess.run(["dpkg-deb", "--field", self.path, name], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def control(self, folder: Path) -> Path:
        subprocess.run(["dpkg-deb", "--control", self.path, folder / "control"], check=True)
        return folder / "control"


@pytest.fixture(scope="module", params=[("amd64", "3.11"), ("arm64", "3.10")], ids="-".join)
def package(request: pytest.FixtureRequest, build: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Package:
    if shutil.which("dpkg-deb") is None:
        pytest.skip("no dpkg-deb here (apt-get install dpkg)")
    arch, python = request.param
    folder = tmp_path_factory.mktemp("deb")
    where = wheels(folder / "wheels", arch, python)
    return Package(build.build(build.Target(arch, python), folder / "out", where))


def python_of(package: Package) -> str:
    return package.field("Version").rpartition("+py")[2]


def site_of(package: Package) -> str:
    return f"opt/edgewarden/lib/python{python_of(package)}/site-packages"


def test_nothing_stands_outside_its_places(package: Package) -> None:
    places: tuple[str, ...] = ("opt/edgewarden", "usr/bin/edgewarden", "etc/edgewarden")
    places += ("usr/lib/systemd/system/edgewarden.service", "usr/lib/systemd/system/edgewarden.service.d/jetson.conf")
    places += ("usr/lib/sysusers.d/edgewarden.conf", "usr/lib/tmpfiles.d/edgewarden.conf")
    places += ("usr/share/doc/edgewarden", "usr/share/edgewarden")
    outside = [name for name, entry in package.entries.items() if not entry.isdir() and not name.startswith(places)]
    assert outside == []


def test_all_is_roots_and_nobody_else_may_write_it(package: Package) -> None:
    for name, entry in package.entries.items():
        assert (entry.uname, entry.gname, entry.uid, entry.gid) == ("root", "root", 0, 0), name
        if name == "etc/edgewarden/agent.toml":
            assert entry.mode == 0o640
        elif not entry.issym():
            program = entry.isdir() or name == "opt/edgewarden/bin/edgewarden"
            assert entry.mode == (0o755 if program else 0o644), name


def test_its_environment_is_the_systems_python(package: Package) -> None:
    python = python_of(package)
    links = {name: entry.linkname for name, entry in package.entries.items() if entry.issym()}
    assert links == {
        f"opt/edgewarden/bin/python{python}": f"/usr/bin/python{python}",
        "opt/edgewarden/bin/python3": f"python{python}",
        "opt/edgewarden/bin/python": f"python{python}",
        "usr/bin/edgewarden": "/opt/edgewarden/bin/edgewarden",
    }
    assert package.text("opt/edgewarden/bin/edgewarden").startswith("#!/opt/edgewarden/bin/python3\n")
    assert "home = /usr/bin\n" in package.text("opt/edgewarden/pyvenv.cfg")


def test_no_program_of_a_library_and_no_path_of_the_builder_came_along(package: Package) -> None:
    programs = {name for name in package.entries if name.startswith("opt/edgewarden/bin/")}
    assert {Path(name).name for name in programs} == {"edgewarden", "python", "python3", f"python{python_of(package)}"}
    libraries = f"{site_of(package)}/bin"
    assert not any("__pycache__" in name or name.startswith(libraries) for name in package.entries)
    shebangs = [
        package.text(name).partition("\n")[0]
        for name, entry in package.entries.items()
        if entry.isfile() and entry.mode & 0o111
    ]
    assert shebangs == ["#!/opt/edgewarden/bin/python3"]


def test_on_arm64_opencv_and_tensorrt_are_the_systems_and_numpy_fits_them(package: Package) -> None:
    site = site_of(package)
    is_jetson = package.field("Architecture") == "arm64"
    assert (f"{site}/opencv_python_headless/__init__.py" in package.entries) == (not is_jetson)
    assert f"{site}/onnxruntime/native.so" in package.entries
    assert f"{site}/numpy-1.26.4.dist-info/METADATA" in package.entries
    assert f"include-system-site-packages = {str(is_jetson).lower()}\n" in package.text("opt/edgewarden/pyvenv.cfg")
    assert ("libopencv-python" in package.field("Depends")) == is_jetson
    assert package.field("Recommends") == ("python3-libnvinfer" if is_jetson else "")


def test_it_is_for_one_python_and_one_that_is_newer_replaces_it(package: Package) -> None:
    major, minor = python_of(package).split(".")
    assert f"python3 (>= {major}.{minor}), python3 (<< {major}.{int(minor) + 1})" in package.field("Depends")
    has_tomli = f"{site_of(package)}/tomli/__init__.py" in package.entries
    assert has_tomli == (int(minor) < 11)


def test_the_unit_is_the_one_of_the_checkout_and_starts_what_is_there(package: Package) -> None:
    unit = package.text("usr/lib/systemd/system/edgewarden.service")
    assert unit == (REPOSITORY / "systemd" / "edgewarden.service").read_text(encoding="utf-8")
    assert "ExecStart=/opt/edgewarden/bin/edgewarden " in unit
    for_jetsons = "usr/lib/systemd/system/edgewarden.service.d/jetson.conf"
    assert (for_jetsons in package.entries) == (package.field("Architecture") == "arm64")
    assert "usr/share/edgewarden/drop-ins/jetson.conf" in package.entries


def test_sums_cover_every_file_and_the_configuration_is_dpkgs(package: Package, tmp_path: Path) -> None:
    control = package.control(tmp_path)
    assert (control / "conffiles").read_text() == "/etc/edgewarden/agent.toml\n"
    named = {line.split("  ", 1)[1] for line in (control / "md5sums").read_text().splitlines()}
    there = {name for name, entry in package.entries.items() if entry.isfile()}
    assert named == there - {"etc/edgewarden/agent.toml"}
    scripts = {path.name for path in control.iterdir() if path.stat().st_mode & 0o111}
    assert scripts == {"preinst", "postinst", "prerm", "postrm"}


def test_its_papers_are_where_debian_looks_for_them(package: Package) -> None:
    papers = "usr/share/doc/edgewarden"
    assert "Apache-2.0" in package.text(f"{papers}/copyright")
    file = package.tar.extractfile(package.entries[f"{papers}/changelog.gz"])
    assert file
    first = gzip.decompress(file.read()).decode().splitlines()[0]
    assert first == f"edgewarden ({package.field('Version')}) unstable; urgency=medium"
    assert all(len(line) <= 80 for line in package.field("Description").splitlines())


def test_no_script_touches_state_or_secrets() -> None:
    for script in (FOLDER / "scripts").iterdir():
        code = [line for line in script.read_text().splitlines() if not line.lstrip().startswith("#")]
        removals = [line.strip() for line in code if "rm -" in line or "rmdir" in line or "userdel" in line]
        for line in removals:
            assert "/var/lib/edgewarden" not in line
            assert "credentials" not in line
            assert "userdel" not in line
        assert script.read_text().startswith("#!/bin/sh\n")


def unpacked(site: Path, wheels: Path, *names: str) -> Path:
    for name in names:
        for wheel in wheels.glob(f"{name}-*.whl"):
            zipfile.ZipFile(wheel).extractall(site)
    return site


def test_a_library_for_another_machine_ends_the_build(build: ModuleType, tmp_path: Path) -> None:
    where = wheels(tmp_path / "wheels", "amd64", "3.11", alien="msgspec")
    site = unpacked(tmp_path / "site", where, "msgspec", "psutil")
    with pytest.raises(build.BuildError, match=r"msgspec/native.so is not for amd64"):
        build.check(build.Target("amd64", "3.11"), site)


def test_what_pip_does_not_see_from_here_is_missed_too(build: ModuleType, tmp_path: Path) -> None:
    site = unpacked(tmp_path / "site", wheels(tmp_path / "wheels", "arm64", "3.10"), "onnxruntime", "flatbuffers")
    with pytest.raises(build.BuildError, match=r"not among the wheels for arm64, Python 3.10: tomli"):
        build.check(build.Target("arm64", "3.10"), site)
    build.check(build.Target("arm64", "3.12"), site)


def test_a_wheel_that_is_not_there_is_named(build: ModuleType, tmp_path: Path) -> None:
    where = wheels(tmp_path / "wheels", "amd64", "3.11", without="pillow")
    with pytest.raises(build.BuildError, match="pillow"):
        build.build(build.Target("amd64", "3.11"), tmp_path, where)


@pytest.mark.parametrize("arch", ["amd64", "arm64"])
def test_its_environment_works_and_sees_the_systems_opencv_on_arm64_alone(
    build: ModuleType, tmp_path: Path, arch: str
) -> None:
    system = Path("/usr/bin/python3")
    ask = "import sys; print('%d.%d' % sys.version_info[:2]); import cv2; print(cv2.__file__)"
    done = subprocess.run([system, "-c", ask], capture_output=True, text=True, check=False)
    if done.returncode or "dist-packages" not in done.stdout:
        pytest.skip("no OpenCV of the system's, as JetPack has it (apt-get install python3-opencv)")
    python = done.stdout.split()[0]
    build.lay_out_environment(tmp_path, build.Target(arch, python))
    site = tmp_path / "opt/edgewarden/lib" / f"python{python}" / "site-packages"
    site.mkdir(parents=True)
    (site / "numpy.py").write_text("")
    asked = "import sys, numpy; from importlib.util import find_spec; cv2 = find_spec('cv2')\n"
    asked += "print(sys.prefix, numpy.__file__, cv2.origin if cv2 else 0)"
    inside = tmp_path / "opt/edgewarden/bin/python3"
    prefix, numpy, cv2 = subprocess.run(
        [inside, "-c", asked], capture_output=True, text=True, check=True
    ).stdout.split()
    assert prefix == str(tmp_path / "opt/edgewarden")
    assert numpy == str(site / "numpy.py"), "its own come first"
    assert cv2 == (done.stdout.split()[1] if arch == "arm64" else "0")


def test_versions_are_in_debians_order(build: ModuleType) -> None:
    target = build.Target("amd64", "3.11")
    versions = [build.debian_version(version, target) for version in ("1.0.dev3", "1.0rc1", "1.0", "1.0.1")]
    versions.append(build.debian_version("1.0.1", build.Target("amd64", "3.12")))
    assert versions[1] == "1.0~rc1+py3.11"
    if shutil.which("dpkg"):
        for older, newer in itertools.pairwise(versions):
            subprocess.run(["dpkg", "--compare-versions", older, "lt", newer], check=True)
