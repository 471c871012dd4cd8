"""The service: its unit as systemd knows it, the user that it runs as, the secrets that it is given, the watchdogs.

systemd is asked by whoever calls; here its answer is understood, and the files of the unit are read.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from agent.board.files import found, is_there, text
from agent.board.finding import Finding

NAME = "edgewarden"
PROPERTIES = (
    "LoadState,UnitFileState,ActiveState,SubState,Result,User,NRestarts,WatchdogUSec,ExecMainStatus,NeedDaemonReload"
)
PLACES = ("etc/systemd/system", "usr/local/lib/systemd/system", "usr/lib/systemd/system", "lib/systemd/system")
GROUPS = ("video", "render")
JOURNAL = f"journalctl -u {NAME} -b -n 50"
WRONG_CONFIGURATION, NO_CREDENTIALS = "78", "243"
MANY_RESTARTS = 5
FEED = (
    "printf '[Manager]\\nRuntimeWatchdogSec=30s\\n' | sudo tee /etc/systemd/system.conf.d/watchdog.conf"
    "  # mkdir -p the folder before; sudo systemctl daemon-reexec after"
)


class Credential(NamedTuple):
    """A secret that the unit names. ``fault``: what is wrong with its file, empty also where this user may not look."""

    name: str
    path: str
    fault: str


class Unit(NamedTuple):
    """``told``: properties by name, None without systemd; ``file``: where the unit lies. ``groups``: which of those it
    needs has its user, None where nobody says; ``watchdog``: whether the board has one, and systemd feeds it."""

    told: Mapping[str, str] | None
    file: str
    credentials: tuple[Credential, ...] = ()
    lacks: tuple[str, ...] = ()
    watchdog: bool = False
    fed: bool = False


def properties(answer: str) -> dict[str, str]:
    """``systemctl show``'s answer: a property a line."""
    return {key: value for line in answer.splitlines() for key, equals, value in [line.partition("=")] if equals}


def read_unit(root: Path, told: Mapping[str, str] | None, *, fed: bool = False) -> Unit:
    """What lies below the root, beside what systemd ``told``. Never raises."""
    files = [path for place in PLACES for path in found(root, f"{place}/{NAME}.service")]
    more = [path for place in PLACES for path in found(root, f"{place}/{NAME}.service.d/*.conf")]
    lines = [line.strip() for path in [*files[:1], *more] for line in text(path).splitlines()]
    user = next((line.partition("=")[2].strip() for line in reversed(lines) if line.startswith("User=")), "")
    return Unit(
        told,
        f"/{files[0].relative_to(root)}" if files else "",
        tuple(_credentials(root, lines)),
        _lacking(root, user),
        watchdog=is_there(root / "dev/watchdog"),
        fed=fed,
    )


def unit_findings(unit: Unit) -> Iterator[Finding]:
    """The service, its secrets and the board's watchdog."""
    if unit.told is None:
        yield Finding("service", "none", "no systemd here")
        return
    yield service(unit, unit.told)
    if unit.file and unit.lacks:
        yield groups(unit)
    for credential in unit.credentials:
        yield credential_finding(credential)
    yield hardware_watchdog(unit)


def service(unit: Unit, told: Mapping[str, str]) -> Finding:
    """Whether it is installed, comes back after a restart of the machine, and runs."""
    what, state = "service", told.get("ActiveState", "")
    if told.get("LoadState") in ("not-found", None, "") and not unit.file:
        return Finding(what, "none", "not installed; docs/service.md says how, deploy/jetson/install.sh does it")
    if told.get("LoadState") in ("masked", "bad-setting", "error", "not-found"):
        advice = (
            "sudo systemctl unmask edgewarden; sudo systemctl daemon-reload; systemd-analyze verify edgewarden.service"
        )
        return Finding(what, "warn", f"{unit.file or NAME}: {told['LoadState']}", advice)
    if state not in ("active", "reloading", "activating"):
        return Finding(what, "warn", f"{state or 'unknown'}{_why(told)}", _start_advice(told))
    return _running(what, told)


def groups(unit: Unit) -> Finding:
    """Whether the service's user may open cameras and GPUs."""
    advice = " && ".join(f"sudo usermod -aG {name} {NAME}" for name in unit.lacks)
    advice += f" && sudo systemctl restart {NAME}"
    return Finding("service's user", "warn", f"is not in {' and '.join(unit.lacks)}", advice)


def credential_finding(credential: Credential) -> Finding:
    """A secret's file; of its content nothing is said, nor read."""
    what = f"credential {credential.name}"
    if not credential.fault:
        return Finding(what, "ok", credential.path)
    if "missing" in credential.fault:
        advice = f"write the secret alone into it, or take its line out of the drop-in; sudo systemctl restart {NAME}"
        return Finding(what, "missing", f"{credential.path}: {credential.fault}; the service cannot start", advice)
    return Finding(what, "warn", f"{credential.path}: {credential.fault}", f"sudo chmod 600 {credential.path}")


def hardware_watchdog(unit: Unit) -> Finding:
    """systemd's watch over the daemon helps while systemd lives; a board that hangs needs its own."""
    what = "hardware watchdog"
    if not unit.watchdog:
        return Finding(what, "none", "none here")
    if unit.fed:
        return Finding(what, "ok", "systemd feeds it")
    return Finding(what, "warn", "there, and nobody feeds it: a board that hangs stays so", FEED)


def _running(what: str, told: Mapping[str, str]) -> Finding:
    user = told.get("User") or "root"
    restarts = told.get("NRestarts", "0")
    watched = "watched" if told.get("WatchdogUSec", "0") not in ("0", "", "infinity") else "not watched"
    found_ = f"{told.get('ActiveState')} ({told.get('SubState', '?')}) as {user}, {restarts} restarts, {watched}"
    if user == "root":
        return Finding(
            what, "warn", found_, "sudo systemctl edit edgewarden  # User=edgewarden; systemd/sysusers.d makes it"
        )
    if told.get("UnitFileState") not in ("enabled", "enabled-runtime", "static", "generated", "alias"):
        return Finding(what, "warn", f"{found_}; not started with the machine", f"sudo systemctl enable {NAME}")
    if told.get("NeedDaemonReload") == "yes":
        return Finding(
            what,
            "warn",
            f"{found_}; its unit has changed",
            f"sudo systemctl daemon-reload && sudo systemctl restart {NAME}",
        )
    if told.get("SubState") == "auto-restart" or (restarts.isdigit() and int(restarts) >= MANY_RESTARTS):
        return Finding(what, "warn", f"{found_}: it keeps ending", JOURNAL)
    if watched == "not watched":
        return Finding(what, "warn", found_, "sudo systemctl edit edgewarden  # [Service] Type=notify, WatchdogSec=30")
    return Finding(what, "ok", found_)


def _why(told: Mapping[str, str]) -> str:
    status = told.get("ExecMainStatus", "0")
    result = told.get("Result", "success")
    return "" if result in ("success", "") else f" ({result}, status {status})"


def _start_advice(told: Mapping[str, str]) -> str:
    status = told.get("ExecMainStatus", "0")
    if status == WRONG_CONFIGURATION:
        return "sudo edgewarden check --config /etc/edgewarden/agent.toml  # mend what it names, then start the service"
    if status == NO_CREDENTIALS:
        return "a file that LoadCredential= names is missing: systemctl cat edgewarden"
    if told.get("Result", "success") not in ("success", ""):
        return f"{JOURNAL}; then sudo systemctl start {NAME}"
    return f"sudo systemctl enable --now {NAME}"


def _credentials(root: Path, lines: list[str]) -> Iterator[Credential]:
    for line in lines:
        match = re.match(r"LoadCredential(?:Encrypted)?=([^:\s]+):(\S+)$", line)
        if match:
            yield Credential(match[1], match[2], _secret_fault(root / match[2].lstrip("/")))


def _secret_fault(path: Path) -> str:
    try:
        mode = os.stat(path).st_mode
    except PermissionError:
        return ""  # as it should be: root's alone
    except (OSError, ValueError):
        return "missing"
    return f"others may read it (mode {stat.S_IMODE(mode):o})" if mode & (stat.S_IRGRP | stat.S_IROTH) else ""


def _lacking(root: Path, user: str) -> tuple[str, ...]:
    """Which of the groups the user is not in, of those that there are."""
    if not user or user == "root":
        return ()
    rows = [line.split(":") for line in text(root / "etc/group").splitlines()]
    members = {row[0]: row[3].strip().split(",") for row in rows if len(row) >= 4}
    return tuple(name for name in GROUPS if name in members and user not in members[name])
