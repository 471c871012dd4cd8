"""The pure parts of the precision room: the gate, agreement, calibration, the choice of nodes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.data import Detections
from agent.precision.activations import METHODS, Histogram
from agent.precision.agreement import agreement, disagreement
from agent.precision.calibration import sample, varied
from agent.precision.gate import judge
from agent.precision.search import Candidate, best_int8, best_mixed
from agent.precision.sparsity import two_of_four

RATES = st.none() | st.floats(0, 3) | st.just(math.nan)


@given(loss=st.none() | st.floats(-1, 1) | st.just(math.nan), speedup=RATES, forced=st.booleans())
def test_the_gate_lets_through_what_is_good_and_fast_and_nothing_else_unless_forced(
    loss: float | None, speedup: float | None, forced: bool
) -> None:
    verdict = judge(loss, speedup, 0.02, forced=forced)
    good = loss is not None and loss <= 0.02 and speedup is not None and speedup >= 1.05
    assert verdict.usable == (good or forced)
    assert ("FORCED" in verdict.reason) == (forced and not good)
    assert verdict.reason


def test_a_refusal_has_its_figures() -> None:
    assert judge(0.337, 0.45).reason == (
        "loses 0.3370 of accuracy, more than 0.02 and is 0.45 x as fast as fp32 here, less than 1.05 x"
    )
    assert "was never measured for accuracy" in judge(None, 2.0).reason


def found(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    boxes = np.array([row[:4] for row in rows], np.float32).reshape(-1, 4)
    return Detections(
        camera="cam",
        seq=0,
        captured_at=0.0,
        boxes=boxes,
        scores=np.array([row[4] for row in rows], np.float32),
        class_ids=np.array([row[5] for row in rows], np.int32),
        labels=tuple(f"class {row[5]}" for row in rows),
        size=(100, 100),
        precision="fp32",
        latency_ms=1.0,
    )


def test_equal_detections_agree_wholly_and_each_difference_costs() -> None:
    one = found((0, 0, 10, 10, 0.9, 0), (20, 20, 40, 40, 0.5, 1))
    assert agreement([one], [one]) == (1.0, 0.0)
    assert disagreement([one], [one]) == 0.0
    lower = found((0, 0, 10, 10, 0.7, 0), (20, 20, 40, 40, 0.5, 1))
    assert agreement([one], [lower]).score_difference == pytest.approx(0.1)
    assert disagreement([one], [lower]) == pytest.approx(0.2 / 1.4, rel=1e-5)
    missing = found((0, 0, 10, 10, 0.9, 0))
    assert agreement([one], [missing]).f1 == pytest.approx(2 / 3)
    assert disagreement([one], [missing]) == pytest.approx(0.5 / 1.4, rel=1e-5)
    other_class = found((0, 0, 10, 10, 0.9, 1), (20, 20, 40, 40, 0.5, 1))
    assert agreement([one], [other_class]).f1 == pytest.approx(0.5)


def test_nothing_found_by_either_is_agreement() -> None:
    assert agreement([found()], [found()]) == (1.0, 0.0)
    assert disagreement([found()], [found()]) == 0.0


@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(0.01, 100))
def test_no_calibrator_reaches_beyond_what_was_seen_and_all_but_minmax_may_cut(seed: int, scale: float) -> None:
    values = np.random.default_rng(seed).normal(0, scale, 5000).astype(np.float32)
    histogram = Histogram(float(np.abs(values).max()))
    histogram.add(values)
    for method in METHODS:
        threshold = histogram.threshold(method)
        assert 0 < threshold <= histogram.top * 1.001
    assert histogram.threshold("minmax") == histogram.top
    assert histogram.threshold("percentile-99.9") <= histogram.threshold("percentile-99.99") * 1.001


def test_an_outlier_does_not_spoil_the_steps_of_the_others() -> None:
    values = np.concatenate([np.random.default_rng(1).uniform(-1, 1, 10_000), [80.0]]).astype(np.float32)
    histogram = Histogram(80.0)
    histogram.add(values)
    # What 80 costs when it is cut off against what coarse steps cost all others: minmax has no such weighing.
    assert histogram.threshold("percentile-99.9") < 2
    assert histogram.threshold("entropy") < 20
    assert Histogram(0.0).threshold("mse") == 0.0


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 30))
def test_the_chosen_pictures_differ_more_than_the_first_ones_do(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    same = np.repeat(rng.uniform(0, 1, (1, 6)), 40, axis=0)
    others = rng.uniform(0, 1, (20, 6))
    descriptors = np.concatenate([same, others]).astype(np.float32)
    chosen = varied(descriptors, count)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == count
    # Of forty equal pictures one is enough as long as there are others.
    assert sum(index < 40 for index in chosen) <= max(1, count - 20 + 1)


def test_pictures_are_taken_from_all_over_a_video_and_the_same_ones_each_time(material: Path) -> None:
    clip = str(material / "video" / "person-bicycle-car-detection.mjpg.avi")
    taken, again = sample([clip], 8), sample([clip], 8)
    places = [frame.seq for frame in taken.frames]
    assert len(places) == 8
    assert places == sorted(set(places))
    assert places[-1] - places[0] >= 20, "of 41 frames"
    assert taken.digest == again.digest
    assert all(np.array_equal(one.pixels, two.pixels) for one, two in zip(taken.frames, again.frames, strict=True))
    counted: list[str] = []

    @contextmanager
    def steps(what: str, total: int | None) -> Iterator[Callable[[], object]]:
        yield lambda: counted.append(f"{what} of {total}")

    sample([clip, str(material / "images" / "samples" / "dog.jpg")], 3, steps)
    assert counted == ["pictures looked at of None"] * 42


@given(exponent=st.floats(-26.5, 13))
def test_weights_stored_as_rounded_floats_become_the_same_int8_whoever_divides(exponent: float) -> None:
    levels, scale = np.arange(-127, 128, dtype=np.float32), np.float32(2.0**exponent)
    stored = levels * scale
    np.testing.assert_array_equal(np.round(stored / scale), levels)
    np.testing.assert_array_equal(np.round(stored * (np.float32(1) / scale)), levels)


@given(seed=st.integers(0, 2**32 - 1), outputs=st.integers(1, 5), fours=st.integers(1, 4))
def test_of_each_four_weights_the_two_largest_stay(seed: int, outputs: int, fours: int) -> None:
    weight = np.random.default_rng(seed).normal(0, 1, (outputs, fours * 4, 3, 3)).astype(np.float32)
    pruned = two_of_four(weight, 1)
    groups, before = pruned.transpose(0, 2, 3, 1).reshape(-1, 4), weight.transpose(0, 2, 3, 1).reshape(-1, 4)
    assert ((groups != 0).sum(axis=1) == 2).all()
    for kept, all_four in zip(groups, before, strict=True):
        assert sorted(abs(kept[kept != 0])) == sorted(abs(all_four))[2:]
    odd = np.ones((2, 3, 1, 1), np.float32)
    assert two_of_four(odd, 1) is odd


def test_int8_takes_the_largest_share_that_hardly_costs_more_and_mixed_the_best_below() -> None:
    tried = [
        Candidate("mse", (), 1.0, 0.9),
        Candidate("mse", ("a",), 0.9, 0.25),
        Candidate("mse", ("a", "b"), 0.7, 0.2),
        Candidate("mse", ("a", "b", "c"), 0.4, 0.1),
        Candidate("mse", ("a", "b", "c", "d"), 0.3, 0.15),
    ]
    int8, mixed = best_int8(tried), best_mixed(tried)
    assert int8 is not None
    assert int8.share == 0.9
    assert mixed is not None
    assert mixed.share == 0.4
    assert best_int8(tried[3:]) is None
    assert best_mixed(tried[:2]) is None
