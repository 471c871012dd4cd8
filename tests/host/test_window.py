"""A durable plugin's window: in order, nothing skipped, the cursor behind what has completed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.host.window import Window


def _window(count: int, size: int) -> Window[str]:
    numbers = [number * 3 for number in range(1, count + 1)]  # other streams leave gaps
    return Window(0, lambda after, limit: [(n, str(n)) for n in numbers if n > after][:limit], size)


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
        if window.completed(number):
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
        assert all(number in done for number in attempts if number <= window.position)
    while call() or set(attempts) - done:
        for number in sorted(set(attempts) - done):
            complete(number)
    assert first_calls == sorted(first_calls) == [number * 3 for number in range(1, count + 1)]
    assert window.position == count * 3


def test_a_failure_makes_all_behind_it_due_again_but_not_what_is_done() -> None:
    window = _window(4, 4)
    for _ in range(4):
        delivery = window.next_due()
        assert delivery
        window.called(delivery)
    window.completed(9)
    assert window.failed(6, 1)
    again = []
    while (delivery := window.next_due()) is not None:
        again.append(delivery.number)
        window.called(delivery)
    assert again == [6, 12]
    assert not window.failed(6, 1), "an old attempt's failure does not count"
