"""Which messages a cursor has dealt with: all up to a low mark, and ranges above it. Pure.

A range is half open, ``(after, upto]``, and joins its neighbours; numbers that belong to other streams lie in it too.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

KEPT_ON_DISK = 256


class Ranges:
    """``low``: everything up to it is done. ``above``: further ranges, in any order."""

    __slots__ = ("_after", "_upto", "low")

    def __init__(self, low: int = 0, above: Iterable[tuple[int, int]] = ()) -> None:
        self.low = low
        self._after: list[int] = []
        self._upto: list[int] = []
        for after, upto in above:
            self.add(after, upto)

    def __len__(self) -> int:
        return len(self._after)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._after, self._upto, strict=True)

    def __contains__(self, number: int) -> bool:
        place = bisect_left(self._upto, number)
        return number <= self.low or (place < len(self._after) and self._after[place] < number)

    def copy(self) -> Ranges:
        """One that does not change with this."""
        other = Ranges(self.low)
        other._after, other._upto = self._after.copy(), self._upto.copy()
        return other

    def add(self, after: int, upto: int) -> None:
        """Everything behind ``after``, up to ``upto``, is done as well."""
        if upto <= max(after, self.low):
            return
        if after > self.low:
            self._insert(after, upto)
        else:
            self.low = upto
        while self._after and self._after[0] <= self.low:
            self.low = max(self.low, self._upto[0])
            del self._after[0], self._upto[0]

    def skip(self, position: int) -> int:
        """Where reading on behind ``position`` may begin: ``position``, or the end of the range that it lies in."""
        place = bisect_right(self._upto, position)
        if place < len(self._after) and self._after[place] <= position:
            return self._upto[place]
        return max(position, self.low)

    def encode(self) -> str:
        """What is above the low mark as text; of very many ranges the widest, the rest would be dealt with again."""
        kept = list(self)
        if len(kept) > KEPT_ON_DISK:
            kept = sorted(kept, key=lambda span: span[1] - span[0])[-KEPT_ON_DISK:]
        return ",".join(f"{after}:{upto}" for after, upto in kept)

    @classmethod
    def decode(cls, low: int, text: str) -> Ranges:
        """What ``encode`` wrote. Raises ValueError when it did not."""
        spans = [part.split(":") for part in text.split(",") if part]
        return cls(low, [(int(after), int(upto)) for after, upto in spans])

    def _insert(self, after: int, upto: int) -> None:
        first, last = bisect_left(self._upto, after), bisect_right(self._after, upto)
        if first < last:
            after, upto = min(after, self._after[first]), max(upto, self._upto[last - 1])
        self._after[first:last] = [after]
        self._upto[first:last] = [upto]
