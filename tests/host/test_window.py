"""A durable plugin's window: in order, nothing skipped, the cursor behind what has completed."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.host.ranges import Ranges
from agent.host.window import Overtaking, Window


def _window(count: int, size: int) -> Window[str]:
    numbers = [number * 3 for number in range(1, count + 1)]  # other streams leave gaps
    return Window(Ranges(), lambda after, limit: [(n, str(n)) for n in numbers if n > after][:limit], size)


@given(
    st.integers(0, 12), st.integers(1, 5), st.lists(st.tuples(st.sampled_from("cdf"), st.integers(0, 20)), max_size=60)
)
def test_each_message_is_completed_once_calls_are_in_order_and_the_cursor_never_passes_an_open_one(
    count: int, size: int, steps: list[tuple[str, int]]
) -> None:
    window = _window(count, size)
    attempts: dict[int, int] = {}
    done: set[int] = set()
    first_calls: list[int] = []

    def call() -> bool:
        delivery = window.next_due()
        if delivery is None:
            return False
        if delivery.number not in attempts:
            first_calls.append(delivery.number)
        attempts[delivery.number] = window.called(delivery)
        return True

    def complete(number: int) -> None:
        if window.completed(number) is not None:
            assert number not in done
            done.add(number)

    for what, pick in steps:
        open_ = sorted(set(attempts) - done)
        if what == "c":
            call()
        elif open_ and what == "d":
            complete(open_[pick % len(open_)])
        elif open_:
            window.failed(open_[pick % len(open_)], attempts[open_[pick % len(open_)]])
        assert len(window) <= size
        assert all(number in done for number in attempts if number <= window.done.low)
    while call() or set(attempts) - done:
        for number in sorted(set(attempts) - done):
            complete(number)
    assert first_calls == sorted(first_calls) == [number * 3 for number in range(1, count + 1)]
    assert window.done.low == count * 3


def test_a_failure_makes_all_behind_it_due_again_but_not_what_is_done() -> None:
    window = _window(4, 4)
    attempts = {}
    for _ in range(4):
        delivery = window.next_due()
        assert delivery
        attempts[delivery.number] = window.called(delivery)
    window.completed(9)
    assert window.failed(6, attempts[6])
    again = []
    while (delivery := window.next_due()) is not None:
        again.append(delivery.number)
        window.called(delivery)
    assert again == [6, 12]
    assert not window.failed(6, attempts[6]), "an old attempt's failure does not count"


class Camera(NamedTuple):
    """A message of the model: which occurrence, which kind, and when it was written."""

    occurrence: str
    kind: str
    at: int


class Street:
    """A log, a clock and a window over it, with everything that a test wants to know about what was called."""

    def __init__(self, size: int = 4, late_after: int = 5) -> None:
        self.now = 0
        self.log: list[tuple[int, Camera]] = []
        self.late_after = late_after
        self.told: list[tuple[int, bool]] = []
        self.attempts: dict[int, int] = {}
        self.done: set[int] = set()
        self.kinds: dict[str, int] = {}
        self.persisted = Ranges()
        self.size = size
        self.start()

    def start(self) -> None:
        """A daemon starts, on what the last one had persisted."""
        self.attempts = {}
        live: Overtaking[Camera] = Overtaking(
            lambda: self.log[-1][0],
            lambda camera: self.now - camera.at > self.late_after,
            lambda camera: (camera.occurrence, camera.kind),
        )
        self.window: Window[Camera] = Window(self.persisted.copy(), self.read, self.size, live)

    def read(self, after: int, limit: int) -> list[tuple[int, Camera]]:
        return [each for each in self.log if each[0] > after][:limit]

    def write(self, occurrence: str) -> None:
        """The next message of an occurrence: start, three updates, end; then it is another occurrence's name."""
        step = self.kinds.get(occurrence, 0)
        self.kinds[occurrence] = step + 1
        kind = ("start", "update", "update", "update", "end")[step % 5]
        number = (self.log[-1][0] if self.log else 0) + 1 + len(self.log) % 3
        self.log.append((number, Camera(f"{occurrence}{step // 5}", kind, self.now)))

    def call(self) -> bool:
        delivery = self.window.next_due()
        if delivery is None:
            return False
        attempt = self.window.called(delivery)
        assert attempt not in self.attempts.values()
        self.attempts[delivery.number] = attempt
        self.told.append((delivery.number, delivery.late or self.now - delivery.value.at > self.late_after))
        return True

    def complete(self, number: int) -> None:
        delivery = self.window.completed(number)
        if delivery is not None:
            assert number not in self.done
            self.done.add(number)
            self.persisted.add(delivery.after, number)
            self.attempts.pop(number, None)

    def first_times(self) -> list[tuple[int, bool]]:
        seen: set[int] = set()
        return [each for each in self.told if not (each[0] in seen or seen.add(each[0]))]  # type: ignore[func-returns-value]

    def check(self) -> None:
        """What holds at any time."""
        assert len(self.window) <= self.size + self.size // 2 + len(self.window._left)
        assert {number for number, _ in self.log if number in self.persisted} == self.done


STREET = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 3)),
        st.tuples(st.just("call"), st.integers(1, 4)),
        st.tuples(st.just("complete"), st.integers(0, 20)),
        st.tuples(st.just("fail"), st.integers(0, 20)),
        st.tuples(st.just("wait"), st.integers(1, 8)),
        st.tuples(st.just("restart"), st.just(0)),
    ),
    max_size=150,
)


@given(STREET)
def test_beside_a_backlog_nothing_is_lost_and_each_occurrence_keeps_its_order(steps: list[tuple[str, int]]) -> None:
    street = Street()
    for what, value in steps:
        open_ = sorted(street.attempts)
        if what == "write":
            street.write("abcd"[value])
        elif what == "wait":
            street.now += value
        elif what == "restart":
            street.start()
        elif what == "call":
            for _ in range(value):
                street.call()
        elif open_ and what == "complete":
            street.complete(open_[value % len(open_)])
        elif open_:
            number = open_[value % len(open_)]
            street.window.failed(number, street.attempts[number])
        street.check()
    while street.call() or street.attempts:
        for number in sorted(street.attempts):
            street.complete(number)
    assert street.done == {number for number, _ in street.log}, "every message was told until it was done"
    assert street.persisted.low == max(street.done, default=0), "and the cursor is one low mark again"
    about = dict(street.log)
    first_times = street.first_times()
    for name in {camera.occurrence for camera in about.values()}:
        numbers = [number for number, _ in first_times if about[number].occurrence == name]
        assert numbers == sorted(numbers), "no update before its start, no end before its updates"


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4), st.integers(0, 2)), max_size=80), st.integers(0, 60))
def test_told_once_each_what_is_late_is_in_order_and_what_is_not_is_too(
    rounds: list[tuple[int, int, int]], backlog: int
) -> None:
    street = Street()
    for number in range(backlog):
        street.write("abcd"[number % 4])
    street.now += 100
    for writes, calls, waits in rounds:
        for place in range(writes):
            street.write("abcd"[place])
        for _ in range(calls):
            if street.call():
                street.complete(street.told[-1][0])
        street.now += waits
    for late in (True, False):
        numbers = [number for number, was_late in street.told if was_late is late]
        assert numbers == sorted(numbers)


def test_live_messages_are_told_at_once_while_a_long_backlog_drains_and_do_not_stop_it() -> None:
    street = Street(size=8)
    for _ in range(1000):
        street.write("old")
    street.now = 100
    last = street.log[-1][0]
    delays: list[int] = []
    while street.persisted.low < last:
        street.write(f"new {street.now}-")
        newest = street.log[-1][0]
        for call in range(2):  # twice as fast as events come
            assert street.call()
            street.complete(street.told[-1][0])
            if street.told[-1][0] == newest:
                delays.append(call)
        street.now += 1
        assert street.now < 2000, "the backlog drains"
    assert len(delays) > 900, "a live message was told in the turn in which it was written"
    assert not any(late for number, late in street.told if number > last)


def test_a_lane_that_does_not_keep_up_gives_way_and_the_newest_is_tried_again() -> None:
    street = Street(size=8, late_after=3)
    for _ in range(200):
        street.write("old")
    street.now = 100
    ages: list[int] = []
    for _ in range(300):  # three events come for each that can be told
        for place in range(3):
            street.write(f"new {street.now} {place} ")
        assert street.call()
        number, late = street.told[-1]
        street.complete(number)
        if not late:
            ages.append(street.now - dict(street.log)[number].at)
        street.now += 1
    assert len(ages) > 100
    assert max(ages) <= 3, "what is told as live is live"
    assert any(late for _, late in street.told), "and the backlog has its share"


def test_an_occurrence_that_began_in_the_outage_ends_behind_its_start() -> None:
    street = Street(size=4)
    street.write("parked")
    for _ in range(20):
        street.write("old")
    street.now = 100
    assert street.call()
    street.complete(street.told[0][0])
    street.write("parked")
    street.write("fresh")
    while street.call():
        street.complete(street.told[-1][0])
    about = dict(street.log)
    order = [about[number].occurrence for number, _ in street.told]
    assert order.index("fresh0") < 5, "a new occurrence overtakes"
    assert order.index("parked0") == 0
    assert order[-1] == "parked0", "what belongs to the backlog stays in it"
    assert street.told[-1][1], "and is late, as it was overtaken"


def test_so_many_gaps_that_they_would_cost_memory_end_the_overtaking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.host.window.MAX_RANGES", 8)
    street = Street(size=4)
    for _ in range(100):
        street.write("old")
    street.now = 100
    for round_ in range(100):
        street.write("old")  # stays behind: a gap in what the live lane has told
        street.write(f"new {round_} ")
        for _ in range(2):
            if street.call():
                street.complete(street.told[-1][0])
        assert len(street.window.done) <= 10
    while street.call():
        street.complete(street.told[-1][0])
    assert len(street.done) == 300
