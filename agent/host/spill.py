"""Messages that no disk holds yet: in memory, in order, bounded in bytes and count, the oldest dropped first.

Not locked: the event log calls it under its own lock.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence

from agent.host.store import Row

MAX_BYTES = 32 << 20
MAX_ROWS = 50_000


def _number(row: Row) -> int:
    return row.seq


class Spill:
    """``max_bytes`` and ``max_rows`` bound it."""

    def __init__(self, max_bytes: int = MAX_BYTES, max_rows: int = MAX_ROWS) -> None:
        self._max_bytes = max_bytes
        self._max_rows = max_rows
        self._rows: list[Row] = []
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)

    def add(self, rows: Sequence[Row], oldest_known: float) -> list[Row]:
        """Keep messages, numbered higher than any here; those dropped for it, or for being from before that time."""
        self._rows += rows
        self.bytes += sum(row.size for row in rows)
        size, count = self.bytes, 0
        for row in self._rows:
            left = len(self._rows) - count
            if size <= self._max_bytes and left <= self._max_rows and row.known >= oldest_known:
                break
            size -= row.size
            count += 1
        return self.take(count)

    def first(self, limit: int) -> list[Row]:
        """The oldest."""
        return self._rows[:limit]

    def take(self, count: int) -> list[Row]:
        """Remove the oldest and give them."""
        gone = self._rows[:count]
        del self._rows[:count]
        self.bytes -= sum(row.size for row in gone)
        return gone

    def remove(self, numbers: Collection[int]) -> None:
        """Forget acknowledged messages."""
        if numbers and self._rows:
            self._rows = [row for row in self._rows if row.seq not in numbers]
            self.bytes = sum(row.size for row in self._rows)

    def read(self, stream: str, after: int, limit: int) -> list[Row]:
        """Messages of a stream behind a number, in order."""
        found: list[Row] = []
        for place in range(bisect_right(self._rows, after, key=_number), len(self._rows)):
            if len(found) == limit:
                break
            if self._rows[place].stream == stream:
                found.append(self._rows[place])
        return found

    def of_stream(self, stream: str) -> list[Row]:
        """All messages of a stream."""
        return [row for row in self._rows if row.stream == stream]

    def shift(self, offset: float) -> None:
        """Known time turned out to be so much later."""
        self._rows = [row._replace(known=row.known + offset) for row in self._rows]
