"""A Debian with systemd in a container of systemd-nspawn: made once, booted for a test, and nothing of that stays.

What is done in it is scenes.py's. It shares the network of this machine, so that a broker here and the service meet.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from waiting import wait_until

REPOSITORY = Path(__file__).resolve().parents[2]
SUITE = "bookworm"
PACKAGES = "systemd,systemd-sysv,dbus,procps,python3,python3-venv"
PYTHON = "3.11"  # that of the suite
VENV = "/opt/edgewarden"
WHEELS = "/opt/wheels"
SHIPPED = ("agent", "plugins", "setup.cfg", "pyproject.toml", "README.md", "LICENSE", "systemd", "deploy")
PROGRAMS = {"systemd-nspawn": "systemd-container", "debootstrap": "debootstrap", "nsenter": "util-linux"}


class NoContainerError(Exception):
    """None can be made or booted here; why."""


def why_not() -> str:
    """Why no container can be booted here; empty when one can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "it needs root on Linux"
    missing = sorted({package for program, package in PROGRAMS.items() if shutil.which(program) is None})
    return f"missing: apt-get install {' '.join(missing)}" if missing else ""


def default_root() -> Path:
    """Where the Debian is kept between runs: ``$EDGEWARDEN_SYSROOT``, else below /var/tmp."""
    return Path(os.environ.get("EDGEWARDEN_SYSROOT") or "/var/tmp/edgewarden-sysroot")


def prepare(root: Path, say: Callable[[str], None]) -> None:
    """Debian, an environment with what edgewarden needs, and this edgewarden in it. Minutes at first, then seconds."""
    if not (root / "usr/bin/python3").exists():
        say(f"debootstrap {SUITE} into {root} (once, some minutes)")
        root.mkdir(parents=True, exist_ok=True)
        _run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(root))
    for file in ("/etc/resolv.conf", "/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt"):
        if Path(file).exists():
            target = root / file[1:]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            shutil.copyfile(file, target)
    wanted = hashlib.sha256((REPOSITORY / "setup.cfg").read_bytes()).hexdigest()
    mark = root / "opt" / "installed"
    source = root / "opt" / "source"
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir(parents=True)
    for name in SHIPPED:
        path = REPOSITORY / name
        copy = shutil.copytree if path.is_dir() else shutil.copyfile
        copy(path, source / name)
    pip = [f"{VENV}/bin/python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    if not mark.exists() or mark.read_text() != wanted or not (root / WHEELS[1:]).exists():
        say(f"an environment in {VENV}, and wheels in {WHEELS} (once)")
        _in(root, "python3", "-m", "venv", VENV)
        _in(root, *pip, "/opt/source[signed]")
        _keep_wheels(root)
        mark.write_text(wanted)
    else:
        _in(root, *pip, "--no-deps", "--force-reinstall", "/opt/source")


def _keep_wheels(root: Path) -> None:
    """The wheels of what is in the environment, and of what builds ours: deployment.py installs without a network."""
    site = root / VENV[1:] / "lib" / f"python{PYTHON}" / "site-packages"
    found = [(one.metadata["Name"], one.version) for one in importlib.metadata.distributions(path=[str(site)])]
    wanted = [f"{name}=={version}" for name, version in found if name not in ("edgewarden", "pip", "setuptools")]
    shutil.rmtree(root / WHEELS[1:], ignore_errors=True)
    pip = (f"{VENV}/bin/python", "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps")
    _in(root, *pip, "--dest", WHEELS, *wanted, "setuptools>=70.1", "wheel")


def _in(root: Path, *words: str) -> None:
    environment = {
        name: value for name, value in os.environ.items() if name.startswith("PIP_") or "_proxy" in name.lower()
    }
    environment |= {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8"}
    if (root / "etc/ssl/certs/ca-certificates.crt").exists():
        environment["PIP_CERT"] = "/etc/ssl/certs/ca-certificates.crt"
    _run("chroot", str(root), *words, environment=environment)


def _run(*words: str, environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise NoContainerError(f"{' '.join(words[:6])}…: {(done.stderr or done.stdout)[-1500:]}")


class Container:
    """A booted one."""

    def __init__(self, process: subprocess.Popen[bytes], leader: int) -> None:
        self._process = process
        self._leader = leader

    def run(self, *words: str, check: bool = True, text: str | None = None, timeout: float = 120.0) -> str:
        """Run a program in it as root; what it said on stdout."""
        command = [
            "nsenter",
            "--target",
            str(self._leader),
            "--all",
            "--",
            "env",
            "-i",
            "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
        ]
        done = subprocess.run(
            [*command, "SYSTEMD_COLORS=0", "LC_ALL=C.UTF-8", *words],
            input=text, capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip
        if check and done.returncode:
            raise AssertionError(f"{' '.join(words)}: {done.returncode}: {done.stderr or done.stdout}")
        return done.stdout

    def write(self, path: str, content: str, mode: str = "0644") -> None:
        """A file in it."""
        self.run("install", "-D", "-m", mode, "/dev/stdin", path, text=content)

    def copy(self, file: Path, path: str) -> None:
        """A file of this machine's, into it."""
        shutil.copyfile(file, f"/proc/{self._leader}/root{path}")

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """What systemd knows of a unit."""
        said = self.run("systemctl", "show", unit, *(f"--property={name}" for name in properties))
        return dict(line.split("=", 1) for line in said.splitlines() if "=" in line)

    def journal(self, unit: str, *words: str) -> str:
        """What a unit has said."""
        return self.run("journalctl", "--no-pager", "-u", unit, *words, check=False)

    def stop(self) -> None:
        """Power it off."""
        with contextlib.suppress(subprocess.SubprocessError, AssertionError):
            self.run("systemctl", "poweroff", check=False, timeout=30)
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.terminate()
            self._process.wait(30)


@contextlib.contextmanager
def booted(root: Path, log: Path, timeout: float = 120.0) -> Iterator[Container]:
    """Boot it; what it writes is in memory and gone at the end (``--volatile=overlay``)."""
    command = ["systemd-nspawn", "-D", str(root), "--boot", "--register=no", "--keep-unit", "--volatile=overlay"]
    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, start_new_session=True)
    try:
        container = Container(process, _leader(process, time.monotonic() + timeout))
        _wait_for_boot(container, time.monotonic() + timeout)
        try:
            yield container
        finally:
            container.stop()
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait(30)


def _leader(process: subprocess.Popen[bytes], deadline: float) -> int:
    """The process that is number 1 inside."""
    found: list[int] = []

    def there() -> bool:
        if process.poll() is not None:
            raise NoContainerError(f"systemd-nspawn ended with {process.returncode}")
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        found.extend(int(child) for child in children if _number_inside(child) == "1")
        return bool(found)

    _until(there, deadline, "systemd-nspawn started no container")
    return found[0]


def _number_inside(process: str) -> str:
    """What a process is called in its own namespace; empty when it is gone."""
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
        return next(line for line in lines if line.startswith("NSpid:")).split()[-1]
    return ""


def _wait_for_boot(container: Container, deadline: float) -> None:
    state = ""

    def up() -> bool:
        nonlocal state
        state = container.run("systemctl", "is-system-running", check=False).strip()
        return state in ("running", "degraded")

    try:
        _until(up, deadline, "the container did not come up")
    except NoContainerError as error:
        raise NoContainerError(f"{error}: {state}") from None


def _until(condition: Callable[[], bool], deadline: float, otherwise: str) -> None:
    try:
        wait_until(condition, deadline - time.monotonic(), otherwise)
    except AssertionError as error:
        raise NoContainerError(str(error)) from None
