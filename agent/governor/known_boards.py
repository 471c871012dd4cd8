"""Boards to simulate, as files beside this one: what is known of each and from where, and what had to be assumed."""

from __future__ import annotations

import sys
from importlib import resources

import msgspec

from agent.errors import ConfigError
from agent.governor.plant import Plant

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class Board(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``title``: its name for people; ``plant``: its thermal parameters; ``sources``: where each is from, or
    "assumed"."""

    title: str
    plant: Plant
    sources: dict[str, str]


def names() -> list[str]:
    """Of all boards."""
    folder = resources.files("agent.governor") / "boards"
    return sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml"))


def load(name: str) -> Board:
    """Raises ConfigError for one that is not there."""
    if name not in names():
        raise ConfigError(f"board {name}: not known; there are {', '.join(names())}")
    text = (resources.files("agent.governor") / "boards" / f"{name}.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), Board)
