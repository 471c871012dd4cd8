"""``edgewarden doctor``: what this machine is, what runs on it, what is missing and the command that mends it.

The facts come from the files doctor_*.py beside this one, what is to be said of them from agent/board.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.errors import AgentError, in_words

if TYPE_CHECKING:
    from agent.board.finding import Finding
    from agent.config import Config

log = logging.getLogger(__name__)

SERVICE_FOLDER = Path("/etc/edgewarden")
SERVICE_PLACES = {
    "STATE_DIRECTORY": "/var/lib/edgewarden",
    "EDGEWARDEN_MODELS": "/var/lib/edgewarden/models",
    "EDGEWARDEN_CACHE": "/var/cache/edgewarden",
}
"""As in systemd/edgewarden.service."""
MARKS = {"ok": "ok", "missing": "MISSING", "warn": "look", "none": "-"}


@click.command(name="doctor")
@click.option(
    "--config",
    "-c",
    "path",
    type=click.Path(path_type=Path),
    help="Also look at this agent.toml: its secrets, model, broker and cameras, and what its daemon does now.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def command(path: Path | None, as_json: bool) -> None:
    """Say what this machine is, what runs on it, what is missing or could be better, and what mends it.

    Nothing is changed, and no camera is made to give pictures. Exits 1 when something is missing that this machine
    should have, 78 or 69 when the configuration is wrong or not there.
    """
    _look_where_the_service_does(path)
    config, error = _load(path)
    findings = list(gathered(Path("/"), path, config, error))
    if as_json:
        click.echo(json.dumps([finding._asdict() for finding in findings]))
    else:
        _show(findings)
    if error is not None:
        raise error
    missing = [finding.what for finding in findings if finding.state == "missing"]
    if missing:
        raise AgentError(f"missing: {', '.join(missing)}; the lines with an arrow (->) say what to do")


def gathered(
    root: Path, path: Path | None = None, config: Config | None = None, error: AgentError | None = None
) -> Iterator[Finding]:
    """All findings on the machine whose files lie below ``root``, and on a configuration. Never raises: what cannot be
    looked at is a finding too. No secret is in them."""
    from agent.secrecy import redacted

    for what, look in (*_machine(root, config), *_configured(path, config, error)):
        for finding in _looked(what, look):
            whole = finding._replace(found=redacted(finding.found), advice=redacted(finding.advice))
            yield whole.in_one_line()


Look = Callable[[], Iterable["Finding"]]


def _machine(root: Path, config: Config | None) -> Iterator[tuple[str, Look]]:
    from agent.board.files import is_there
    from agent.board.jetson import read_jetson
    from agent.cli import doctor_machine as machine
    from agent.cli import doctor_software as software

    jetson = bool(read_jetson(root).l4t)
    container = is_there(root / ".dockerenv") or is_there(root / "run/.containerenv")
    yield "machine", lambda: software.software_findings(root, container=container)
    yield "Python", lambda: software.python_findings(root, jetson=jetson)
    yield "power mode", lambda: machine.power_findings(root, jetson=jetson)
    limited = config is not None and (config.governor.limit is not None or bool(config.governor.limits))
    yield "temperatures", lambda: machine.sensor_findings(root, jetson=jetson, limited=limited)
    yield "cameras", lambda: machine.camera_findings(root, jetson=jetson, container=container)
    yield "memory", lambda: machine.room_findings(_state_dir(config), root)
    yield "clock", lambda: machine.clock_findings(root, container=container)
    yield "service", lambda: machine.service_findings(root)


def _configured(path: Path | None, config: Config | None, error: AgentError | None) -> Iterator[tuple[str, Look]]:
    from agent.cli import doctor_config as configured
    from agent.cli.doctor_network import network_findings

    if path is None:
        return
    yield "configuration", lambda: configured.config_findings(path, config, error)
    if config is None:
        return
    yield "secrets", lambda: configured.secret_findings(config)
    yield "model", lambda: configured.model_findings(config)
    yield "broker", lambda: network_findings(config)
    yield "agent", lambda: [configured.daemon(path, config)]


def _state_dir(config: Config | None) -> Path:
    """Of the configuration, else where it would be without a word about it."""
    from agent.config import CameraConfig, Config

    return (config or Config(camera=(CameraConfig(name="any", source="synthetic://desk"),))).state_dir


def _looked(what: str, look: Look) -> list[Finding]:
    from agent.board.finding import Finding

    found: list[Finding] = []
    try:
        found.extend(look())
    except Exception as error:  # a broken machine is what doctor is for
        log.debug("doctor: %s", what, exc_info=True)
        told = f"cannot be looked at: {in_words(error)}"
        found.append(Finding(what, "warn", told, "report it, with the output of: edgewarden doctor --json"))
    return found


def _look_where_the_service_does(path: Path | None) -> None:
    """The unit says in the environment where state, models and plans are; who asks by hand has not got it."""
    if path is not None and path.absolute().parent == SERVICE_FOLDER:
        for name, place in SERVICE_PLACES.items():
            os.environ.setdefault(name, place)


def _load(path: Path | None) -> tuple[Config | None, AgentError | None]:
    from agent.config import load

    if path is None:
        return None, None
    try:
        return load(path), None
    except AgentError as error:
        return None, error


def _show(findings: list[Finding]) -> None:
    width = max(len(finding.what) for finding in findings)
    for finding in findings:
        click.echo(f"{MARKS[finding.state]:8} {finding.what.ljust(width)}  {finding.found}")
        if finding.advice:
            click.echo(f"{'':8} {'':{width}}  -> {finding.advice}")
