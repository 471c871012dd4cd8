"""Inside, near and across, held against plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.tracking.geometry import area, crossed, crosses_itself, distances, inside

points = st.tuples(st.floats(-10, 10), st.floats(-10, 10))
SQUARE = np.array([(0.0, 0.0), (4.0, 0.0), (4.0, 4.0), (0.0, 4.0)])
DENT = np.array([(0.0, 0.0), (4.0, 0.0), (4.0, 4.0), (2.0, 1.0), (0.0, 4.0)])


@given(st.lists(points, min_size=1, max_size=20), st.integers(3, 12), st.floats(0.5, 9.0))
def test_a_point_is_in_a_convex_polygon_when_it_is_on_the_inner_side_of_every_edge(
    some: list[tuple[float, float]], corners: int, radius: float
) -> None:
    turns = [2 * math.pi * index / corners for index in range(corners)]
    polygon = np.array([(radius * math.cos(turn), radius * math.sin(turn)) for turn in turns])
    for point, found in zip(some, inside(np.array(some), polygon).tolist(), strict=True):
        sides = [
            (b[0] - a[0]) * (point[1] - a[1]) - (b[1] - a[1]) * (point[0] - a[0])
            for a, b in zip(polygon, np.roll(polygon, -1, axis=0), strict=True)
        ]
        if min(abs(side) for side in sides) > 1e-6:
            assert found == all(side > 0 for side in sides)


def test_a_dent_is_outside() -> None:
    assert inside(np.array([(2.0, 0.5), (2.0, 3.0), (0.3, 3.0), (9.0, 1.0)]), DENT).tolist() == [
        True,
        False,
        True,
        False,
    ]


def test_the_distance_is_that_to_the_nearest_edge() -> None:
    some = np.array([(2.0, 1.0), (6.0, 2.0), (7.0, 8.0)])
    assert distances(some, SQUARE, closed=True) == pytest.approx([1.0, 2.0, 5.0])
    assert distances(some, SQUARE[:2], closed=False)[0] == pytest.approx(1.0)
    assert distances(np.array([(0.0, 2.0)]), SQUARE, closed=False) == pytest.approx([2.0])


def test_a_line_is_crossed_in_two_directions() -> None:
    line = np.array([(0.0, 5.0), (10.0, 5.0)])  # walking to the right, the right hand is below
    above, below, beside = (3.0, 1.0), (3.0, 9.0), (30.0, 9.0)
    before, after = np.array([above, below, above, above]), np.array([below, above, beside, (4.0, 2.0)])
    assert crossed(before, after, line).tolist() == [1, -1, 0, 0]


def test_a_bent_line_crossed_twice_is_not_crossed() -> None:
    line = np.array([(0.0, 0.0), (5.0, 5.0), (10.0, 0.0)])
    assert crossed(np.array([(0.0, 4.0)]), np.array([(10.0, 4.0)]), line).tolist() == [0]
    assert crossed(np.array([(0.0, 4.0)]), np.array([(5.0, 1.0)]), line).tolist() == [-1]


@given(st.lists(points, min_size=2, max_size=30))
def test_along_any_walk_the_crossings_of_an_endless_line_add_up_to_the_change_of_side(
    walk: list[tuple[float, float]],
) -> None:
    line = np.array([(-1e3, 0.0), (1e3, 0.0)])
    steps = crossed(np.array(walk[:-1]), np.array(walk[1:]), line)
    assert steps.sum() == int(walk[-1][1] > 0) - int(walk[0][1] > 0)


def test_a_polygon_in_the_wrong_order_crosses_itself() -> None:
    assert not crosses_itself(SQUARE)
    assert not crosses_itself(DENT)
    assert crosses_itself(SQUARE[[0, 2, 1, 3]])


def test_the_area_is_that_of_the_shoelaces() -> None:
    assert area(SQUARE) == pytest.approx(16.0)
    assert area(SQUARE[::-1]) == pytest.approx(16.0)
