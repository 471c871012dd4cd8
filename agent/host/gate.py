"""The two hooks that run on the pipeline's dispatcher, ``keep_event`` and ``event_attributes``: timed, and marked.

A mark in a small mapped file says who is being asked; when the daemon is killed because that one hangs, the mark
names it at the next start.
"""

from __future__ import annotations

import logging
import mmap
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from agent.data import Event, Frame, to_json
from agent.errors import in_words
from agent.host.worker import Hook

log = logging.getLogger(__name__)

LIMIT = 0.005
STRIKES = 5
MARK_BYTES = 128
MAX_ATTRIBUTES = 16 << 10
"""Bytes of JSON that one plugin may add to an event."""

T = TypeVar("T")


class Mark:
    """Who is in the middle of a dispatcher hook; survives kill -9, costs no system call."""

    def __init__(self, path: Path) -> None:
        try:
            self._map = _mapped(path)
        except OSError as error:
            log.warning("%s: cannot be kept: %s; one that hangs on the dispatcher is not remembered", path, error)
            self._map = mmap.mmap(-1, MARK_BYTES)
        self.left_by = self._map[:].rstrip(b"\0").decode("utf-8", "replace")
        self.clear()

    def set(self, name: str) -> None:
        """This plugin is asked now."""
        self._map[:] = name.encode()[:MARK_BYTES].ljust(MARK_BYTES, b"\0")

    def clear(self) -> None:
        """Nobody is."""
        self._map[:] = bytes(MARK_BYTES)


def _mapped(path: Path) -> mmap.mmap:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.stat().st_size != MARK_BYTES:
        path.write_bytes(bytes(MARK_BYTES))
    with path.open("r+b") as file:
        return mmap.mmap(file.fileno(), MARK_BYTES)


class Gate:
    """``hooks``: ``keep_event`` and ``event_attributes`` by plugin. One thread calls it, the dispatcher's."""

    def __init__(
        self,
        hooks: Mapping[str, Mapping[str, Hook]],
        mark: Mark,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._hooks = {name: dict(own) for name, own in hooks.items()}
        self._mark = mark
        self._clock = clock
        self._lock = threading.Lock()  # held while _hooks is replaced; the dispatcher reads without it
        self._strikes: Counter[str] = Counter()
        self.lost: dict[str, str] = {}
        if mark.left_by in self._hooks:
            self._take_away(mark.left_by, "hung on the dispatcher before this start")

    def put(self, name: str, hooks: Mapping[str, Hook]) -> None:
        """A plugin's two hooks from now on, none to leave it out; what was held against it is forgotten. Any thread."""
        with self._lock:
            self._hooks = {other: own for other, own in self._hooks.items() if other != name}
            self.lost = {other: why for other, why in self.lost.items() if other != name}
            del self._strikes[name]
            if hooks:
                self._hooks = {**self._hooks, name: dict(hooks)}

    def keep(self, event: Event) -> bool:
        """Whether all plugins want the event; one that is too slow, or raises, counts as yes."""
        return all(answer is not False for answer in self._ask("keep_event", _verdict, event=event))

    def attributes(self, event: Event, frame: Frame | None) -> dict[str, Any]:
        """What the plugins add, later ones over earlier ones; one that is too slow, or raises, adds nothing.

        As JSON gives it back: what cannot be told is found out here, and nobody keeps a hand on it.
        """
        merged: dict[str, Any] = {}
        for answer in self._ask("event_attributes", _plain, event=event, frame=frame):
            merged.update(answer or {})
        return merged

    def _ask(self, hook: str, read: Callable[[Any], T], **values: Any) -> Iterator[T | None]:
        for name, own in list(self._hooks.items()):
            if hook in own:
                yield self._ask_one(name, own[hook], hook, read, values)

    def _ask_one(
        self, name: str, function: Hook, hook: str, read: Callable[[Any], T], values: dict[str, Any]
    ) -> T | None:
        self._mark.set(name)
        started = self._clock()
        try:
            answer = read(function(**values))
        except BaseException as error:  # SystemExit too: it would end the pipeline
            log.exception("plugin %s: %s failed on the dispatcher", name, hook)
            self._strike(name, f"{hook}: {in_words(error)}")
            return None
        finally:
            self._mark.clear()
        if (took := self._clock() - started) > LIMIT:
            self._strike(name, f"{hook} took {took * 1e3:.0f} ms on the dispatcher (limit {LIMIT * 1e3:.0f} ms)")
            return None
        return answer

    def _strike(self, name: str, why: str) -> None:
        self._strikes[name] += 1
        if self._strikes[name] >= STRIKES:
            self._take_away(name, why)

    def _take_away(self, name: str, why: str) -> None:
        with self._lock:
            self._hooks = {other: own for other, own in self._hooks.items() if other != name}
            self.lost = {**self.lost, name: f"keep_event and event_attributes taken away: {why}"}
        log.error("plugin %s: %s", name, self.lost[name])


def _verdict(answer: Any) -> bool:
    return answer is None or bool(answer)


def _plain(answer: Any) -> dict[str, Any]:
    if answer is None:
        return {}
    if not isinstance(answer, Mapping):
        raise TypeError(f"gave {type(answer).__name__}, no dict")
    text = to_json(dict(answer))
    if len(text) > MAX_ATTRIBUTES:
        raise ValueError(f"gave {len(text)} bytes of JSON, at most {MAX_ATTRIBUTES} are taken")
    return msgspec.json.decode(text, type=dict[str, Any])
