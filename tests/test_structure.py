"""The house keeps its shape: layers import only downwards, rooms of one layer do not know each other."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from conftest import REPOSITORY

LAYERS = [
    {"data", "errors", "secrecy"},
    {"config", "service", "hookspecs", "progress", "startup", "board", "logs"},
    {"sources", "engines", "tracking", "governor", "host"},
    {"detection"},
    {"precision"},
    {"pipeline"},
    {"control", "reload", "execution", "model_trial"},
    {"reloading"},
    {"app", "testing"},
    {"cli"},
]
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
TOP = {"agent", "plugins", "deploy", "systemd", "tests", "benchmarks", "docs"}
BANNED_NAMES = {"utils", "util", "helpers", "helper", "misc", "common"}


def _files(folder: str) -> list[Path]:
    return sorted((REPOSITORY / folder).rglob("*.py"))


def _imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def _room(dotted: str) -> str:
    return dotted.split(".")[1]


@pytest.mark.parametrize("path", _files("agent"), ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_a_module_imports_only_what_stands_below_it(path: Path) -> None:
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    if parts[1] in ("__init__", "__main__"):
        return  # the façade names rooms of every layer, lazily
    room = parts[1]
    for name in _imported(path):
        assert not name.startswith("plugins"), f"{path}: nothing in agent imports plugins"
        if name.startswith("agent.") and _room(name) != room:
            assert _room(name) in LEVEL, f"{path}: imports {name}, which belongs to no layer"
            assert LEVEL[_room(name)] < LEVEL[room], f"{path}: {room} may not import {name}"
    assert room in LEVEL, f"{path}: belongs to no layer"


@pytest.mark.parametrize("path", _files("plugins"), ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_a_shipped_plugin_imports_the_public_api_alone(path: Path) -> None:
    own = ".".join(path.relative_to(REPOSITORY).parts[:2]).removesuffix(".py")
    for name in _imported(path):
        if name.startswith("agent."):
            assert name.count(".") == 1, f"{path}: imports {name}; plugins import names from `agent` alone"
        if name.startswith("plugins."):
            assert name.startswith(own), f"{path}: imports another plugin: {name}"


def test_the_public_api_is_what_init_lists() -> None:
    import agent

    for name in agent.__all__:
        assert getattr(agent, name) is not None


def test_the_top_level_is_fixed() -> None:
    folders = {path.name for path in REPOSITORY.iterdir() if path.is_dir() and not path.name.startswith(".")}
    assert {name for name in folders if not name.endswith(".egg-info")} - {"build", "dist", "demo-output"} <= TOP


def test_no_module_is_called_utils() -> None:
    for folder in ("agent", "plugins", "tests", "benchmarks"):
        for path in _files(folder):
            assert path.stem not in BANNED_NAMES, path


def test_relative_imports_are_not_used() -> None:
    for folder in ("agent", "plugins"):
        for path in _files(folder):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}:{node.lineno}"
