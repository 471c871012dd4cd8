"""What installed plugins bring for commands that run without the daemon: families of detectors, kinds of sources.

Only their ``register_decoders`` and ``register_sources`` are called; no plugin is started, and one that fails is told
and left out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from agent import hookspecs
from agent.errors import in_words
from agent.host.loading import EntryPoint, installed

log = logging.getLogger(__name__)

HOOKS = ("register_decoders", "register_sources")


class Extensions(NamedTuple):
    """Decoder classes by family, factories by scheme."""

    decoders: dict[str, Any]
    sources: dict[str, Any]


def extensions(entry_points: Iterable[EntryPoint] | None = None) -> Extensions:
    """Of every installed plugin. Never raises for a plugin's fault."""
    found = Extensions({}, {})
    registries = dict(zip(HOOKS, found, strict=True))
    for name, entry in installed(entry_points).items():
        try:
            plugin = entry.load()
            if any(hasattr(plugin, hook) for hook in HOOKS):
                _register(name, plugin(), registries)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a plugin's code: whatever it raises is told, sys.exit() too
            log.warning("plugin %s: what it brings cannot be used: %s", name, in_words(error))
    return found


def _register(name: str, plugin: Any, registries: dict[str, dict[str, Any]]) -> None:
    for hook, registry in registries.items():
        function = getattr(plugin, hook, None)
        if function is not None and hasattr(function, f"{hookspecs.PROJECT}_impl"):
            function(register=_registrar(name, registry))


def _registrar(plugin: str, registry: dict[str, Any]) -> Callable[[str, Any], None]:
    def register(name: str, thing: Any) -> None:
        if name in registry:
            log.warning("plugin %s: %s is registered already, by another plugin", plugin, name)
            return
        registry[name] = thing

    return register
