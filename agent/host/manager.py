"""The host: all plugins together. It loads them, gives each its worker, hands out what the pipeline offers.

What a plugin may do to itself is worker.py's, what an entry point may hold loading.py's.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from agent.config import did_you_mean, read_struct
from agent.data import Decision, Detections, Event, Frame, Health, PluginHealth, to_json
from agent.errors import ConfigError, PluginError
from agent.host.choosing import Chooser
from agent.host.facade import Zones
from agent.host.feeds import Feed, LogFeed, QueueFeed
from agent.host.gate import Gate, Mark
from agent.host.handle import Handle
from agent.host.loading import EntryPoint, Loaded, inspect_plugins, installed, load_plugins
from agent.host.log import EVENTS, EventLog
from agent.host.pictures import Pictures
from agent.host.pixels import PixelBudget
from agent.host.registry import Registry
from agent.host.store import Entry
from agent.host.unfinished import Unfinished
from agent.host.worker import Hook, Worker

__all__ = ["Host", "inspect_plugins", "installed"]

log = logging.getLogger(__name__)

DISPATCHER_HOOKS = ("keep_event", "event_attributes")
OwnCommands = Mapping[str, tuple[type[msgspec.Struct], Callable[[Any], "dict[str, Any] | Future[dict[str, Any]]"]]]


class Fresh(NamedTuple):
    """Plugins that were imported, checked and have registered, for ``Host.change``; nothing of them runs yet.

    ``registry``: what all plugins bring once they are in place.
    """

    tables: Mapping[str, Mapping[str, Any]]
    plugins: dict[str, Loaded | None]
    registry: Registry


class Host:
    """``tables``: the ``[plugins.NAME]`` tables. ``latest_frame(camera)`` and ``zones(camera)`` are asked on behalf
    of plugins.

    ``load``, then ``start``; offers come from the pipeline and the monitor; ``drain`` and ``stop`` at the end.
    ``registry`` holds what plugins registered. ``provided``: commands answered by nobody's thread but the caller's.
    ``prepare`` and ``change`` put other plugins in place of some while the rest go on.
    """

    def __init__(
        self,
        *,
        node: str,
        state_dir: Path,
        log: EventLog,
        tables: Mapping[str, Mapping[str, Any]],
        latest_frame: Callable[[str], Frame | None],
        zones: Callable[[str], Zones] = lambda camera: {},
        entry_points: Iterable[EntryPoint] | None = None,
        provided: Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]] | None = None,
    ) -> None:
        self._node = node
        self._state_dir = state_dir
        self._log = log
        self._tables = tables
        self._latest_frame = latest_frame
        self._zones = zones
        self._entry_points = entry_points
        self._provided = {} if provided is None else provided
        self._pictures = Pictures()
        self._unfinished = Unfinished(state_dir / "open-events.json", log)
        self._gate: Gate | None = None
        self._chooser: Chooser | None = None
        self._broken: dict[str, PluginHealth] = {}
        self._workers: dict[str, Worker] = {}
        self._handles: dict[str, Handle] = {}
        self._own: OwnCommands = {}
        self._changing = threading.Lock()
        self._successors: dict[str, Loaded | None] = {}
        self._durable = False
        self.registry = Registry()

    # life

    def load(self) -> None:
        """Import and check every plugin that has a table; what is wrong with one disables it, and the rest go on.

        Raises ConfigError when a table belongs to no installed plugin.
        """
        loaded = load_plugins(self._tables, self._entry_points)
        for plugin in loaded:
            if not plugin.fault:
                plugin.fault = self.registry.register(plugin)
        well = [plugin for plugin in loaded if not plugin.fault]
        self._broken = {plugin.name: plugin.health() for plugin in loaded if plugin.fault}
        hooks = {plugin.name: _dispatcher_hooks(plugin) for plugin in well}
        self._gate = Gate(hooks, Mark(self._state_dir / "dispatcher.mark"))
        self._chooser = Chooser({one.name: one.hooks["choose_rung"] for one in well if "choose_rung" in one.hooks})
        for plugin in well:
            self._workers[plugin.name] = self._worker(plugin)

    def provide(self, commands: OwnCommands) -> None:
        """The daemon's own commands: struct of the arguments and handler, by name. They run on the caller's thread, and
        no plugin's command takes their names. Before ``start``."""
        self._own = commands
        for name in set(commands) & set(self.registry.commands):
            owner = self.registry.commands[name].owner
            log.warning("plugin %s: its command %s is the daemon's own and stays so", owner, name)

    def start(self) -> None:
        """Start every plugin's thread."""
        for name, worker in self._workers.items():
            worker.start()
            log.info("plugin %s: started", name)
        for name, health in self._broken.items():
            log.warning("plugin %s: %s: %s", name, health.state, health.reason)

    def end_unfinished(self, now: float) -> int:
        """Tell the ends, at UNIX time ``now``, of the events that a daemon before this one left open; how many. Once,
        after ``start`` and before any event."""
        ends = self._unfinished.recover(now)
        if ends:
            log.info("%d event(s) that an earlier run left open are ended", len(ends))
            self.offer_events([(event, None) for event in ends])
        return len(ends)

    def save_unfinished(self) -> None:
        """Keep on disk which events are open; every few seconds and at the end."""
        self._unfinished.save()

    def drain(self, timeout: float) -> bool:
        """Wait until every plugin has had its events; one that is set aside or hangs does not hold it up."""
        deadline = time.monotonic() + timeout
        pause = threading.Event()
        while not (self._log.settled() and all(worker.drained() for worker in self._workers.values())):
            now = time.monotonic()
            if now >= deadline:
                return False
            self.check(now)
            pause.wait(0.02)
        return True

    def stop(self, timeout: float) -> None:
        """Run every plugin's ``shutdown`` and end its thread; one that does not return is left behind, by name."""
        if self._chooser is not None:
            self._chooser.close()
        for handle in self._handles.values():
            handle.stopping.set()
        for worker in self._workers.values():
            worker.request_stop()
        deadline = time.monotonic() + timeout
        for worker in self._workers.values():
            worker.join(max(0.0, deadline - time.monotonic()))
        for handle in self._handles.values():
            handle.close()

    def check(self, now: float) -> None:
        """Housekeeping, about once a second."""
        for worker in self._workers.values():
            worker.check(now)
        if self._successors and self._changing.acquire(blocking=False):
            try:
                self._follow_up()
            finally:
                self._changing.release()

    # other plugins, while the rest go on

    def prepare(self, tables: Mapping[str, Mapping[str, Any]], names: Collection[str]) -> Fresh:
        """Import, check and register anew the plugins called ``names`` that have a table and are not switched off.

        Nothing changes, nothing of them runs. Raises ConfigError with every fault.
        """
        loaded = load_plugins({name: tables[name] for name in tables if name in names}, self._entry_points)
        registry = self.registry.without(names)
        for plugin in loaded:
            plugin.fault = plugin.fault or registry.register(plugin)
        faults = [f"plugins.{one.name}: {one.fault}" for one in loaded if one.fault and one.keys.enabled]
        if faults:
            raise ConfigError(faults)
        plugins: dict[str, Loaded | None] = dict.fromkeys(names)
        plugins.update({plugin.name: plugin for plugin in loaded})
        return Fresh(tables, plugins, registry)

    def change(self, fresh: Fresh, timeout: float) -> list[str]:
        """Put what was prepared in the place of what runs; events that wait go over to the successor.

        The names of plugins that did not end within ``timeout`` seconds: a thread that hangs is never doubled, so their
        successors begin when it lets go (``check`` notices).
        """
        with self._changing:
            self.registry = fresh.registry
            self._tables = fresh.tables
            leaving = [name for name in fresh.plugins if name in self._workers]
            for name in leaving:
                self._handles[name].stopping.set()
                self._workers[name].request_stop()
            self._successors.update(fresh.plugins)
            deadline = time.monotonic() + timeout
            for name in leaving:
                self._workers[name].join(max(0.0, deadline - time.monotonic()))
            self._follow_up()
            return sorted(name for name in fresh.plugins if name in self._successors)

    def _follow_up(self) -> None:
        """Put every successor in place whose predecessor has ended."""
        for name in list(self._successors):
            if name not in self._workers or self._workers[name].ended:
                self._succeed(name, self._successors.pop(name))

    def _succeed(self, name: str, plugin: Loaded | None) -> None:
        old = self._workers.get(name)
        running = plugin is not None and not plugin.fault
        workers = {other: worker for other, worker in self._workers.items() if other != name}
        self._broken = {other: health for other, health in self._broken.items() if other != name}
        if old is not None:
            self._log.unlisten(old.wake)
            self._handles[name].close()
        if plugin is not None and running:
            workers[name] = self._worker(plugin, old)
            workers[name].start()
        else:
            self._handles = {other: handle for other, handle in self._handles.items() if other != name}
            if plugin is not None:
                self._broken = {**self._broken, name: plugin.health()}
        self._workers = workers  # as a whole: the pipeline and the monitor go through it meanwhile
        if self._gate is not None:
            self._gate.put(name, _dispatcher_hooks(plugin) if plugin is not None and running else {})
        if self._chooser is not None:
            self._chooser.put(name, plugin.hooks.get("choose_rung") if plugin is not None and running else None)
        log.info("plugin %s: %s", name, "started" if running else "stopped")

    # what the pipeline and the monitor hand over

    def keep(self, event: Event) -> bool:
        """Whether the plugins want this event; asked at its start, on the dispatcher."""
        return self._gate is None or self._gate.keep(event)

    def attributes(self, event: Event, frame: Frame | None) -> dict[str, Any]:
        """What the plugins add to it; on the dispatcher."""
        return {} if self._gate is None else self._gate.attributes(event, frame)

    def choose_rung(
        self, health: Health, ladder: Sequence[Decision], current: int, now: float
    ) -> tuple[str, int] | None:
        """The first plugin with a rung to propose, and which; waited for 50 ms at most."""
        return None if self._chooser is None else self._chooser.choose(health, ladder, current, now)

    def offer_events(self, events: Sequence[tuple[Event, Frame | None]]) -> None:
        """The messages of one frame: to the log in one commit, and to the queues of those that do not read it."""
        if self._durable:
            for event, frame in events:
                self._pictures.put(event, frame)
        accepted = self._log.append([Entry(EVENTS, to_json(event)) for event, _ in events])
        self._unfinished.note([event for event, _ in events], accepted)
        for worker in self._workers.values():
            for event, frame in events:
                worker.offer_event(event, frame)

    def offer_detections(self, detections: Detections, frame: Frame) -> None:
        """What was found in one frame; only the newest is kept for a plugin that is busy."""
        for array in (detections.boxes, detections.scores, detections.class_ids):
            array.flags.writeable = False  # all plugins see the same
        for worker in self._workers.values():
            worker.offer_newest("on_detections", {"detections": detections}, frame, detections.camera)

    def offer_health(self, health: Health) -> None:
        """The node's state."""
        for worker in self._workers.values():
            worker.offer_newest("on_health", {"health": health})

    def offer_decision(self, decision: Decision) -> None:
        """What the governor decided."""
        for worker in self._workers.values():
            worker.offer_newest("on_decision", {"decision": decision})

    # what others ask

    def statuses(self) -> dict[str, PluginHealth]:
        """State, reason and counts of every plugin that has a table."""
        found = {**self._broken, **{name: worker.health() for name, worker in self._workers.items()}}
        lost = {**(self._chooser.lost if self._chooser else {}), **(self._gate.lost if self._gate else {})}
        for name, why in lost.items():
            if name in found and not found[name].reason:
                found[name] = msgspec.structs.replace(found[name], reason=why)
        return dict(sorted(found.items()))

    def queues(self) -> dict[str, int]:
        """Events that wait, by plugin."""
        return {name: worker.health().queued for name, worker in self._workers.items()}

    def metrics(self) -> dict[str, dict[str, float]]:
        """The counters and gauges of every plugin."""
        return {name: handle.metrics.snapshot() for name, handle in self._handles.items()}

    def command(self, name: str, payload: Mapping[str, Any]) -> Future[dict[str, Any]]:
        """Ask a command's owner. The Future fails with PluginError (nobody owns it, or cannot now) or ConfigError."""
        if name in self._provided:
            return _answered(lambda: self._provided[name](dict(payload)))
        if name in self._own:
            return _answered(lambda: self._obey(name, payload))
        try:
            owner, arguments, handler = self._prepared(name, payload)
        except Exception as error:  # noqa: BLE001 - the struct is a plugin's: whatever it raises becomes the Future's
            return _failed(error)
        worker = self._workers.get(owner)
        if worker is None:  # just leaving, or not there yet
            return _failed(PluginError(f"command {name}: plugin {owner} does not run now", retry_after=5.0))
        return worker.command(name, handler, arguments)

    def _obey(self, name: str, payload: Mapping[str, Any]) -> dict[str, Any] | Future[dict[str, Any]]:
        struct, handler = self._own[name]
        arguments, faults = read_struct(struct, payload, f"command {name}")
        if arguments is None:
            raise ConfigError(faults)
        return handler(arguments)

    def _prepared(
        self, name: str, payload: Mapping[str, Any]
    ) -> tuple[str, msgspec.Struct, Callable[[Any], dict[str, Any]]]:
        """A command's owner, arguments and handler. Raises PluginError or ConfigError."""
        commands = self.registry.commands
        if name not in commands:
            known = {**commands, **self._own}
            raise PluginError(f"command {name}: nobody owns it{did_you_mean(name, known)}")
        owner, struct, handler = commands[name]
        arguments, faults = read_struct(struct, payload, f"command {name}")
        if arguments is None:
            raise ConfigError(faults)
        return owner, arguments, handler

    # making

    def _worker(self, plugin: Loaded, old: Worker | None = None) -> Worker:
        """``old``: whom it follows; the events that one was not told yet are handed over."""
        budget = PixelBudget(plugin.keys.frame_budget)
        handle = Handle(
            node=self._node,
            plugin=plugin.name,
            state_dir=self._state_dir / "plugins" / plugin.name,
            events=self._log,
            stopping=threading.Event(),
            budget=budget,
            latest_frame=self._latest_frame,
            zones=self._zones,
            command=self.command,
        )
        self._handles = {**self._handles, plugin.name: handle}
        durable = plugin.durable and "on_event" in plugin.hooks
        feed: Feed = LogFeed(plugin.name, self._log, self._pictures) if durable else _queue(plugin.keys.queue, old)
        worker = Worker(
            plugin.name,
            plugin.hooks,
            feed=feed,
            budget=budget,
            agent=handle,
            config=plugin.config,
            deadline=plugin.keys.deadline,
            version=plugin.version,
        )
        if durable:
            self._durable = True
            self._log.listen(worker.wake)
        return worker


def _dispatcher_hooks(plugin: Loaded) -> dict[str, Hook]:
    return {name: plugin.hooks[name] for name in DISPATCHER_HOOKS if name in plugin.hooks}


def _queue(limit: int, old: Worker | None) -> QueueFeed:
    """The queue of whom it follows, with all that waits in it; else a new one."""
    feed = old.hand_over() if old is not None else None
    if not isinstance(feed, QueueFeed):
        return QueueFeed(limit)
    feed.resize(limit)
    return feed


def _answered(call: Callable[[], dict[str, Any] | Future[dict[str, Any]]]) -> Future[dict[str, Any]]:
    try:
        answer = call()
    except Exception as error:  # noqa: BLE001 - becomes the Future's
        return _failed(error)
    if isinstance(answer, Future):
        return answer
    done: Future[dict[str, Any]] = Future()
    done.set_result(answer)
    return done


def _failed(error: BaseException) -> Future[dict[str, Any]]:
    answer: Future[dict[str, Any]] = Future()
    answer.set_exception(error)
    return answer
