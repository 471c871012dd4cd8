"""``edgewarden alert``: try a rule's sinks. Through the running daemon where there is one, else from here."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import click
import msgspec

from agent import AgentError, ConfigError, MissingError, PluginError, load_config
from plugins.alert.config import AlertConfig, Rule
from plugins.alert.trial import Deliver, Outcome, ask, try_sinks

HOST_KEYS = ("enabled", "queue", "deadline", "frame_budget")
PATIENCE = 45.0
NO_DAEMON = "the agent is not running, and only it can ask its plugins; start it and try again"


@click.group(name="alert")
def command() -> None:
    """Try out alert rules."""


@command.command()
@click.argument("rule")
@click.option(
    "--config", "-c", "path", required=True, type=click.Path(path_type=Path), help="The agent.toml with the rule."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def test(rule: str, path: Path, as_json: bool) -> None:
    """Tell one alert of RULE, with the state `test`, to every sink of it, now: no cooldown, no rate, no second try.

    Exit code 0 when it arrived everywhere.
    """
    config = load_config(path)
    table = config.plugins.get("alert")
    if table is None:
        raise ConfigError(f"{path}: there is no [plugins.alert]")
    alert = _read(table)
    chosen = next((one for one in alert.rule if one.name == rule), None)
    if chosen is None:
        raise MissingError(
            f"rule {rule!r}: there is none; {path} has {', '.join(repr(one.name) for one in alert.rule)}"
        )
    outcome = _tell(config.state_dir, alert, chosen, config.node)
    if outcome.fault:
        raise AgentError(outcome.fault)
    _show(outcome, as_json)


def _read(table: Mapping[str, Any]) -> AlertConfig:
    try:
        return msgspec.convert({key: table[key] for key in table if key not in HOST_KEYS}, AlertConfig)
    except msgspec.ValidationError as error:
        raise ConfigError(f"plugins.alert: {error}") from None


def _tell(state_dir: Path, config: AlertConfig, rule: Rule, node: str) -> Outcome:
    if _running(state_dir):
        try:
            outcome = ask(state_dir / "plugins" / "alert", rule.name, PATIENCE)
        except OSError as error:
            raise AgentError(f"{state_dir}: cannot be written: {error.strerror}; be the agent's user") from None
        if outcome is None:
            raise AgentError(f"the running agent did not answer in {PATIENCE:g} s; see `edgewarden plugins list`")
        return outcome
    from plugins.alert.sinks import remote_sinks

    sinks: dict[str, Deliver] = dict(remote_sinks(config, _no_daemon, lambda alert: None))
    if config.log:
        from plugins.alert.message import sentence

        sinks = {"log": lambda alert: click.echo(sentence(alert), err=True), **sinks}
    return try_sinks(rule, node, sinks, time.time())


def _no_daemon(name: str, payload: Mapping[str, Any]) -> Future[dict[str, Any]]:
    raise PluginError(NO_DAEMON)


def _running(state_dir: Path) -> bool:
    """Whether the daemon of this configuration lives."""
    try:
        os.kill(int(json.loads((state_dir / "status.json").read_bytes())["pid"]), 0)
    except PermissionError:
        return True
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return False
    return True


def _show(outcome: Outcome, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"sinks": {name: {"ok": not why, "error": why} for name, why in outcome.sinks.items()}}))
    for name, why in outcome.sinks.items() if not as_json else ():
        click.echo(f"{name:12} {why or 'arrived'}")
    if not outcome.sinks:
        raise AgentError("the rule has no sink: nothing was told")
    if any(outcome.sinks.values()):
        raise click.exceptions.Exit(1)
