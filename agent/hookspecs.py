"""The hooks, and nothing else. What each is called with, when, and on which thread stands in its docstring."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from agent.data import Decision, Detections, Event, Frame, Health

PROJECT = "edgewarden"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def register_sources(register: Callable[[str, Any], None]) -> None:
    """Main thread, once: ``register(scheme, factory)``; ``factory(config) -> Source`` opens ``scheme://…``."""


@hookspec
def register_engines(register: Callable[[str, Any], None]) -> None:
    """Main thread, once: ``register(backend, factory)`` makes a backend known to ``[model] backend``."""


@hookspec
def register_decoders(register: Callable[[str, Any], None]) -> None:
    """Main thread, once: ``register(family, decoder_class)`` makes a family known to model packages."""


@hookspec
def register_sensors(register: Callable[[str, Any], None]) -> None:
    """Main thread, once: ``register(name, sensor)`` adds a sensor to those the monitor reads."""


@hookspec
def register_commands(register: Callable[[str, type, Callable[[Any], dict[str, Any]]], None]) -> None:
    """Main thread, once: ``register(name, ArgsStruct, handler)``; the handler runs on the plugin's own thread."""


@hookspec
def startup(agent: Any, config: Any) -> None:
    """Own thread, before any ``on_*``. ``agent`` is the façade, ``config`` an instance of the plugin's Config."""


@hookspec
def shutdown(agent: Any) -> None:
    """Own thread, after the last ``on_*``; has a deadline."""


@hookspec
def keep_event(event: Event) -> bool | None:
    """Dispatcher, once per event at its start; any False drops the event. At most 5 ms."""


@hookspec
def event_attributes(event: Event, frame: Frame | None) -> Mapping[str, Any] | None:
    """Dispatcher; the dicts of all plugins are merged into ``event.attributes``. At most 5 ms."""


@hookspec
def on_event(event: Event, frame: Frame | None) -> Any:
    """Own thread, in order. ``frame`` is the event's best picture so far, None when its pixels are gone.

    A durable plugin is called again after a failure until the call returns, or the Future it returned completes. Beside
    a long backlog it is told live events too: late ones keep their order, live ones theirs, each occurrence its own.
    """


@hookspec
def on_detections(detections: Detections, frame: Frame | None) -> None:
    """Own thread, newest only: what was not taken in time is replaced."""


@hookspec
def on_health(health: Health) -> None:
    """Own thread, newest only: once a second."""


@hookspec
def on_decision(decision: Decision) -> None:
    """Own thread, newest only: after the governor changed the rung."""


@hookspec(firstresult=True)
def choose_rung(history: Sequence[Health], ladder: Sequence[Decision], current: int, now: float) -> Decision | None:
    """Once a second, beside the monitor's thread, which waits 50 ms at most. The first Decision counts, by its
    ``rung``; without one the built-in policy decides. Nobody goes above the user's limits, the bottom near a trip, or
    the safe rung without a believable temperature."""
