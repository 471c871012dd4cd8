"""Where every reader of the event log stands. Not locked: the event log calls it under its own lock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from agent.host.ranges import Ranges


@dataclass
class Cursor:
    """``start``: where it stood when this run met it; ``claimed``: it has a reader in this run."""

    stream: str
    done: Ranges
    start: int
    claimed: bool = False


class Cursors:
    """By name. ``changed``: those that the disk does not know as they are; ``steps``: completed since it did."""

    def __init__(self, found: Mapping[str, tuple[str, Ranges]]) -> None:
        self._all = {name: Cursor(stream, done, done.low) for name, (stream, done) in found.items()}
        self.changed: set[str] = set()
        self.steps = 0

    def claim(self, name: str, stream: str, newest: int) -> Cursor:
        """The cursor of a reader; a new one begins behind ``newest``."""
        if name not in self._all:
            self._all[name] = Cursor(stream, Ranges(newest), newest)
            self.changed.add(name)
        cursor = self._all[name]
        if not cursor.claimed:
            cursor.claimed = True
            self.changed.add(name)
        return cursor

    def advance(self, name: str, upto: int, after: int | None) -> bool:
        """That reader has dealt with what lies behind ``after`` up to ``upto``, None: all; if it is news."""
        done = self._all[name].done
        if upto in done:
            return False
        done.add(done.low if after is None else after, upto)
        self.changed.add(name)
        self.steps += 1
        return True

    def take_changed(self) -> dict[str, tuple[str, Ranges]]:
        """What is to be written; it counts as written unless it is given back with ``mark``."""
        taken = {name: (self._all[name].stream, self._all[name].done.copy()) for name in self.changed}
        self.changed.clear()
        self.steps = 0
        return taken

    def mark(self, names: Iterable[str]) -> None:
        """These are not on the disk after all."""
        self.changed.update(names)

    def mark_all(self) -> None:
        """The disk knows none of them."""
        self.mark(self._all)

    def claimed(self) -> dict[str, tuple[str, Ranges]]:
        """Stream and state of those that have a reader."""
        return {name: (each.stream, each.done.copy()) for name, each in self._all.items() if each.claimed}

    def is_unread(self, stream: str, number: int) -> bool:
        """Whether a reader has not dealt with a message of its stream."""
        return any(each.claimed and each.stream == stream and number not in each.done for each in self._all.values())

    def forget(self, names: Iterable[str]) -> None:
        """They were removed from the disk."""
        for name in names:
            self._all.pop(name, None)
            self.changed.discard(name)

    def join(self, found: Mapping[str, tuple[str, Ranges]]) -> None:
        """A file turned up that knows some of them from before; what was done since lies behind all that it holds."""
        for name, (stream, past) in found.items():
            mine = self._all.get(name)
            if mine is not None and mine.stream == stream:
                for after, upto in [(mine.start, mine.done.low), *mine.done]:
                    past.add(after, upto)
                mine.done = past
            elif mine is None:
                self._all[name] = Cursor(stream, past, past.low)
