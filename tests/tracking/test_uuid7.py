"""UUIDs that sort by time."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.tracking.uuid7 import uuid7

noise = st.binary(min_size=8, max_size=8)
moments = st.floats(0.0, 4e9)


@given(moments, noise)
def test_it_is_a_uuid_of_version_7_that_holds_its_time(at: float, random: bytes) -> None:
    parsed = uuid.UUID(uuid7(at, random))
    assert str(parsed) == uuid7(at, random)
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert parsed.int >> 80 == int(at * 1000.0 * 4096.0) // 4096


@given(moments, st.floats(1e-3, 1e6), noise, noise)
def test_what_is_later_sorts_later(at: float, after: float, first: bytes, second: bytes) -> None:
    assert uuid7(at, first) < uuid7(at + after, second)


def test_it_agrees_with_the_example_of_the_rfc_in_time_version_and_variant() -> None:
    assert uuid7(1645557742.0, bytes(8)).startswith("017f22e2-79b0-7000-8000-")


def test_two_of_one_moment_differ_by_their_random_bits() -> None:
    assert uuid7(1.7e9, b"\0" * 8) != uuid7(1.7e9, b"\1" * 8)


def test_a_clock_before_1970_counts_as_1970() -> None:
    assert uuid7(-5.0, bytes(8)).startswith("00000000-0000-7")


def test_too_few_random_bytes_are_refused() -> None:
    with pytest.raises(ValueError, match="8 random bytes"):
        uuid7(0.0, b"")
