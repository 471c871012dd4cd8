"""What a new agent.toml asks to be changed in a running daemon: two configurations in, a list of changes out.

Pure. How a change is made is its owner's, in what order app.py's. What stands in no table here needs a restart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

import msgspec

from agent.config import CameraConfig, Config

Owner = Literal["logging", "thresholds", "model", "tracking", "camera", "governor", "log", "plugin"]

SECTIONS: Mapping[str, Owner] = {
    "model": "model",
    "tracker": "tracking",
    "zone": "tracking",
    "line": "tracking",
    "governor": "governor",
    "log": "log",
}
"""Who owns a top-level table. ``agent``, ``camera`` and ``plugins`` are looked at key by key."""
LIVE_AGENT_KEYS = frozenset({"log_level", "log_format"})
THRESHOLDS = frozenset({"score", "iou", "max_detections", "nms", "keys"})
"""Keys of ``[model]`` that need no other engine."""
LIVE_CAMERA_KEYS = frozenset({"priority", "max_age", "mask"})
"""Keys of ``[[camera]]`` for which its source need not be opened anew."""


class Change(NamedTuple):
    """``owner`` makes it; ``name``: of the camera or plugin; ``what``: in words, without a value that may be secret."""

    owner: Owner
    name: str
    what: str


class Plan(NamedTuple):
    """``config``: what holds once all is done: the new one, but for what ``restart`` names, key by key."""

    config: Config
    changes: tuple[Change, ...]
    restart: tuple[str, ...]

    def names(self, owner: Owner) -> set[str]:
        """The cameras or plugins of that owner's changes."""
        return {change.name for change in self.changes if change.owner == owner}

    def touches(self, *owners: Owner) -> bool:
        """Whether any of them has something to do."""
        return any(change.owner in owners for change in self.changes)


def plan(old: Config, new: Config) -> Plan:
    """How to come from ``old``, which runs, to ``new``, which was checked."""
    changes: list[Change] = []
    agent_keys = _differing(old.agent, new.agent)
    fixed = [key for key in agent_keys if key not in LIVE_AGENT_KEYS]
    changes += [_valued("logging", "agent", key, old.agent, new.agent) for key in agent_keys if key not in fixed]
    agent = msgspec.structs.replace(new.agent, **{key: getattr(old.agent, key) for key in fixed})
    kept: dict[str, Any] = {"agent": agent}
    restart = [f"agent.{key}" for key in fixed]
    for section in _differing(old, new):
        if section in SECTIONS:
            changes += _section(section, getattr(old, section), getattr(new, section))
        elif section not in ("agent", "camera", "plugins"):
            kept[section] = getattr(old, section)
            restart.append(section)
    changes += _cameras(old.camera, new.camera)
    changes += _plugins(old.plugins, new.plugins)
    return Plan(msgspec.structs.replace(new, **kept), tuple(changes), tuple(restart))


def reopens(old: CameraConfig, new: CameraConfig) -> bool:
    """Whether a camera's source must be opened anew."""
    return any(key not in LIVE_CAMERA_KEYS for key in _differing(old, new))


def _section(section: str, old: Any, new: Any) -> list[Change]:
    if not isinstance(old, msgspec.Struct):
        return [Change(SECTIONS[section], "", f"[[{section}]] changed")]
    found = []
    for key in _differing(old, new):
        owner: Owner = "thresholds" if section == "model" and key in THRESHOLDS else SECTIONS[section]
        found.append(_valued(owner, section, key, old, new))
    return found


def _cameras(old: Iterable[CameraConfig], new: Iterable[CameraConfig]) -> list[Change]:
    before, after = {camera.name: camera for camera in old}, {camera.name: camera for camera in new}
    found = [Change("camera", name, f"camera {name}: removed") for name in before if name not in after]
    for name, camera in after.items():
        if name not in before:
            found.append(Change("camera", name, f"camera {name}: added"))
        elif keys := _differing(before[name], camera):
            how = "opened anew" if reopens(before[name], camera) else "changed"
            found.append(Change("camera", name, f"camera {name}: {how} for {', '.join(keys)}"))
    return found


def _plugins(old: Mapping[str, Mapping[str, Any]], new: Mapping[str, Mapping[str, Any]]) -> list[Change]:
    found = []
    for name in [*old, *(name for name in new if name not in old)]:
        before, after = _running(old.get(name)), _running(new.get(name))
        if before is not None and after is None:
            found.append(Change("plugin", name, f"plugin {name}: off"))
        elif before is None and after is not None:
            found.append(Change("plugin", name, f"plugin {name}: on"))
        elif before != after:
            keys = sorted(
                key for key in {*(before or {}), *(after or {})} if (before or {}).get(key) != (after or {}).get(key)
            )
            found.append(Change("plugin", name, f"plugin {name}: started anew for {', '.join(keys)}"))
        elif old.get(name) != new.get(name):
            found.append(Change("plugin", name, f"plugin {name}: stays off"))
    return found


def _running(table: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """A plugin's table, None where it is switched off."""
    return None if table is None or table.get("enabled", True) is False else table


def _differing(old: msgspec.Struct, new: msgspec.Struct) -> list[str]:
    return [key for key in old.__struct_fields__ if getattr(old, key) != getattr(new, key)]


def _valued(owner: Owner, section: str, key: str, old: Any, new: Any) -> Change:
    """A change of a key; its values are told where they are numbers or words of a kind that hold no secret."""
    before, after = getattr(old, key), getattr(new, key)
    plain = isinstance(after, int | float | str) and isinstance(before, int | float | str) and key != "path"
    return Change(owner, "", f"{section}.{key}: {before} -> {after}" if plain else f"{section}.{key}: changed")
