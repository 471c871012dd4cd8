"""The command line: one file a command, imported when it is called; errors become one line and an exit code."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
import threading
from collections.abc import Sequence
from typing import NoReturn

import click

from agent.errors import AgentError, ConfigError

COMMANDS = {
    "demo": "The whole job with what ships: synthetic camera, bundled model, a broker of its own.",
    "run": "The daemon: cameras in, events out, until it is told to stop.",
    "check": "Validate a configuration against this machine.",
    "detect": "Run a detector over images, folders and videos.",
    "model": "Add, inspect and list model packages.",
    "zones": "See the zones, lines and masks that are configured.",
    "plugins": "List the plugins and show what each one does.",
    "doctor": "What this machine is, what runs on it, what is missing and how to install it.",
    "governor": "Try the governor: what it does when it gets hot.",
    "bench": "Measure the engine's floor and the whole pipeline beside it.",
}
COMMANDS_GROUP = "edgewarden.commands"
LEFT_BEHIND = ("camera-", "plugin-", "dispatcher", "execution", "contest", "plans", "batch-")
"""Names of threads that may be within a driver's or an engine's code."""


class Commands(click.Group):
    """The commands above and those of plugins, each loaded when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *sorted(set(_plugin_commands()) - set(COMMANDS))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in COMMANDS:
            loaded = importlib.import_module(f"agent.cli.{cmd_name}").command
        elif cmd_name in (entries := _plugin_commands()):
            loaded = entries[cmd_name].load()
        else:
            return None
        return loaded if isinstance(loaded, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS.get(name, "From a plugin.")) for name in self.list_commands(ctx)])


def _plugin_commands() -> dict[str, importlib.metadata.EntryPoint]:
    import importlib.metadata

    return {entry.name: entry for entry in importlib.metadata.entry_points(group=COMMANDS_GROUP)}


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--debug", is_flag=True, help="Show the traceback of an error. Accepted after the command too.")
@click.version_option(package_name="edgewarden", prog_name="edgewarden")
def cli(debug: bool) -> None:
    """The agent beside your cameras: newest frame to dispatched event, inside the board's limits.

    \b
    First look, nothing needed:   edgewarden demo
    A real camera:                edgewarden run --config agent.toml

    Exit codes: 0 done, 1 failed, 2 wrong usage, 69 nothing to work with, 78 bad configuration.
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Entry point of the ``edgewarden`` command."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = words[: words.index("--")] if "--" in words else words
    debug = "--debug" in options
    if debug:
        words.remove("--debug")
    _leave(_run(words, debug))


def _leave(code: int) -> NoReturn:
    """End the process with that exit code.

    A camera or plugin that was left behind, stuck in a driver, would be cut off within its C++ code when the
    interpreter is torn down, and that aborts the process: then nothing is torn down.
    """
    if not any(thread.daemon and thread.name.startswith(LEFT_BEHIND) for thread in threading.enumerate()):
        sys.exit(code)
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _run(words: list[str], debug: bool) -> int:
    try:
        return int(cli.main(words, prog_name="edgewarden", standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return 130
    except BrokenPipeError:
        # The reader of our output went away (`edgewarden … | head`): nothing more can be said to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except AgentError as error:
        if debug:
            raise
        for line in error.faults if isinstance(error, ConfigError) else [str(error)]:
            click.echo(f"edgewarden: {line}", err=True)
        return error.exit_code
    except Exception as error:
        if debug:
            raise
        click.echo(f"edgewarden: internal error: {type(error).__name__}: {error} (--debug shows where)", err=True)
        return 1
