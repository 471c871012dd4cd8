"""A durable plugin's way through the event log: what is called next, what has completed. No threads, no clock.

In order; but beside a long backlog a second lane tells what begins now. In each lane the order is the log's, and the
messages of one occurrence keep theirs whatever lane they take: the live lane tells only occurrences that begin in it.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Generic, Literal, TypeVar

from agent.host.ranges import Ranges

T = TypeVar("T")
SIZE = 64
LIVE_STREAK = 3
MAX_RANGES = 4096


class Delivery(Generic[T]):
    """One message on its way: ``due`` (to be called), ``open`` (its Future is pending) or ``done``.

    ``after``: the message before it in its stream. ``late``: it was overtaken.
    """

    __slots__ = ("after", "attempt", "late", "number", "state", "value")

    def __init__(self, after: int, number: int, value: T) -> None:
        self.after = after
        self.number = number
        self.value = value
        self.state: Literal["due", "open", "done"] = "due"
        self.attempt = 0
        self.late = False


class Overtaking(Generic[T]):
    """What the live lane needs: ``begin()``, asked beside a backlog, gives the number behind which a live lane begins,
    None if it is not time for one; ``is_late(value)``, whether it waited; ``occurrence(value)``, what it is about and
    the kind of message (``start``, ``end``, others), None: it may go any way.
    """

    def __init__(
        self,
        begin: Callable[[], int | None],
        is_late: Callable[[T], bool],
        occurrence: Callable[[T], tuple[str, str] | None],
    ) -> None:
        self.begin = begin
        self.is_late = is_late
        self.occurrence = occurrence


class _Lane(Generic[T]):
    """``head``: the last message taken; ``ahead``: what was read behind it, ``long`` if there was more than that;
    ``deliveries``: from the first not done."""

    def __init__(self, head: int) -> None:
        self.head = head
        self.long = False
        self.ahead: deque[Delivery[T]] = deque()
        self.deliveries: OrderedDict[int, Delivery[T]] = OrderedDict()

    def first_due(self) -> Delivery[T] | None:
        return next((delivery for delivery in self.deliveries.values() if delivery.state == "due"), None)

    def rewind(self, after: int) -> None:
        """Read again from behind ``after``."""
        if after < self.head or self.ahead:
            self.head = min(after, self.head)
            self.ahead.clear()

    def settle(self) -> None:
        """Forget what is done, up to the first that is not."""
        while self.deliveries and next(iter(self.deliveries.values())).state == "done":
            self.deliveries.popitem(last=False)


class Window(Generic[T]):
    """At most ``size`` messages of one cursor between the first that is not done and the newest one called.

    ``done``: where the cursor stands. ``read(after, limit)`` gives committed messages as ``(number, value)``. Without
    ``overtaking`` everything is told in order. Beside a backlog each lane has half of the window.
    """

    def __init__(
        self,
        done: Ranges,
        read: Callable[[int, int], Sequence[tuple[int, T]]],
        size: int = SIZE,
        overtaking: Overtaking[T] | None = None,
    ) -> None:
        self.done = done
        self._read = read
        self._size = size
        self._overtaking = overtaking
        self._old: _Lane[T] = _Lane(done.low)
        self._live: _Lane[T] | None = None
        self._left: dict[int, Delivery[T]] = {}  # open, of a live lane that has ended
        self._begun: set[str] = set()
        self._told_live = 0
        self._attempts = 0
        self._streak = 0

    def __len__(self) -> int:
        return sum(len(lane.deliveries) for lane in self._lanes()) + len(self._left)

    @property
    def overtaking(self) -> bool:
        """Whether there are two lanes at present."""
        return self._live is not None

    def next_due(self) -> Delivery[T] | None:
        """The message whose turn it is; None when there is none, or the window is full."""
        for lane in self._lanes():
            if (delivery := self._next_of(lane)) is not None:
                return delivery
            if lane is not self._old and self._live is None:  # the live lane has just ended
                return self.next_due()
        return None

    def called(self, delivery: Delivery[T]) -> int:
        """The hook is called now; the number of this attempt, which is never given again."""
        delivery.state = "open"
        self._attempts += 1
        delivery.attempt = self._attempts
        if self._live is not None and delivery.number in self._live.deliveries:
            self._streak += 1
            self._told_live = max(self._told_live, delivery.number)
        else:
            self._streak = 0
            delivery.late = delivery.number < self._told_live
        return delivery.attempt

    def completed(self, number: int) -> Delivery[T] | None:
        """It was dealt with, by whichever attempt. The delivery if that is news."""
        if (delivery := self._left.pop(number, None)) is not None:
            self.done.add(delivery.after, number)
            return delivery
        for lane in self._lanes():
            delivery = lane.deliveries.get(number)
            if delivery is not None and delivery.state != "done":
                delivery.state = "done"
                self.done.add(delivery.after, number)
                lane.settle()
                return delivery
        return None

    def failed(self, number: int, attempt: int) -> bool:
        """That attempt failed: it and all behind it in its lane that are not done are due again, in order.

        Whether it counts.
        """
        left = self._left.get(number)
        if left is not None and left.attempt == attempt:
            del self._left[number]
            self._old.rewind(left.after)
            return True
        for lane in self._lanes():
            delivery = lane.deliveries.get(number)
            if delivery is not None and delivery.state == "open" and delivery.attempt == attempt:
                for later in lane.deliveries.values():
                    if later.number >= number and later.state == "open":
                        later.state = "due"
                return True
        return False

    def rejoin(self, done: Ranges) -> None:
        """There is a past after all, as ``done`` has it, which includes all that this window has completed."""
        self.done = done
        for lane in self._lanes():
            lane.ahead.clear()
        if self._live is None:
            self._live, self._old = self._old, _Lane(done.low)
            self._begun = set()
        else:
            self._old.rewind(done.low)

    def _lanes(self) -> list[_Lane[T]]:
        """In the order in which they are asked: live ones first, but not always."""
        if self._live is None:
            return [self._old]
        return [self._live, self._old] if self._streak < LIVE_STREAK else [self._old, self._live]

    def _next_of(self, lane: _Lane[T]) -> Delivery[T] | None:
        share = self._size if self._live is None else max(1, self._size // 2)
        delivery = lane.first_due()
        if delivery is None and len(lane.deliveries) < share:
            delivery = self._take(lane)
        if lane is self._live and (len(self.done) > MAX_RANGES or (delivery is not None and self._is_late(delivery))):
            self._end_live()
            return None
        return delivery

    def _take(self, lane: _Lane[T]) -> Delivery[T] | None:
        """The next message of a lane becomes a delivery."""
        while lane.ahead or self._fill(lane):
            self._part(lane)
            delivery = lane.ahead.popleft()
            lane.head = delivery.number
            if lane is self._live and not self._belongs(delivery):
                continue
            lane.deliveries[delivery.number] = delivery
            return delivery
        if lane is self._old and self._live is not None:
            self._unite()
        return None

    def _fill(self, lane: _Lane[T]) -> bool:
        """Read on, leaving out what is done or under way; whether there was anything."""
        limit = self._live.head if self._live is not None and lane is self._old else None
        position = self.done.skip(lane.head)
        while rows := self._read(position, self._size):
            for number, value in rows:
                if limit is not None and number > limit:
                    return bool(lane.ahead)
                if number in self.done:
                    self.done.add(position, number)  # nothing is left in between
                elif not self._is_under_way(number):
                    lane.ahead.append(Delivery(position, number, value))
                position = number
            lane.long = len(rows) >= self._size
            if lane.ahead:
                return True
            position = self.done.skip(position)
        return False

    def _is_under_way(self, number: int) -> bool:
        return number in self._left or any(number in lane.deliveries for lane in self._lanes())

    def _part(self, lane: _Lane[T]) -> None:
        """Open the live lane when what is next is late, more than a window's worth of it waits, and it is time."""
        if self._overtaking is None or self._live is not None or not lane.long or len(self.done) > MAX_RANGES // 2:
            return
        behind = self._overtaking.begin() if self._is_late(lane.ahead[0]) else None
        if behind is not None and behind > lane.ahead[-1].number:
            self._live = _Lane(behind)
            self._begun = set()
            self._streak = 0

    def _is_late(self, delivery: Delivery[T]) -> bool:
        return self._overtaking is not None and self._overtaking.is_late(delivery.value)

    def _belongs(self, delivery: Delivery[T]) -> bool:
        """Whether the live lane may tell it; what began before stays for the other lane."""
        about = self._overtaking.occurrence(delivery.value) if self._overtaking else None
        if about is None:
            return True
        identity, kind = about
        if kind == "start":
            self._begun.add(identity)
        belongs = identity in self._begun
        if kind == "end":
            self._begun.discard(identity)
        return belongs

    def _end_live(self) -> None:
        """The live lane did not keep up: what it has not told is backlog too."""
        live, self._live = self._live, None
        if live is None:
            return
        first = None
        for delivery in live.deliveries.values():
            if delivery.state == "open":
                self._left[delivery.number] = delivery
            elif delivery.state == "due" and first is None:
                first = delivery
        if first is not None:
            self._old.rewind(first.after)

    def _unite(self) -> None:
        """The backlog has come up to the live lane: one lane again."""
        live, self._live = self._live, None
        if live is None:
            return
        both = {**self._old.deliveries, **live.deliveries}
        self._old.deliveries = OrderedDict(sorted(both.items()))
        self._old.head = max(self._old.head, live.head)
        self._old.ahead = live.ahead
