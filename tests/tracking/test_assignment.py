"""Assignment takes the pairs of greatest total similarity, each row and column at most once."""

from __future__ import annotations

import itertools
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from agent.tracking import assignment
from agent.tracking.assignment import assign
from agent.tracking.overlap import iou, meeting

grids = st.integers(0, 5).flatmap(
    lambda rows: st.integers(0, 5).flatmap(
        lambda columns: st.lists(
            st.one_of(st.none(), st.floats(0.01, 1.0)), min_size=rows * columns, max_size=rows * columns
        ).map(lambda cells: {divmod(index, columns): cell for index, cell in enumerate(cells) if cell is not None})
    )
)


def best_total(candidates: dict[tuple[int, int], float]) -> float:
    """By trying every subset of pairs, row by row."""
    rows = sorted({row for row, _ in candidates})
    choices = [[None, *(column for row, column in candidates if row == mine)] for mine in rows]
    best = 0.0
    for picked in itertools.product(*choices):
        columns = [column for column in picked if column is not None]
        if len(columns) == len(set(columns)):
            total = sum(candidates[row, col] for row, col in zip(rows, picked, strict=True) if col is not None)
            best = max(best, total)
    return best


@pytest.mark.parametrize("few", [0, assignment.FEW])
@given(grids)
def test_no_other_choice_has_a_greater_total(few: int, candidates: dict[tuple[int, int], float]) -> None:
    rows = np.array([row for row, _ in candidates], dtype=np.intp)
    columns = np.array([column for _, column in candidates], dtype=np.intp)
    similarity = np.array(list(candidates.values()))
    with mock.patch.object(assignment, "FEW", few):
        chosen = assign(rows, columns, similarity)
    assert len(set(rows[chosen].tolist())) == len(set(columns[chosen].tolist())) == len(chosen)
    assert similarity[chosen].sum() == pytest.approx(best_total(candidates))


def test_of_two_equal_detections_the_first_and_surer_one_is_taken() -> None:
    rows, columns = np.array([0, 0, 1, 1]), np.array([7, 3, 7, 9])
    assert assign(rows[:2], columns[:2], np.array([0.5, 0.5])).tolist() == [1]
    assert assign(rows, columns, np.array([0.5, 0.5, 0.2, 0.2])).tolist() == [1, 2]


coordinates = st.floats(0.0, 100.0)
box_lists = st.lists(
    st.tuples(coordinates, coordinates, st.floats(1.0, 50.0), st.floats(1.0, 50.0)).map(
        lambda box: (box[0], box[1], box[0] + box[2], box[1] + box[3])
    ),
    max_size=6,
)


def as_array(boxes: list[tuple[float, float, float, float]]) -> NDArray[np.float64]:
    return np.asarray(np.array(boxes, dtype=np.float64).reshape(-1, 4).T)


@given(box_lists, box_lists, st.floats(0.0, 20.0))
def test_pairs_that_meet_have_the_overlap_of_the_full_matrix(
    first: list[tuple[float, float, float, float]], second: list[tuple[float, float, float, float]], growth: float
) -> None:
    one, other = as_array(first), as_array(second)
    pairs = meeting(one, other, np.full(len(first), growth))
    whole = iou(one, other)
    border = np.array([[-growth], [-growth], [growth], [growth]])
    grown = iou(one + border, other + border)
    np.testing.assert_allclose(pairs.iou, whole[pairs.rows, pairs.columns], atol=1e-9)
    np.testing.assert_allclose(pairs.grown, grown[pairs.rows, pairs.columns], atol=1e-9)
    left_out = np.ones_like(grown, dtype=bool)
    left_out[pairs.rows, pairs.columns] = False
    assert (grown[left_out] < 1e-4).all()


def test_boxes_that_coincide_overlap_fully_and_boxes_apart_not_at_all() -> None:
    boxes = as_array([(0, 0, 10, 10), (20, 0, 30, 10)])
    np.testing.assert_allclose(iou(boxes, boxes), np.eye(2))
