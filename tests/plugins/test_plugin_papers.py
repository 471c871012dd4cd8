"""What ships beside the plugins: valid samples, READMEs that name every key, entry points that lead there."""

from __future__ import annotations

import subprocess
import sys
from configparser import ConfigParser
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import pytest
from conftest import REPOSITORY

NAMES = ["mqtt", "alert", "snapshot"]


def _plugin(name: str) -> Any:
    return getattr(import_module(f"plugins.{name}"), name.capitalize())


def _keys(struct: type[msgspec.Struct]) -> set[str]:
    """The keys of a table and of the tables within it."""
    keys: set[str] = set()
    for field in msgspec.structs.fields(struct):
        keys.add(field.name)
        keys |= {key for struct in _structs(field.type) for key in _keys(struct)}
    return keys


def _structs(hint: Any) -> list[type[msgspec.Struct]]:
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return [hint]
    return [struct for inner in getattr(hint, "__args__", ()) for struct in _structs(inner)]


@pytest.mark.parametrize("name", NAMES)
def test_the_sample_is_a_valid_table(name: str) -> None:
    text = (REPOSITORY / "plugins" / name / "sample.toml").read_text(encoding="utf-8")
    msgspec.convert(msgspec.toml.decode(text)["plugins"][name], _plugin(name).Config)


@pytest.mark.parametrize("name", NAMES)
def test_the_sample_is_still_valid_with_every_line_of_it_switched_on(name: str) -> None:
    text = (REPOSITORY / "plugins" / name / "sample.toml").read_text(encoding="utf-8").replace("\n# ", "\n")
    msgspec.convert(msgspec.toml.decode(text)["plugins"][name], _plugin(name).Config)


@pytest.mark.parametrize("name", NAMES)
def test_the_readme_names_every_key(name: str) -> None:
    text = (REPOSITORY / "plugins" / name / "README.md").read_text(encoding="utf-8")
    assert len(_keys(_plugin(name).Config)) >= 3
    missing = [key for key in _keys(_plugin(name).Config) if not any(f"{q}{key}" in text for q in ("`", ".", "["))]
    assert missing == []


@pytest.mark.parametrize("name", NAMES)
def test_the_entry_point_leads_to_the_class(name: str) -> None:
    setup = ConfigParser()
    setup.read(Path(REPOSITORY / "setup.cfg"), encoding="utf-8")
    points = dict(
        line.split(" = ") for line in setup["options.entry_points"]["edgewarden.plugins"].strip().splitlines()
    )
    assert points[name] == f"plugins.{name}:{_plugin(name).__name__}"


def test_to_name_the_plugins_loads_nothing_heavy() -> None:
    heavy = "('paho', 'cv2', 'numpy', 'urllib.request', 'ssl', 'rich', 'onnxruntime')"
    code = f"import sys, plugins.mqtt, plugins.alert, plugins.snapshot; print([m for m in {heavy} if m in sys.modules])"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert output.stdout.strip() == "[]"
