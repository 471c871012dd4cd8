"""The hook that runs beside the monitor, ``choose_rung``: on one thread of its own, waited for a moment, never doubled.

What a rung may be is the governor's; here it is made sure that a plugin's policy cannot hold up the monitor.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Any

from agent.data import Decision, Health
from agent.errors import in_words
from agent.host.worker import Hook

log = logging.getLogger(__name__)

LIMIT = 0.05
STRIKES = 5
REMEMBERED = 600
"""Healths, one a second, that a policy is shown."""


class Chooser:
    """``hooks``: ``choose_rung`` by plugin, in order. ``lost``: whose was taken away, and why. What it has seen of the
    node is kept while there is a hook: ten minutes of it are megabytes."""

    def __init__(self, hooks: Mapping[str, Hook], limit: float = LIMIT) -> None:
        self._hooks = dict(hooks)
        self._limit = limit
        self._history: deque[Health] = deque(maxlen=REMEMBERED)
        self._strikes: Counter[str] = Counter()
        self._jobs: queue.SimpleQueue[tuple[Hook, dict[str, Any], queue.SimpleQueue[Any]] | None] = queue.SimpleQueue()
        self._waiting: queue.SimpleQueue[Any] | None = None
        self._thread: threading.Thread | None = None
        self.lost: dict[str, str] = {}

    def choose(self, health: Health, ladder: Sequence[Decision], current: int, now: float) -> tuple[str, int] | None:
        """The first plugin that answers, and its rung. One that hangs is not asked again until it has returned."""
        if not self._hooks:
            self._history.clear()
            return None
        self._history.append(health)
        values = {"history": tuple(self._history), "ladder": ladder, "current": current, "now": now}
        for name, hook in list(self._hooks.items()):
            if not self._is_free():
                return None
            rung = self._ask(name, hook, values, len(ladder))
            if rung is not None:
                return name, rung
        return None

    def put(self, name: str, hook: Hook | None) -> None:
        """A plugin's hook from now on, None to leave it out; what was held against it is forgotten. Any thread."""
        hooks = {other: own for other, own in self._hooks.items() if other != name}
        self._hooks = hooks if hook is None else {**hooks, name: hook}
        self._strikes.pop(name, None)
        self.lost = {other: why for other, why in self.lost.items() if other != name}

    def close(self) -> None:
        """End the thread, once it is free."""
        if self._thread is not None:
            self._jobs.put(None)

    def _is_free(self) -> bool:
        """Whether the last one that was asked has returned."""
        if self._waiting is None:
            return True
        try:
            self._waiting.get_nowait()
        except queue.Empty:
            return False
        self._waiting = None
        return True

    def _ask(self, name: str, hook: Hook, values: dict[str, Any], rungs: int) -> int | None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="chooser", daemon=True)
            self._thread.start()
        answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._jobs.put((hook, values, answers))
        try:
            answer = answers.get(timeout=self._limit)
        except queue.Empty:
            self._waiting = answers
            self._strike(name, f"took longer than {self._limit * 1e3:.0f} ms")
            return None
        if answer is None:
            return None
        fault = _fault(answer, rungs)
        if fault:
            self._strike(name, fault)
            return None
        return int(answer.rung)

    def _strike(self, name: str, why: str) -> None:
        self._strikes[name] += 1
        log.warning("plugin %s: choose_rung %s", name, why)
        if self._strikes[name] >= STRIKES:
            self._hooks.pop(name, None)
            self.lost[name] = f"choose_rung taken away: {why}"
            log.error("plugin %s: %s", name, self.lost[name])

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            hook, values, answers = job
            try:
                answers.put(hook(**values))
            except BaseException as error:  # noqa: BLE001 - a plugin may raise anything, SystemExit too
                answers.put(error)


def _fault(answer: Any, rungs: int) -> str:
    if isinstance(answer, BaseException):
        return f"failed: {in_words(answer)}"
    if not isinstance(answer, Decision) or type(answer.rung) is not int:
        return f"gave {type(answer).__name__}, no Decision with a rung"
    return "" if 0 <= answer.rung < rungs else f"gave rung {answer.rung}, the ladder has 0 to {rungs - 1}"
