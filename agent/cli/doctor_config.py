"""The facts that ``doctor`` gathers of one agent.toml: its faults, secrets and model; what its daemon says.

Who answers on the network is doctor_network.py's.
"""

from __future__ import annotations

import json
import os
import stat
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from agent.errors import AgentError, ConfigError

if TYPE_CHECKING:
    from agent.board.configured import SecretFile
    from agent.board.finding import Finding
    from agent.config import Config

STALE_SECONDS = 30.0
SECRETS = ("password", "secret", "token", "api_key")


def config_findings(path: Path, config: Config | None, error: AgentError | None) -> Iterator[Finding]:
    """The configuration itself; ``error``: why it could not be loaded."""
    from agent.board.configured import ConfigFile, configuration, permissions

    if config is None:
        yield configuration(str(path), str(error).splitlines() or ["not a configuration"])
        return
    yield configuration(str(path), list(_faults(config)))
    mode = stat.S_IMODE(path.stat().st_mode)
    yield permissions(ConfigFile(str(path), mode, tuple(secret_keys(_table(path)))))


def secret_findings(config: Config) -> Iterator[Finding]:
    """The files that hold passwords."""
    from agent.board.configured import secret_file

    for camera in config.camera:
        if camera.password_file:
            yield secret_file(_secret(f"of camera {camera.name}", camera.password_file))
    for name, table in config.plugins.items():
        for key, value in table.items():
            if key.endswith("_file") and isinstance(value, str) and value:
                yield secret_file(_secret(f"plugins.{name}.{key}", value))


def model_findings(config: Config) -> Iterator[Finding]:
    """The model package that is chosen, and the models folder."""
    from agent.board.configured import model
    from agent.detection.model import find_package, list_packages, models_dir
    from agent.errors import ModelError

    fault = ""
    try:
        find_package(config.model.path)
    except ModelError as error:
        fault = str(error).splitlines()[0]
    listed = list_packages(models_dir())
    broken = {one.folder.name: one.fault for one in listed if one.fault}
    yield model(config.model.path, fault, [one.folder.name for one in listed], broken)


def daemon(path: Path, config: Config) -> Finding:
    """What the daemon has chosen, and why, from the status that it writes."""
    from agent.board.finding import Finding

    status = config.state_dir / "status.json"
    try:
        told = json.loads(status.read_bytes())
        health, age = told["health"], time.time() - status.stat().st_mtime
        found = f"{_running(told, age)}: {_engine(health)}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Finding("agent", "none", f"{status}: no daemon has written it; edgewarden run --config {path}")
    if age < STALE_SECONDS:
        return Finding("agent", "ok", found)
    return Finding("agent", "warn", found, f"systemctl status edgewarden, or: edgewarden run --config {path}")


def secret_keys(table: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """The paths of the keys that hold a secret themselves: a password, or an address with one in it."""
    for key, value in table.items():
        where = f"{before}{key}"
        if isinstance(value, Mapping):
            yield from secret_keys(value, f"{where}.")
        elif isinstance(value, list):
            for index, one in enumerate(value):
                if isinstance(one, Mapping):
                    yield from secret_keys(one, f"{where}[{index}].")
        elif isinstance(value, str) and value and (_is_secret(key) or _has_password(value)):
            yield where


def _faults(config: Config) -> Iterator[str]:
    """What ``check`` would say of plugins, zones and masks; nothing is opened or made."""
    from agent.cli.check import build_places, plugin_faults

    for what, error in plugin_faults(config):
        if error is not None:
            yield f"{what}: {error}"
    for camera in config.camera:
        try:
            build_places(config, camera)
        except ConfigError as error:
            yield str(error)


def _secret(key: str, named: str) -> SecretFile:
    from agent.board.configured import SecretFile
    from agent.config import secret_path

    try:
        file = secret_path(named, key)
        mode = stat.S_IMODE(file.stat().st_mode)
    except ConfigError:
        return SecretFile(key, named, 0, "no credential of this name")
    except (OSError, ValueError, RuntimeError) as error:
        return SecretFile(key, named, 0, getattr(error, "strerror", None) or str(error))
    return SecretFile(key, named, mode, "" if os.access(file, os.R_OK) else "this user may not read it")


def _table(path: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    return table


def _is_secret(key: str) -> bool:
    return any(word in key.lower() for word in SECRETS) and not key.lower().endswith(("_file", "_path"))


def _has_password(value: str) -> bool:
    try:
        return bool(urlsplit(value).password)
    except ValueError:
        return False


def _running(told: dict[str, Any], age: float) -> str:
    pid = told.get("pid")
    alive = isinstance(pid, int) and os.path.exists(f"/proc/{pid}")
    return f"running (pid {pid})" if alive and age < STALE_SECONDS else f"not running since {age:.0f} s"


def _engine(health: dict[str, Any]) -> str:
    why = f"; {health['choice']}" if health.get("choice") else ""
    each = "; ".join(f"{name}: {told}" for name, told in health.get("precisions", {}).items())
    return f"{health.get('precision')} on {health.get('backend')}{why}" + (f" [{each}]" if each else "")
