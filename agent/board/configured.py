"""What ``doctor`` says of one agent.toml: is it right, can others read its secrets, is what it names there. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from agent.board.finding import Finding

OTHERS_READ = 0o004


class ConfigFile(NamedTuple):
    """``mode``: its permissions; ``secret_keys``: paths of keys that hold a secret themselves, never what they hold."""

    path: str
    mode: int
    secret_keys: tuple[str, ...]


class SecretFile(NamedTuple):
    """A file that a configuration names for a secret. ``fault``: why it cannot be read; ``mode``: of what is there."""

    key: str
    path: str
    mode: int
    fault: str


class Reached(NamedTuple):
    """Somebody on the network. ``fault``: why no connection came about, empty when one did."""

    what: str
    address: str
    fault: str


def configuration(path: str, faults: Sequence[str]) -> Finding:
    """Whether the daemon would start with it."""
    if not faults:
        return Finding("configuration", "ok", path)
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    advice = f"edgewarden check --config {path}  # names all of it"
    return Finding("configuration", "warn", f"{faults[0]}{more}", advice)


def permissions(file: ConfigFile) -> Finding:
    """Who may read the file, if secrets stand in it."""
    what = "secrets"
    if not file.secret_keys:
        return Finding(what, "ok", f"none stand in {file.path} itself")
    told = f"{', '.join(file.secret_keys)} of {file.path}"
    if file.mode & OTHERS_READ:
        return Finding(what, "warn", f"everybody may read {told} (mode {file.mode:o})", f"chmod o= {file.path}")
    return Finding(what, "ok", f"{told}: for owner and group alone (mode {file.mode:o}); a password_file is better")


def secret_file(file: SecretFile) -> Finding:
    """A file with a password: there, and for nobody else's eyes."""
    what = f"secret {file.key}"
    if file.fault:
        advice = f"write the password alone into {file.path}: install -m 600 /dev/null {file.path}; then edit it"
        if file.path.startswith("credential:"):
            advice = (
                "the service gets it by LoadCredential=: systemd/drop-ins/credentials.conf; here nobody passes it on"
            )
        return Finding(what, "warn", f"{file.path}: {file.fault}", advice)
    if file.mode & OTHERS_READ:
        return Finding(
            what, "warn", f"{file.path}: everybody may read it (mode {file.mode:o})", f"chmod 600 {file.path}"
        )
    return Finding(what, "ok", file.path)


def model(named: str, fault: str, packages: Sequence[str], broken: Mapping[str, str]) -> Finding:
    """The package that is used, with the hashes of its files, and what else lies in the models folder."""
    others = f"; {len(packages)} in the models folder" if packages else ""
    if fault:
        return Finding("model", "warn", fault, "edgewarden model list; edgewarden model add FILE.onnx --name NAME")
    if broken:
        name, why = next(iter(broken.items()))
        advice = f"edgewarden model add … --name {name} --replace  # or remove the folder"
        return Finding("model", "warn", f"{named} is whole; but {name}: {why}", advice)
    return Finding("model", "ok", f"{named}: its files are what model.toml names{others}")


def reached(one: Reached) -> Finding:
    """A broker or a camera on the network."""
    if not one.fault:
        return Finding(one.what, "ok", f"{one.address} accepts connections")
    host = one.address.rpartition(":")[0]
    advice = f"ping {host}; is it on, is the address right, does a firewall stand between"
    if "not known" in one.fault:
        advice = f"getent hosts {host}  # the name server does not know it: give its address, or mend /etc/resolv.conf"
    elif "refused" in one.fault:
        advice = f"{host} is on, but nothing listens there: start it, or correct the port"
    return Finding(one.what, "warn", f"{one.address}: {one.fault}", advice)


def local_camera(name: str, path: str, *, there: bool) -> Finding:
    """A camera of the configuration that is a device of this machine."""
    if there:
        return Finding(f"camera {name}", "ok", f"{path} is there")
    return Finding(
        f"camera {name}", "warn", f"{path}: no such device", "ls /dev/v4l/by-id  # plug it in, or name another"
    )
