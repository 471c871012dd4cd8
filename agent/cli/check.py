"""``edgewarden check``: everything that can be wrong before the daemon starts, found without starting it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.cli import table
from agent.errors import AgentError, ConfigError

if TYPE_CHECKING:
    from agent.config import CameraConfig, Config
    from agent.host.extensions import Extensions
    from agent.sources.base import Source


@click.command(name="check")
@click.option("--config", "-c", "path", type=click.Path(path_type=Path), required=True, help="The agent.toml to check.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def command(path: Path, as_json: bool) -> None:
    """Validate a configuration against this machine: keys, plugins, model, cameras, state folder.

    A live camera is not connected to. Exits 78 when the configuration is wrong, 69 when a file that it names is not
    there, 0 when the daemon would start.
    """
    from agent.config import load

    findings = list(_findings(load(path)))
    rows = [{"what": what, "result": "ok" if error is None else str(error)} for what, error in findings]
    table.show(rows, ("what", "result"), as_json=as_json)
    errors = [error for _, error in findings if error is not None]
    if errors:
        raise max(errors, key=lambda error: error.exit_code)


def _findings(config: Config) -> Iterator[tuple[str, AgentError | None]]:
    yield from plugin_faults(config)
    yield "model", _error_of(lambda: _load_model(config))
    if config.model.keys:
        yield "model keys", _error_of(lambda: _read_keys(config))
    factories = _extensions(config).sources
    placed = {place.camera for place in config.zone} | {place.camera for place in config.line}
    for camera in config.camera:
        yield f"camera {camera.name}", _error_of(lambda camera=camera: _open_recording(camera, factories))  # type: ignore[misc]
        if camera.mask or camera.name in placed:
            yield f"zones of {camera.name}", _error_of(lambda camera=camera: build_places(config, camera))  # type: ignore[misc]
    yield "state folder", _error_of(lambda: _hold_state(config))


def plugin_faults(config: Config) -> Iterator[tuple[str, AgentError | None]]:
    """Each plugin of the configuration, and why it would not start."""
    from agent.host.manager import inspect_plugins

    try:
        statuses = inspect_plugins(config.plugins)
    except ConfigError as error:
        yield "plugins", error
        return
    for name in config.plugins:
        status = statuses[name]
        wrong = status.state == "failed" or (status.state == "disabled" and "by configuration" not in status.reason)
        yield f"plugin {name}", ConfigError(f"plugin {name}: {status.reason}") if wrong else None


def _error_of(action: Callable[[], object]) -> AgentError | None:
    try:
        action()
    except AgentError as error:
        return error
    return None


def _extensions(config: Config) -> Extensions:
    """What the plugins bring that have a table, as the daemon will have it."""
    from agent.host.extensions import extensions
    from agent.host.loading import installed

    return extensions([entry for name, entry in installed().items() if name in config.plugins])


def _load_model(config: Config) -> None:
    from agent.app import build_detector, wanted_tensorrt

    wanted_tensorrt(config.model)
    build_detector(config.model, _extensions(config).decoders).close()


def _read_keys(config: Config) -> None:
    from agent.detection.signature import read_key

    for number, key in enumerate(config.model.keys):
        read_key(key, f"model.keys[{number}]")


def _open_recording(camera: CameraConfig, factories: Mapping[str, Callable[[str], Source]]) -> None:
    from agent.app import build_source

    source = build_source(camera, factories)
    if not source.live:
        try:
            source.open()
        finally:
            source.close()


def build_places(config: Config, camera: CameraConfig) -> None:
    """Raise ConfigError where the zones, lines, masks or limits of a camera are none."""
    from agent.app import build_presence, build_sieve

    build_presence(config, camera)
    build_sieve(config, camera)


def _hold_state(config: Config) -> None:
    """Not by taking the daemon's lock: it may be running."""
    folder = config.state_dir
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AgentError(f"{folder}: cannot be made: {error.strerror}; set [agent] state_dir") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise AgentError(f"{folder}: cannot be written; set [agent] state_dir, or give this user the right")
