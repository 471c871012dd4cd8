"""One plugin, one thread: startup, every ``on_*``, commands and shutdown, in order, and nothing that it does gets out.

Where its events come from is the feed's, how patient we are with it temper's, which pixels it holds the budget's.
"""

from __future__ import annotations

import inspect
import logging
import math
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, NamedTuple

from agent.data import Frame, PluginHealth
from agent.errors import ConfigError, PluginError, in_words
from agent.host.feeds import Feed, Job
from agent.host.pixels import PixelBudget
from agent.host.temper import Temper

log = logging.getLogger(__name__)

MAX_COMMANDS = 64
MAX_PENDING = 256
"""Futures of ``on_event`` that may be open: more than a window of the log, and a bound for those who never answer."""
PERIOD = 1.0
NEWEST = ("on_decision", "on_health", "on_detections")


class Hook(NamedTuple):
    """A bound hook implementation and the arguments that it asked for."""

    function: Callable[..., Any]
    arguments: tuple[str, ...]

    def __call__(self, **values: Any) -> Any:
        return self.function(**{name: values[name] for name in self.arguments})


class _Command(NamedTuple):
    name: str
    handler: Callable[[Any], dict[str, Any]]
    arguments: Any
    answer: Future[dict[str, Any]]


class Worker:
    """``hooks``: by name, those that the plugin has. ``deadline``: seconds that a hook may take.

    ``agent`` and ``config`` are what its ``startup`` gets. ``clock`` gives monotonic seconds.
    """

    def __init__(
        self,
        name: str,
        hooks: Mapping[str, Hook],
        *,
        feed: Feed,
        budget: PixelBudget,
        agent: Any,
        config: Any,
        deadline: float,
        version: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._hooks = dict(hooks)
        self._feed = feed
        self._budget = budget
        self._agent = agent
        self._config = config
        self._deadline = deadline
        self._version = version
        self._clock = clock
        self._changed = threading.Condition()
        # Guarded by _changed:
        self._temper = Temper()
        self._commands: deque[_Command] = deque()
        self._newest: dict[tuple[str, str], tuple[dict[str, Any], Frame | None]] = {}
        self._call: tuple[str, float] | None = None
        self._overdue = False
        self._started = "startup" not in hooks
        self._disabled = ""
        self._stopped = False
        self._stop = False
        self._news = False
        self._fed = True  # whether the feed may have something to tell
        self._asked = -math.inf
        self._idle = False
        self._events_turn = False
        self._handled = 0
        self._failed = 0
        self._pending = 0
        self._kinds: set[tuple[str, str, str]] = set()
        self._thread = threading.Thread(target=self._run, name=f"plugin-{name}", daemon=True)

    # what others call

    def start(self) -> None:
        """Begin with the plugin's ``startup``."""
        self._thread.start()

    def wake(self) -> None:
        """Events may be there."""
        with self._changed:
            self._fed = True
            self._wake()

    def has(self, hook: str) -> bool:
        """Whether the plugin implements the hook."""
        return hook in self._hooks

    def offer_event(self, event: Any, frame: Frame | None) -> None:
        """A new event; returns at once."""
        if "on_event" in self._hooks and not self._disabled:
            self._feed.offer(event, frame)
            self.wake()

    def offer_newest(self, hook: str, values: dict[str, Any], frame: Frame | None = None, camera: str = "") -> None:
        """Something of which only the newest matters, of each camera; it replaces what was not taken in time."""
        if hook in self._hooks and not self._disabled:
            with self._changed:
                self._newest[hook, camera] = (values, frame)
                self._wake()

    def command(self, name: str, handler: Callable[[Any], dict[str, Any]], arguments: Any) -> Future[dict[str, Any]]:
        """Have the handler run on the plugin's thread; the Future fails with PluginError when it cannot."""
        answer: Future[dict[str, Any]] = Future()
        with self._changed:
            refusal = self._refusal()
            if not refusal and len(self._commands) >= MAX_COMMANDS:
                refusal = f"{MAX_COMMANDS} commands wait already"
            if not refusal:
                self._commands.append(_Command(name, handler, arguments, answer))
                self._wake()
        if refusal:
            answer.set_exception(PluginError(f"command {name}: plugin {self.name}: {refusal}", retry_after=5.0))
        return answer

    def check(self, now: float) -> None:
        """Housekeeping, about once a second: notice a hook that exceeds its deadline while it still runs."""
        with self._changed:
            call = self._call
            if call is None or now - call[1] <= self._deadline:
                return
            reason = f"{call[0]} has been running for {now - call[1]:.0f} s (deadline {self._deadline:g} s)"
            first, self._overdue = not self._overdue, True
            self._temper.state, self._temper.reason = "set aside", reason
        if first:
            log.error("plugin %s: set aside: %s", self.name, reason)

    def health(self) -> PluginHealth:
        """State, why, and counts."""
        with self._changed:
            state, reason = self._state()
            return PluginHealth(
                state=state,
                reason=reason,
                version=self._version,
                hooks=tuple(sorted(self._hooks)),
                handled=self._handled,
                failed=self._failed,
                dropped=self._feed.dropped,
                queued=self._feed.waiting(),
                withheld_frames=self._feed.withheld + self._budget.withheld,
            )

    def drained(self) -> bool:
        """Whether nothing waits for it; true as well of one that is set aside, hangs or is disabled."""
        with self._changed:
            if self._disabled or self._overdue or self._temper.state == "set aside" or self._stopped:
                return True
            busy = self._news or not self._idle or self._commands or self._pending or not self._started
        return not busy and ("on_event" not in self._hooks or self._feed.drained())

    def request_stop(self) -> None:
        """After the call in progress: ``shutdown``, and the end of the thread."""
        with self._changed:
            self._stop = True
            self._wake()

    @property
    def ended(self) -> bool:
        """Whether the thread has ended: ``shutdown`` has run, where there is one."""
        return self._stopped and not self._thread.is_alive()

    def hand_over(self) -> Feed:
        """What it had not been told yet, for whoever follows it; only when it has ended."""
        return self._feed

    def join(self, timeout: float) -> bool:
        """Wait for the thread's end; False, logged, when it hangs (it is left behind)."""
        self._thread.join(timeout)
        if self._thread.is_alive():
            call = self._call
            log.error("plugin %s: %s did not return in time, left behind", self.name, call[0] if call else "it")
            return False
        return True

    # the thread

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._stop:
                    break
                self._news = self._idle = False
                rest = 0.0 if self._disabled else max(0.0, self._temper.ready_at - self._clock())
                ready = not rest and not self._disabled
            # Not under the lock that the pipeline takes: the next event may have to wait for the disk.
            if ready and self._act():
                continue
            with self._changed:
                self._idle = True
                if not self._news:
                    self._changed.wait(rest or PERIOD)
        self._end()

    def _wake(self) -> None:
        self._news = True
        self._changed.notify_all()

    def _act(self) -> bool:
        """Do what is next; whether there was anything. Whatever goes wrong, the thread lives on."""
        try:
            step = self._next_step()
            if step is not None:
                step()
        except BaseException as error:  # noqa: BLE001 - an event log that cannot be read, a listener of an answer
            self._note_failure("outside its hooks", error)
            return False
        return step is not None

    def _next_step(self) -> Callable[[], None] | None:
        """Startup first; then a command, an event, the newest of the rest, each kind in its turn."""
        if not self._started:
            return self._start_plugin
        if self._commands:
            command = self._commands.popleft()
            return lambda: self._obey(command)
        self._events_turn = not self._events_turn
        if self._events_turn:
            return self._event_step() or self._newest_step()
        return self._newest_step() or self._event_step()

    def _newest_step(self) -> Callable[[], None] | None:
        with self._changed:
            waiting = min(self._newest, key=lambda key: NEWEST.index(key[0]), default=None)
            values, frame = self._newest.pop(waiting) if waiting else ({}, None)
        if waiting is not None:
            return lambda: self._tell_newest(waiting[0], values, frame)
        return None

    def _event_step(self) -> Callable[[], None] | None:
        """A log is read only when there is news of it, or once a second: not for each frame that wakes this thread."""
        now = self._clock()
        if "on_event" not in self._hooks or self._pending >= MAX_PENDING:
            return None
        if not self._fed and now - self._asked < PERIOD:
            return None
        self._fed, self._asked = False, now  # before it is read: what comes meanwhile is news
        job = self._feed.take()
        if job is None:
            return None
        self._fed = True
        return lambda: self._tell_event(job)

    def _start_plugin(self) -> None:
        if self._guarded("startup", agent=self._agent, config=self._config) is not _FAILED:
            with self._changed:
                self._started = True

    def _tell_newest(self, hook: str, values: dict[str, Any], frame: Frame | None) -> None:
        if "frame" in self._hooks[hook].arguments:
            values = {**values, "frame": self._budget.lend(frame)}
        self._guarded(hook, **values)

    def _tell_event(self, job: Job) -> None:
        wants_frame = "frame" in self._hooks["on_event"].arguments
        frame = self._budget.lend(job.frame) if wants_frame else None
        job.frame = None  # a Future may keep the job for long
        result = self._guarded("on_event", event=job.event, frame=frame)
        if result is _FAILED:
            job.failed()
        elif isinstance(result, Future):
            with self._changed:
                self._pending += 1
            result.add_done_callback(lambda future: self._settled(job, future))
        else:
            self._completed(job)

    def _settled(self, job: Job, future: Future[Any]) -> None:
        """A Future that ``on_event`` returned has completed, on whatever thread completes it."""
        error = PluginError("its Future was cancelled") if future.cancelled() else future.exception()
        if error is None:
            self._completed(job)
        elif job.failed():
            self._note_failure("on_event", error)
        with self._changed:
            self._pending -= 1
            self._fed = True
            self._wake()

    def _completed(self, job: Job) -> None:
        if job.completed():
            with self._changed:
                self._handled += 1
                aside = self._temper.state == "set aside" and self._clock() < self._temper.ready_at
                if not aside and not self._overdue:
                    self._temper.worked("on_event")

    def _obey(self, command: _Command) -> None:
        if not command.answer.set_running_or_notify_cancel():
            return
        result = self._guarded_call(f"command {command.name}", lambda: command.handler(command.arguments))
        if isinstance(result, _Failure):
            command.answer.set_exception(result.error)
        elif isinstance(result, dict):
            command.answer.set_result(result)
        else:
            command.answer.set_exception(PluginError(f"command {command.name}: gave {type(result).__name__}, no dict"))

    def _guarded(self, hook: str, **values: Any) -> Any:
        result = self._guarded_call(hook, lambda: self._hooks[hook](**values))
        if isinstance(result, _Failure):
            self._note_failure(hook, result.error)
            return _FAILED
        return result

    def _guarded_call(self, what: str, call: Callable[[], Any]) -> Any:
        """Make the call, timed; a _Failure when it raised."""
        started = self._clock()
        with self._changed:
            self._call = (what, started)
        result: Any
        try:
            result = call()
            if inspect.isawaitable(result):
                raise TypeError(f"gave {type(result).__name__}, which nobody awaits; give a concurrent.futures.Future")
        except BaseException as error:  # noqa: BLE001 - a plugin may raise anything; SystemExit would end its thread
            result = _Failure(error)
        took = self._clock() - started
        with self._changed:
            late = self._overdue or took > self._deadline
            self._call, self._overdue = None, False
            reason = f"{what} took {took:.1f} s (deadline {self._deadline:g} s)"
            if late:
                self._temper.set_aside(reason, self._clock())
            elif not isinstance(result, (_Failure, Future)):
                self._temper.worked(what)
        if late:
            log.error("plugin %s: set aside: %s", self.name, reason)
        return result

    def _note_failure(self, hook: str, error: BaseException) -> None:
        """Count it, log it once per kind with its traceback, wait before the next call."""
        what = f"{hook}: {in_words(error)}"
        with self._changed:
            self._failed += hook == "on_event"
            if isinstance(error, ConfigError):
                self._disabled = what
            else:
                self._temper.failed(
                    hook if hook in self._hooks else "on_event", what, self._clock(), _asked_delay(error)
                )
            state, reason = self._state()
            self._fed = True
            self._wake()
        self._log_once(hook, error, state, reason)
        # The traceback's frames would keep the plugin's pictures alive.
        traceback.clear_frames(error.__traceback__)
        error.__traceback__ = None

    def _log_once(self, hook: str, error: BaseException, state: str, reason: str) -> None:
        place = traceback.extract_tb(error.__traceback__)
        kind = (hook, type(error).__name__, str(place[-1].lineno) + place[-1].filename if place else "")
        if kind not in self._kinds:
            self._kinds.add(kind)
            expected = isinstance(error, (PluginError, ConfigError))
            log.error("plugin %s: %s: %s", self.name, state, reason, exc_info=None if expected else error)
        elif state in ("set aside", "disabled"):
            log.error("plugin %s: %s: %s", self.name, state, reason)

    def _end(self) -> None:
        """``shutdown``, if ``startup`` got through; commands that wait are refused."""
        if self._started and "shutdown" in self._hooks and not self._disabled:
            self._guarded("shutdown", agent=self._agent)
        with self._changed:
            self._stopped = True
            left = list(self._commands)
            self._commands.clear()
        for command in left:
            if command.answer.set_running_or_notify_cancel():
                command.answer.set_exception(PluginError(f"command {command.name}: plugin {self.name} has stopped"))

    def _refusal(self) -> str:
        if self._stop or self._stopped:
            return "is stopping"
        state, reason = self._state()
        return f"{state}: {reason}" if state in ("disabled", "set aside") else ""

    def _state(self) -> tuple[str, str]:
        if self._disabled:
            return "disabled", self._disabled
        if self._stopped and self._temper.state == "running":
            return "stopped", ""
        if not self._started and self._temper.state == "running":
            return "starting", ""
        if self._temper.state == "running" and (troubled := getattr(self._agent, "troubled", "")):
            return "degraded", troubled
        return self._temper.state, self._temper.reason


def _asked_delay(error: BaseException) -> float | None:
    asked = error.retry_after if isinstance(error, PluginError) else None
    return float(asked) if isinstance(asked, (int, float)) else None


class _Failure(NamedTuple):
    error: BaseException


_FAILED = object()
