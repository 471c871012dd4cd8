"""``edgewarden plugins``: what is installed, what each one does, and what became of it in the running daemon."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from agent.cli import table

COLUMNS = ("name", "version", "state", "reason", "hooks", "handled", "failed", "dropped")
config_option = click.option(
    "--config",
    "-c",
    "path",
    type=click.Path(path_type=Path),
    help="An agent.toml: check its [plugins.NAME] tables, and show the states in the daemon that runs on it.",
)


@click.group(name="plugins")
def command() -> None:
    """List the plugins and show what each one does."""


@command.command(name="list")
@config_option
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def list_(path: Path | None, as_json: bool) -> None:
    """Every installed plugin: version, hooks, and, with --config, its state and why."""
    table.show(rows(path), COLUMNS, as_json=as_json, empty="no plugin is installed")


@command.command()
@click.argument("name")
@config_option
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def show(name: str, path: Path | None, as_json: bool) -> None:
    """One plugin: what it says of itself, its hooks and its configuration keys."""
    found = {row["name"]: row for row in rows(path)}
    if name not in found:
        from agent.config import did_you_mean
        from agent.errors import MissingError

        raise MissingError(f"plugin {name}: not installed{did_you_mean(name, found)}")
    row = {**found[name], **describe(name)}
    if as_json:
        click.echo(json.dumps(row, default=str))
        return
    for key in ("name", "version", "state", "reason", "about", "durable"):
        click.echo(f"{key:8} {row.get(key) if row.get(key) is not None else '-'}")
    click.echo(f"hooks    {', '.join(row['hooks'])}")
    click.echo(f"\n[plugins.{name}]")
    for item in row["keys"]:
        click.echo(f"  {item['key']} = {item['default']}    # {item['type']}")


def rows(path: Path | None) -> list[dict[str, Any]]:
    """One row a plugin: as installed, as the configuration has it, as the running daemon last reported it."""
    from agent.host.manager import inspect_plugins

    if path is None:
        return [{"name": name, **_plain(status)} for name, status in inspect_plugins(None).items()]
    from agent.config import load

    config = load(path)
    found = {name: {"name": name, **_plain(status)} for name, status in inspect_plugins(config.plugins).items()}
    for name, status in running_plugins(config.state_dir).items():
        if name in found:
            found[name].update(status)
    return list(found.values())


def running_plugins(state_dir: Path) -> dict[str, dict[str, Any]]:
    """Plugin states as the daemon wrote them last into ``status.json``, empty when it never did.

    Of a daemon that was killed no plugin runs any more; what was wrong with one still stands there.
    """
    try:
        status = json.loads((state_dir / "status.json").read_bytes())
        plugins = {name: dict(row) for name, row in status["health"]["plugins"].items()}
        alive = Path("/proc", str(int(status["pid"]))).exists()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    for row in plugins.values():
        if not alive and row.get("state") in ("running", "degraded"):
            row["state"] = "stopped"
    return plugins


def describe(name: str) -> dict[str, Any]:
    """What the plugin's class says of itself: first line of its docstring, durability, configuration keys."""
    import inspect

    import msgspec

    from agent.host.manager import installed

    try:
        plugin = installed()[name].load()
    except Exception as error:  # noqa: BLE001 - a plugin that cannot be imported is a finding, not our failure
        return {"about": f"cannot be imported: {error}", "durable": None, "keys": []}
    config = getattr(plugin, "Config", None)
    keys = []
    for field in msgspec.structs.fields(config) if config else ():
        default = "(needed)" if field.required else field.default if field.default is not msgspec.NODEFAULT else "…"
        keys.append({"key": field.encode_name, "default": default, "type": inspect.formatannotation(field.type)})
    about = (inspect.getdoc(plugin) or "-").splitlines()[0]
    return {"about": about, "durable": bool(getattr(plugin, "durable", False)), "keys": keys}


def _plain(status: Any) -> dict[str, Any]:
    import msgspec

    return dict(msgspec.to_builtins(status))
