"""Installing, upgrading and leaving, under a real systemd: by install.sh on a plain Debian, and by the Debian package.

What is looked at: the service works, state outlives every step, no camera is blind for long, and in the end nothing but
state is left.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from container import PYTHON, REPOSITORY, VENV, WHEELS
from scenes import NODE, PASSWORD, UNIT, Stage
from waiting import wait_until

CONFIG = """
[agent]
name = "node"
[model]
threads = 1
[[camera]]
name = "cam"
source = "synthetic://desk?fps=10&size=320x240"
[plugins.mqtt]
host = "127.0.0.1"
port = {port}
username = "edge"
password_file = "credential:mqtt.password"
detections_rate = 20
"""
CREDENTIALS = (REPOSITORY / "systemd" / "drop-ins" / "credentials.conf").read_text(encoding="utf-8")
OLDER, NEWER = "0.0.8", "0.0.9"
DROP_IN = f"/etc/systemd/system/{UNIT}.d/credentials.conf"
AGENT_TOML = "/etc/edgewarden/agent.toml"
SECRET = "/etc/edgewarden/credentials/mqtt.password"
EVENTS = "/var/lib/edgewarden/events.db"
INSTALL = ("env", "PIP_NO_INDEX=1", f"PIP_FIND_LINKS={WHEELS}", "/opt/source/deploy/jetson/install.sh")
# What is somebody's: written by whoever runs the box, or the daemon's memory; and the user who owns that.
STATE = (AGENT_TOML, SECRET, DROP_IN, "/var/lib/edgewarden/")
# Changed by any package or user that comes: dpkg's and systemd's own books.
ACCOUNTS = ("/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow", "/etc/subuid", "/etc/subgid", "/etc/.pwd.lock")
CACHES = ("/usr/lib/python3", "/var/cache/ldconfig/", "/var/cache/apt/", "/var/log/", "/var/lib/systemd/catalog/")
BOOKS = (
    *ACCOUNTS,
    *CACHES,
    "/var/lib/dpkg/",
    "/var/lib/apt/",
    "/var/lib/systemd/timers/",
    "/var/lib/systemd/timesync/",
)
LOOK = f"find /etc /opt /usr /var ( -path /opt/source -o -path {WHEELS} ) -prune -o ! -type d -print".split()


def by_script(stage: Stage) -> str:
    """install.sh on a plain Debian: installed, upgraded, downgraded, and gone: nothing but state is left."""
    strip(stage)
    before = files(stage)
    began = time.monotonic()
    said = run_script(stage, OLDER)
    first = time.monotonic() - began
    assert "found: plain" in said
    assert "next: edit /etc/edgewarden/agent.toml" in said
    assert (stage.state("UnitFileState"), stage.state("ActiveState")) == ("enabled", "inactive")
    configure(stage)
    stage.inferring_again(lambda: stage.systemctl("start"))
    upgrade = upgraded(stage, lambda: run_script(stage, NEWER))
    downgrade = upgraded(stage, lambda: run_script(stage, OLDER))
    stage.container.run(*INSTALL, "--uninstall")
    left_state_alone(stage, before)
    return f"installed in {first:.0f} s; up: {upgrade}; down: {downgrade}; uninstalled, state is there, nothing else"


def run_script(stage: Stage, version: str) -> str:
    """install.sh, from a checkout of that version; what it said."""
    stage.container.run("sed", "-i", f"s/^version = .*/version = {version}/", "/opt/source/setup.cfg")
    said = stage.container.run(*INSTALL, timeout=600)
    assert version_of(stage, f"{VENV}/bin/edgewarden") == version
    return said


def version_of(stage: Stage, program: str) -> str:
    return stage.container.run(program, "--version").split()[-1]


def by_package(stage: Stage) -> str:
    """The Debian package: installed, upgraded, downgraded, a configuration that is not for it, purged."""
    strip(stage)
    before = files(stage)
    older, newer = package(stage, OLDER), package(stage, NEWER)
    began = time.monotonic()
    stage.container.run("dpkg", "-i", older, timeout=300)
    first = time.monotonic() - began
    assert (stage.state("UnitFileState"), stage.state("ActiveState")) == ("enabled", "inactive")
    assert version_of(stage, "edgewarden") == OLDER
    assert stage.container.run("stat", "-c", "%U:%G %a", AGENT_TOML).strip() == "root:edgewarden 640"
    configure(stage)
    stage.inferring_again(lambda: stage.systemctl("start"))
    upgrade = upgraded(stage, lambda: stage.container.run("dpkg", "-i", newer, timeout=300))
    assert version_of(stage, "edgewarden") == NEWER
    downgrade = upgraded(stage, lambda: stage.container.run("dpkg", "-i", older, timeout=300))
    assert version_of(stage, "edgewarden") == OLDER
    goes_on_with_a_configuration_of_another_version(stage)
    used = stage.container.run("du", "-sm", VENV).split()[0]
    stage.container.run("dpkg", "--remove", "edgewarden", timeout=120)
    assert not stage.container.run("find", VENV, "/usr/bin/edgewarden", check=False)
    assert 'name = "node"' in written(stage)[0], "removed, but not purged"
    stage.container.run("dpkg", "--purge", "edgewarden", timeout=120)
    left_state_alone(stage, before, but=(AGENT_TOML,))
    return (
        f"installed in {first:.0f} s, {used} MB; up: {upgrade}; down: {downgrade}; purged, state is there, nothing else"
    )


def strip(stage: Stage) -> None:
    """Away with what was installed by hand, and its state: as if nothing had ever been there."""
    stage.systemctl("stop", check=False)
    stage.container.run("systemctl", "disable", UNIT, check=False)
    stage.container.run("sh", "-c", f"rm -rf {VENV} /etc/systemd/system/{UNIT} /etc/systemd/system/{UNIT}.d")
    stage.container.run("umount", "/var/lib/edgewarden", check=False)  # the full disk of an earlier scene
    stage.container.run("sh", "-c", "rm -rf /etc/edgewarden /var/lib/edgewarden /var/cache/edgewarden /opt/models")
    stage.container.run("sh", "-c", "rm -f /etc/sysusers.d/edgewarden.conf /etc/tmpfiles.d/edgewarden.conf")
    stage.container.run("systemctl", "daemon-reload")
    stage.container.run("systemctl", "reset-failed", check=False)


def configure(stage: Stage) -> None:
    """As whoever runs the box does: agent.toml, a password, a drop-in for it."""
    stage.container.run("sh", "-c", f"cat > {AGENT_TOML}", text=CONFIG.format(port=stage.broker.port))
    stage.container.write(SECRET, PASSWORD + "\n", "0600")
    stage.container.write(DROP_IN, CREDENTIALS)
    stage.container.run("systemctl", "daemon-reload")


def package(stage: Stage, version: str) -> str:
    """The package of this tree, under that version; where it is in the container."""
    script = REPOSITORY / "deploy" / "debian" / "build.py"
    words = ["--arch", "amd64", "--python", PYTHON, "--wheels", str(stage.wheels), "--out", str(stage.folder)]
    words += ["--level", "1", "--version", version]
    done = subprocess.run([sys.executable, script, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    made = Path(done.stdout.split()[0])
    inside = f"/opt/source/{made.name}"
    stage.container.copy(made, inside)
    made.unlink()
    return inside


def upgraded(stage: Stage, do: Callable[[], object]) -> str:
    """Another version over what runs: what was there before is there after; seconds that it took, and was blind for."""
    stage.more("camera/cam/events")
    kept = (logged(stage), written(stage))
    began = time.monotonic()
    stage.inferring_again(do, timeout=300)
    seconds = time.monotonic() - began
    log, texts = kept
    assert log, "there were events in the log"
    assert log <= logged(stage), "events have gone from the log"
    assert texts == written(stage), "the configuration or a secret has changed"
    stage.more("camera/cam/events")
    return f"{seconds:.0f} s, blind for {blind(stage, began):.1f} s of them"


def blind(stage: Stage, since: float) -> float:
    """The longest time between two pictures that were inferred, of the last minutes."""
    told = [json.loads(one.payload)["captured_at"] for one in stage.subscriber.on(f"{NODE}/camera/cam/detections")]
    late = [at for at in told if at > time.time() - (time.monotonic() - since) - 5.0]
    return max(float(after - before) for before, after in itertools.pairwise(late))


def goes_on_with_a_configuration_of_another_version(stage: Stage) -> None:
    """A version that does not know a key of agent.toml: what runs goes on, and it is told."""
    pid = stage.pid
    stage.container.run("sh", "-c", f"sed -i 's/^name = \"node\"$/&\\nof_another_version = 1/' {AGENT_TOML}")
    command = f"DPKG_MAINTSCRIPT_PACKAGE=edgewarden /var/lib/dpkg/info/edgewarden.postinst configure {OLDER} 2>&1"
    said = stage.container.run("sh", "-c", command)
    assert "is not for this version; not restarted" in said
    assert "of_another_version" in said
    assert stage.pid == pid
    stage.more("camera/cam/detections")
    stage.container.run("sed", "-i", "/of_another_version/d", AGENT_TOML)


def logged(stage: Stage) -> set[str]:
    """Which messages are in the event log."""
    query = "select stream || '/' || seq from messages"
    opened = f"sqlite3.connect('file:{EVENTS}?mode=ro', uri=True)"
    program = f"import sqlite3; [print(row[0]) for row in {opened}.execute({query!r})]"
    return set(stage.container.run("python3", "-c", program).split())


def written(stage: Stage) -> list[str]:
    """What whoever runs the box has written."""
    return [stage.container.run("cat", path) for path in (AGENT_TOML, SECRET, DROP_IN)]


def files(stage: Stage) -> set[str]:
    """All files there are, but for those that any package changes."""
    found = stage.container.run(*LOOK).splitlines()
    return {path for path in found if not path.startswith(BOOKS)}


def left_state_alone(stage: Stage, before: set[str], but: tuple[str, ...] = ()) -> None:
    """Nothing has come since ``before`` but state, and the state is there; ``but``: what has gone."""
    left = files(stage) - before
    more = sorted(path for path in left if not path.startswith(STATE))
    assert not more, f"left: {', '.join(more[:10])}"
    assert not before - files(stage), "what others had is there"
    for path in {SECRET, DROP_IN, EVENTS, AGENT_TOML} - set(but):
        assert path in left, f"gone: {path}"
    assert stage.container.run("id", "-un", "edgewarden").strip() == "edgewarden"
    wait_until(lambda: stage.state("ActiveState") == "inactive", 30, "nothing runs any more")


DEPLOYMENT: tuple[Callable[[Stage], str], ...] = (by_script, by_package)
