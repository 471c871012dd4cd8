"""The wait before a lost camera is tried again."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from agent.sources.backoff import CAP, FIRST, Backoff

seeds = st.integers(0, 2**32)


@given(seeds)
def test_the_first_retry_comes_within_a_second(seed: int) -> None:
    assert 0 < Backoff(random.Random(seed)).next() < 1


@given(seeds, st.integers(1, 200))
def test_no_wait_is_ever_longer_than_the_cap(seed: int, failures: int) -> None:
    backoff = Backoff(random.Random(seed))
    assert all(backoff.next() <= CAP for _ in range(failures))


@given(seeds)
def test_waits_grow_to_the_neighbourhood_of_the_cap_and_stay_there(seed: int) -> None:
    backoff = Backoff(random.Random(seed))
    delays = [backoff.next() for _ in range(30)]
    assert all(delay >= CAP / 2 for delay in delays[10:])


def test_two_cameras_that_were_lost_together_do_not_come_back_together() -> None:
    one, other = Backoff(random.Random(1)), Backoff(random.Random(2))
    assert all(one.next() != other.next() for _ in range(20))


@given(seeds, st.lists(st.floats(0, 100), max_size=50))
def test_the_wait_is_never_outside_its_bounds_however_long_connections_lived(seed: int, lives: list[float]) -> None:
    backoff = Backoff(random.Random(seed))
    for seconds in lives:
        assert FIRST / 2 <= backoff.next() <= CAP
        backoff.lived(seconds)


def test_a_connection_that_lived_earns_a_fresh_start() -> None:
    backoff = Backoff(random.Random(3))
    delays = [backoff.next() for _ in range(8)]
    backoff.lived(delays[-1] + 1)
    assert backoff.next() < 1


def test_a_camera_that_comes_and_goes_at_once_waits_longer_and_longer() -> None:
    backoff = Backoff(random.Random(4))
    for _ in range(12):
        backoff.next()
        backoff.lived(0.05)
    assert backoff.next() >= CAP / 2
