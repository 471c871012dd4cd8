"""The documentation says what the code does."""

from __future__ import annotations

import inspect
import re

import msgspec
from conftest import REPOSITORY

from agent import config, hookspecs
from agent.cli import COMMANDS, cli


def _hooks() -> dict[str, list[str]]:
    return {
        name: list(inspect.signature(function).parameters)
        for name, function in vars(hookspecs).items()
        if inspect.isfunction(function) and hasattr(function, "edgewarden_spec")
    }


def test_every_hook_is_documented_with_its_arguments() -> None:
    text = (REPOSITORY / "docs" / "plugins.md").read_text()
    documented = {name: args.split(", ") for name, args in re.findall(r"^\| `(\w+)\(([\w, ]*)\)`", text, re.MULTILINE)}
    assert documented == _hooks()


def test_every_configuration_key_is_documented() -> None:
    text = (REPOSITORY / "docs" / "configuration.md").read_text()
    tables = (
        config.AgentConfig,
        config.ModelConfig,
        config.CameraConfig,
        config.TrackerConfig,
        config.ZoneConfig,
        config.LineConfig,
        config.LogConfig,
        config.GovernorConfig,
    )
    for table in tables:
        for key in table.__struct_fields__:
            assert re.search(rf"^{key} = ", text, re.MULTILINE), f"{table.__name__}.{key} is not documented"


def test_the_documented_configuration_is_valid_and_shows_the_defaults() -> None:
    text = (REPOSITORY / "docs" / "configuration.md").read_text()
    example = re.search(r"```toml\n(.*?)```", text, re.DOTALL)
    assert example
    parsed = config.parse(example.group(1))
    assert msgspec.structs.replace(parsed.tracker, limit=()) == config.TrackerConfig()
    assert parsed.log == config.LogConfig()
    assert msgspec.structs.replace(parsed.model, threads=None, slots=None) == config.ModelConfig()


def test_the_list_of_commands_says_what_each_command_says_of_itself() -> None:
    context = cli.make_context("edgewarden", [], resilient_parsing=True)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        assert command.help, name


def test_the_keys_of_masks_and_limits_and_the_example_of_the_page_on_zones_are_right() -> None:
    text = (REPOSITORY / "docs" / "zones.md").read_text()
    for table in (config.MaskConfig, config.LimitConfig, config.ZoneConfig):
        for key in table.__struct_fields__:
            assert f"`{key}`" in text, f"{table.__name__}.{key} is not documented"
    example = re.search(r"```toml\n(.*?)```", text, re.DOTALL)
    assert example
    parsed = config.parse(example.group(1))
    assert (len(parsed.zone), len(parsed.line), len(parsed.camera[0].mask)) == (2, 1, 1)


def test_every_field_of_an_event_that_needs_words_has_them() -> None:
    text = "".join((REPOSITORY / "docs" / name).read_text() for name in ("events.md", "zones.md", "mqtt.md"))
    fields = (
        "zones_entered",
        "zones_left",
        "dwell",
        "loitering",
        "crossings",
        "path",
        "speed",
        "stationary",
        "ended_by",
    )
    assert [field for field in fields if f"`{field}`" not in text] == []
