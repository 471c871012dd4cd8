"""What plugins brought by their ``register_*`` hooks, by kind and name, and whose it is; never half of a plugin's."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import msgspec

from agent.errors import ConfigError, in_words
from agent.host.loading import Loaded

log = logging.getLogger(__name__)

REGISTER_HOOKS = {
    "register_sources": "sources",
    "register_engines": "engines",
    "register_decoders": "decoders",
    "register_sensors": "sensors",
}


class Command(NamedTuple):
    """A command of a plugin's: the struct of its arguments, and what is done with them on the owner's thread."""

    owner: str
    struct: type[msgspec.Struct]
    handler: Callable[[Any], dict[str, Any]]


class Registry:
    """All of it, of all plugins. Changed by making another one: readers on other threads keep what they have."""

    def __init__(self) -> None:
        self.sources: dict[str, Any] = {}
        self.engines: dict[str, Any] = {}
        self.decoders: dict[str, Any] = {}
        self.sensors: dict[str, Any] = {}
        self.commands: dict[str, Command] = {}
        self._owners: dict[tuple[str, str], str] = {}

    def without(self, plugins: Iterable[str]) -> Registry:
        """The same but for what these plugins brought."""
        gone = set(plugins)
        left = Registry()
        for (kind, name), owner in self._owners.items():
            if owner not in gone:
                getattr(left, kind)[name] = getattr(self, kind)[name]
                left._owners[kind, name] = owner
        return left

    def register(self, plugin: Loaded) -> str:
        """Call the plugin's ``register_*`` hooks; the fault in one, which takes back what was registered."""
        try:
            for hook, kind in REGISTER_HOOKS.items():
                if hook in plugin.hooks:
                    plugin.hooks[hook](register=self._registrar(plugin.name, hook, kind))
            if "register_commands" in plugin.hooks:
                plugin.hooks["register_commands"](register=self._command_registrar(plugin.name))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # sys.exit() too
            log.exception("plugin %s: disabled: registering failed", plugin.name)
            self._take_back(plugin.name)
            return f"registering failed: {in_words(error)}"
        return ""

    def _take_back(self, plugin: str) -> None:
        for kind, name in [key for key, owner in self._owners.items() if owner == plugin]:
            del getattr(self, kind)[name]
            del self._owners[kind, name]

    def _registrar(self, owner: str, hook: str, kind: str) -> Callable[..., None]:
        def register(name: str, thing: Any) -> None:
            if name in getattr(self, kind):
                raise ConfigError(f"{hook}: {name} is registered already")
            getattr(self, kind)[name] = thing
            self._owners[kind, name] = owner

        return register

    def _command_registrar(self, owner: str) -> Callable[..., None]:
        def register(name: str, struct: type[msgspec.Struct], handler: Callable[[Any], dict[str, Any]]) -> None:
            if not (isinstance(struct, type) and issubclass(struct, msgspec.Struct)):
                raise ConfigError(f"command {name}: its arguments must be a msgspec.Struct, not {struct!r}")
            if name in self.commands:
                raise ConfigError(f"command {name} belongs to plugin {self.commands[name].owner} already")
            self.commands[name] = Command(owner, struct, handler)
            self._owners["commands", name] = owner

        return register
