"""From entry points to plugin objects: found, imported, checked against the hooks, configured. Nothing runs yet."""

from __future__ import annotations

import importlib.metadata
import inspect
import logging
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Protocol

import msgspec
import pluggy
from msgspec import Meta

from agent import hookspecs
from agent.config import did_you_mean, read_struct
from agent.data import PluginHealth
from agent.errors import ConfigError, in_words
from agent.host.worker import Hook

log = logging.getLogger(__name__)

GROUP = "edgewarden.plugins"
MARK = f"{hookspecs.PROJECT}_impl"
SPECS = {
    name: tuple(inspect.signature(function).parameters)
    for name, function in vars(hookspecs).items()
    if inspect.isfunction(function) and hasattr(function, f"{hookspecs.PROJECT}_spec")
}


class EntryPoint(Protocol):
    """What is needed of ``importlib.metadata.EntryPoint``."""

    @property
    def name(self) -> str:
        """The plugin's name."""

    def load(self) -> Any:
        """Import the class."""


class HostKeys(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of every ``[plugins.NAME]`` table that are the host's."""

    enabled: bool = True
    queue: Annotated[int, Meta(ge=1, le=100_000)] = 256
    deadline: Annotated[float, Meta(gt=0)] = 5.0
    frame_budget: Annotated[int, Meta(ge=0)] = 64 << 20


class Loaded(msgspec.Struct, kw_only=True):
    """One plugin as far as it got: ``fault`` says why it went no further, empty when all is well."""

    name: str
    version: str = ""
    fault: str = ""
    plugin: Any = None
    hooks: dict[str, Hook] = {}
    keys: HostKeys = HostKeys()
    config: Any = None
    durable: bool = False

    def health(self) -> PluginHealth:
        """As a status row."""
        state = "disabled" if self.fault else "installed"
        return PluginHealth(state=state, reason=self.fault, version=self.version, hooks=tuple(sorted(self.hooks)))


def installed(entry_points: Iterable[EntryPoint] | None = None) -> dict[str, EntryPoint]:
    """The entry points of plugins by name."""
    found: Iterable[EntryPoint] = importlib.metadata.entry_points(group=GROUP) if entry_points is None else entry_points
    return {entry.name: entry for entry in sorted(found, key=lambda entry: entry.name)}


def strangers(tables: Iterable[str], entries: Mapping[str, EntryPoint]) -> list[str]:
    """The tables that belong to no installed plugin, one line each."""
    return [
        f"plugins.{name}: no installed plugin has this name{did_you_mean(name, entries)}"
        for name in tables
        if name not in entries
    ]


def load_plugins(
    tables: Mapping[str, Mapping[str, Any]], entry_points: Iterable[EntryPoint] | None = None
) -> list[Loaded]:
    """Those that have a table, each made ready or with its fault.

    Raises ConfigError when a table belongs to no installed plugin.
    """
    entries = installed(entry_points)
    if unknown := strangers(tables, entries):
        raise ConfigError(unknown)
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    return [_load(entries[name], dict(table), manager) for name, table in tables.items()]


def inspect_plugins(
    tables: Mapping[str, Mapping[str, Any]] | None, entry_points: Iterable[EntryPoint] | None = None
) -> dict[str, PluginHealth]:
    """Every installed plugin with its version and hooks; with tables, also what is wrong with theirs."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    found = {name: _glance(entry, manager) for name, entry in installed(entry_points).items()}
    if tables is not None:
        found = {name: health for name, health in found.items() if name not in tables}
        found = {name: msgspec.structs.replace(health, state="no table") for name, health in found.items()}
        found.update({loaded.name: loaded.health() for loaded in load_plugins(tables, entry_points)})
    return dict(sorted(found.items()))


def table_faults(
    tables: Mapping[str, Mapping[str, Any]], entry_points: Iterable[EntryPoint] | None = None
) -> list[str]:
    """What is wrong with the tables of plugins that are not switched off, one line each. Nothing is made, nothing runs.

    A plugin that cannot be imported has no part in this: that is no fault of its table.
    """
    entries = installed(entry_points)
    faults = strangers(tables, entries)
    for name, table in tables.items():
        if name in entries and table.get("enabled", True) is not False:
            faults += _faults_of(entries[name], dict(table))
    return faults


def _faults_of(entry: EntryPoint, table: dict[str, Any]) -> list[str]:
    own = {key: table.pop(key) for key in HostKeys.__struct_fields__ if key in table}
    _, faults = read_struct(HostKeys, own, f"plugins.{entry.name}")
    try:
        loaded = Loaded(name=entry.name, plugin=entry.load())
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - foreign code, see _import; told when the plugin is loaded
        log.info("plugin %s: %s", entry.name, in_words(error))
        return faults
    return [*faults, *_configure(loaded, table)]


def _glance(entry: EntryPoint, manager: pluggy.PluginManager) -> PluginHealth:
    loaded = Loaded(name=entry.name, version=_version(entry))
    _import(entry, loaded, manager)
    return loaded.health()


def _load(entry: EntryPoint, table: dict[str, Any], manager: pluggy.PluginManager) -> Loaded:
    loaded = Loaded(name=entry.name, version=_version(entry))
    own = {key: table.pop(key) for key in HostKeys.__struct_fields__ if key in table}
    keys, faults = read_struct(HostKeys, own, f"plugins.{entry.name}")
    loaded.keys = keys or HostKeys()
    if keys is not None and not keys.enabled:
        loaded.fault = "by configuration"
        return loaded
    if _import(entry, loaded, manager):
        loaded.fault = "; ".join([*faults, *_configure(loaded, table)])
    if loaded.fault:
        log.error("plugin %s: disabled: %s", loaded.name, loaded.fault)
    return loaded


def _configure(loaded: Loaded, table: Mapping[str, Any]) -> list[str]:
    """Read the plugin's own keys; the faults."""
    path = f"plugins.{loaded.name}"
    try:
        config = getattr(loaded.plugin, "Config", None)
        if config is None:
            return [f"{path}.{key}: unknown key; this plugin has none" for key in table]
        loaded.config, faults = read_struct(config, table, path)
    except Exception as error:  # noqa: BLE001 - its Config is foreign code too
        return [f"{path}: {in_words(error)}"]
    return faults


def _import(entry: EntryPoint, loaded: Loaded, manager: pluggy.PluginManager) -> bool:
    """Import the class, check its hooks, make the instance; False with the fault noted."""
    try:
        made = entry.load()
        loaded.plugin = made() if inspect.isclass(made) else made
        faults = hook_faults(loaded.plugin)
        if not faults:
            manager.register(loaded.plugin, name=loaded.name)
            loaded.hooks = _hooks_of(loaded.plugin, manager)
            loaded.durable = bool(getattr(loaded.plugin, "durable", False))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever foreign code raises here, sys.exit() too, is its fault
        faults = [f"cannot be loaded: {in_words(error)}"]
    loaded.fault = "; ".join(faults)
    return not faults


def hook_faults(plugin: Any) -> list[str]:
    """What is wrong with a plugin's hooks, one line each: misspelt, wrong arguments, wrappers."""
    faults = []
    for name in dir(type(plugin)):
        options = getattr(inspect.getattr_static(plugin, name, None), MARK, None)
        if options is None:
            if name in SPECS:
                log.warning("%s.%s is named like a hook but lacks @hookimpl", type(plugin).__name__, name)
            continue
        hook = options.get("specname") or name
        if hook not in SPECS:
            faults.append(f"{name}: there is no such hook{did_you_mean(hook, SPECS)}")
        elif options.get("wrapper") or options.get("hookwrapper"):
            faults.append(f"{name}: hook wrappers are not allowed, a plugin sees its own calls alone")
        elif inspect.iscoroutinefunction(inspect.getattr_static(plugin, name)):
            faults.append(f"{name}: async hooks are not awaited; return a concurrent.futures.Future")
        else:
            wanted = pluggy._hooks.varnames(getattr(plugin, name))[0]
            faults += [
                f"{name}: the hook has no argument {argument!r}, it gives {', '.join(SPECS[hook])}"
                for argument in wanted
                if argument not in SPECS[hook]
            ]
    return faults


def _hooks_of(plugin: Any, manager: pluggy.PluginManager) -> dict[str, Hook]:
    return {
        caller.name: Hook(implementation.function, implementation.argnames)
        for caller in manager.get_hookcallers(plugin) or ()
        for implementation in caller.get_hookimpls()
        if implementation.plugin is plugin
    }


def _version(entry: EntryPoint) -> str:
    return str(getattr(getattr(entry, "dist", None), "version", "") or "")
