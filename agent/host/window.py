"""A durable plugin's way through the event log: called in order, the cursor behind what has completed. No threads."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
SIZE = 64


class Delivery(Generic[T]):
    """One message on its way: ``due`` (to be called), ``open`` (its Future is pending) or ``done``."""

    __slots__ = ("attempt", "number", "state", "value")

    def __init__(self, number: int, value: T) -> None:
        self.number = number
        self.value = value
        self.state = "due"
        self.attempt = 0


class Window(Generic[T]):
    """At most ``size`` messages between the cursor and the newest one called.

    ``read(after, limit)`` gives committed messages as ``(number, value)``. ``position``: the cursor.
    """

    def __init__(self, position: int, read: Callable[[int, int], Sequence[tuple[int, T]]], size: int = SIZE) -> None:
        self.position = position
        self._read = read
        self._size = size
        self._newest = position
        self._deliveries: OrderedDict[int, Delivery[T]] = OrderedDict()
        self._ahead: list[tuple[int, T]] = []

    def __len__(self) -> int:
        return len(self._deliveries)

    def next_due(self) -> Delivery[T] | None:
        """The message whose turn it is; None when there is none, or the window is full."""
        for delivery in self._deliveries.values():
            if delivery.state == "due":
                return delivery
        if len(self._deliveries) >= self._size:
            return None
        if not self._ahead:
            self._ahead = list(reversed(self._read(self._newest, self._size)))
        if not self._ahead:
            return None
        number, value = self._ahead.pop()
        self._newest = number
        self._deliveries[number] = Delivery(number, value)
        return self._deliveries[number]

    def called(self, delivery: Delivery[T]) -> int:
        """The hook is called now; the number of this attempt."""
        delivery.state = "open"
        delivery.attempt += 1
        return delivery.attempt

    def completed(self, number: int) -> bool:
        """It was dealt with, by whichever attempt. Whether that is news."""
        delivery = self._deliveries.get(number)
        if delivery is None or delivery.state == "done":
            return False
        delivery.state = "done"
        while self._deliveries and next(iter(self._deliveries.values())).state == "done":
            self.position, _ = self._deliveries.popitem(last=False)
        return True

    def failed(self, number: int, attempt: int) -> bool:
        """That attempt failed: it and all behind it that are not done are due again, in order. Whether it counts."""
        delivery = self._deliveries.get(number)
        if delivery is None or delivery.state != "open" or delivery.attempt != attempt:
            return False
        for later in self._deliveries.values():
            if later.number >= number and later.state == "open":
                later.state = "due"
        return True
