"""The filter agrees with the textbook's matrices, whatever the step."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from agent.tracking import kalman
from agent.tracking.kalman import BoxFilter, centred

BOX: NDArray[np.float64] = np.array([[100.0], [100.0], [180.0], [260.0]])
ROW = np.array([0])


def moved(x: float) -> NDArray[np.float64]:
    return centred(BOX + np.array([[x], [0.0], [x], [0.0]]))


def test_it_agrees_with_the_matrix_form_of_the_filter() -> None:
    dt, length = 0.25, np.sqrt(80.0 * 160.0)
    q, r = (kalman.ACCELERATION * length) ** 2, (kalman.MEASUREMENT * length) ** 2
    step = np.array([[1.0, dt], [0.0, 1.0]])
    noise = q * np.array([[dt**3 / 3, dt**2 / 2], [dt**2 / 2, dt]])
    state, covariance = np.array([140.0, 0.0]), np.diag([r, (kalman.FIRST_SPEED * length) ** 2])
    boxes = BoxFilter()
    boxes.add(centred(BOX))
    for index in range(1, 6):
        boxes.predict(dt)
        state, covariance = step @ state, step @ covariance @ step.T + noise
        assert boxes.spread()[0] == pytest.approx(np.sqrt(covariance[0, 0]))
        boxes.update(ROW, moved(20.0 * index))
        gain = covariance[:, 0] / (covariance[0, 0] + r)
        state = state + gain * (140.0 + 20.0 * index - state[0])
        covariance = covariance - np.outer(gain, covariance[0])
        assert boxes.boxes()[[0, 2], 0].mean() == pytest.approx(state[0])


@pytest.mark.parametrize("fps", [1, 5, 10, 30, 60])
def test_it_learns_a_steady_speed_at_any_rate(fps: int) -> None:
    boxes = BoxFilter()
    boxes.add(centred(BOX))
    for index in range(1, 4 * fps + 1):
        boxes.predict(1.0 / fps)
        boxes.update(ROW, moved(100.0 * index / fps))
    boxes.predict(1.0)
    assert boxes.boxes()[0, 0] == pytest.approx(100.0 + 500.0, abs=15.0)


@given(st.lists(st.floats(0.001, 2.0), min_size=1, max_size=20))
def test_many_small_steps_predict_what_one_large_step_does(steps: list[float]) -> None:
    once, often = BoxFilter(), BoxFilter()
    for boxes in (once, often):
        boxes.add(centred(BOX))
        boxes.predict(0.5)
        boxes.update(ROW, moved(30.0))
        boxes.hold_sizes(ROW)
    for step in steps:
        often.predict(step)
    once.predict(sum(steps))
    np.testing.assert_allclose(often.boxes(), once.boxes(), rtol=1e-9)
    np.testing.assert_allclose(often.spread(), once.spread(), rtol=1e-9)


def test_time_that_stands_still_changes_nothing() -> None:
    boxes = BoxFilter()
    boxes.add(centred(BOX))
    boxes.predict(0.0)
    boxes.predict(-1.0)
    np.testing.assert_array_equal(boxes.boxes(), BOX)


def test_a_box_never_gets_smaller_than_a_pixel() -> None:
    boxes = BoxFilter()
    boxes.add(centred(BOX))
    boxes.predict(0.1)
    boxes.update(ROW, centred(np.array([[139.0], [179.0], [141.0], [181.0]])))
    boxes.predict(10.0)
    x1, y1, x2, y2 = boxes.boxes()[:, 0]
    assert x2 - x1 >= 1.0
    assert y2 - y1 >= 1.0
