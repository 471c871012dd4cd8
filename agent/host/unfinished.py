"""Which events have begun and not ended, kept on disk: what a killed daemon left open the next one ends.

The truth is the event log. A small file says what was open up to which message of it, so that a start reads only what
came after.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from agent.data import Event, to_json
from agent.host.journal import EVENTS

if TYPE_CHECKING:
    from agent.host.log import EventLog

log = logging.getLogger(__name__)

CHUNK = 512


class _State(msgspec.Struct, frozen=True):
    """``position``: the number of the last message of the log that ``open`` takes into account."""

    position: int = 0
    open: tuple[Event, ...] = ()


class Unfinished:
    """``path``: where the open events are kept. Any thread; the disk is touched by ``recover`` and ``save`` alone."""

    def __init__(self, path: Path, events: EventLog) -> None:
        self._path = path
        self._log = events
        self._lock = threading.Lock()
        self._position = 0
        self._open: dict[str, Event] = {}
        self._changed = False
        self._complained = False

    def __len__(self) -> int:
        """Events that have begun and not ended."""
        return len(self._open)

    def recover(self, now: float) -> list[Event]:
        """The ends, at UNIX time ``now``, of all that an earlier daemon had begun. They are yet to be told."""
        state = self._read()
        newest = self._log.newest
        after = state.position if state.position <= newest else 0  # the log was made anew
        left = {event.id: event for event in state.open}
        try:
            while rows := self._log.read(EVENTS, after, CHUNK):
                for row in rows:
                    _fold(left, _decoded(row.payload))
                after = rows[-1].seq
        except sqlite3.Error as error:
            log.warning("event log: cannot be read to its end (%s): some events may stay open", error)
        with self._lock:
            self._position, self._open, self._changed = max(after, self._position), left, True
        return [_end_of(event, now) for event in left.values()]

    def note(self, events: Sequence[Event], accepted: Future[list[int]]) -> None:
        """These were offered to the log; they count once it has ``accepted`` them."""
        accepted.add_done_callback(lambda done: self._take(events, done))

    def save(self) -> None:
        """Write the file when something changed. A disk that says no is told of once: the log knows all of it too."""
        with self._lock:
            if not self._changed:
                return
            state, self._changed = _State(self._position, tuple(self._open.values())), False
        temporary = self._path.with_suffix(".json.new")
        try:
            temporary.write_bytes(to_json(state))
            temporary.replace(self._path)
            self._complained = False
        except OSError as error:
            with self._lock:
                self._changed = True
            if not self._complained:
                log.warning("%s: cannot be written: %s", self._path, error.strerror)
            self._complained = True

    def _take(self, events: Sequence[Event], done: Future[list[int]]) -> None:
        with self._lock:
            for event in events:
                _fold(self._open, event)
            if not done.cancelled() and done.exception() is None and (numbers := done.result()):
                self._position = numbers[-1]
            self._changed = True

    def _read(self) -> _State:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=_State)
        except FileNotFoundError:
            return _State()
        except (OSError, msgspec.MsgspecError, ValueError) as error:
            log.warning("%s: not usable (%s): the whole event log is read instead", self._path, error)
            return _State()


def _decoded(payload: bytes) -> Event | None:
    try:
        return msgspec.json.decode(payload, type=Event)
    except msgspec.MsgspecError:  # from another version; whoever wanted it has been told of it
        return None


def _fold(left: dict[str, Event], event: Event | None) -> None:
    if event is None:
        return
    if event.kind == "end":
        left.pop(event.id, None)
    else:
        left[event.id] = event


def _end_of(event: Event, now: float) -> Event:
    """It ended when it was last heard of; that is told only now."""
    return msgspec.structs.replace(
        event,
        kind="end",
        seq=event.seq + 1,
        ended_at=event.updated_at,
        ended_by="restart",
        late=True,
        queued_at=event.updated_at,
        frame_age_ms=max(now - event.captured_at, 0.0) * 1e3,
    )
