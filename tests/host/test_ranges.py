"""Ranges against a plain set of numbers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.host.ranges import KEPT_ON_DISK, Ranges

SPANS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 8)).map(lambda span: (span[0], sum(span))), max_size=30)


@given(st.integers(0, 10), SPANS)
def test_it_holds_exactly_what_was_added_in_as_few_ranges_as_can_be(low: int, spans: list[tuple[int, int]]) -> None:
    ranges, model = Ranges(low), set(range(1, low + 1))
    for after, upto in spans:
        ranges.add(after, upto)
        model |= set(range(after + 1, upto + 1))
        assert {number for number in range(1, 60) if number in ranges} == model
    assert ranges.low == next(number for number in range(60) if number + 1 not in model)
    spread = list(ranges)
    assert all(after < upto for after, upto in spread)
    assert all(one[1] < two[0] for one, two in zip([(0, ranges.low), *spread], spread, strict=False))
    for position in range(60):
        unread = [number for number in range(position + 1, 61) if number not in model]
        skipped = ranges.skip(position)
        assert skipped >= position
        assert not [number for number in unread if number <= skipped]
        if unread and unread[0] > position + 1 and position in {0, *model}:
            assert skipped == unread[0] - 1, "a range is skipped in one go"


@given(st.integers(-50, 50), SPANS, st.integers(-200, 200))
def test_what_is_written_is_read_back(low: int, spans: list[tuple[int, int]], by: int) -> None:
    ranges = Ranges(low + by, [(after + by, upto + by) for after, upto in spans])
    again = Ranges.decode(ranges.low, ranges.encode())
    assert (again.low, list(again)) == (ranges.low, list(ranges))


def test_of_too_many_ranges_the_widest_are_kept_and_nothing_is_kept_that_was_not_done() -> None:
    ranges = Ranges(0, [(10 * number, 10 * number + 1 + number % 7) for number in range(1, 1000)])
    again = Ranges.decode(ranges.low, ranges.encode())
    assert len(again) == KEPT_ON_DISK
    assert set(again) <= set(ranges)
    assert {upto - after for after, upto in again} <= {6, 7}
