"""The match of precision and batch to a board: what it computes natively, that passed the gate, as fast as measured."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.precision.gate import LEAST_SPEEDUP
from agent.precision.match import Option, choose, choose_batch, not_native

ORIN = (8, 7)
PRECISIONS = ["fp32", "fp16", "int8", "mixed"]
seconds = st.floats(1e-4, 1.0)
options = st.lists(
    st.builds(
        Option,
        st.sampled_from(PRECISIONS),
        st.none() | seconds,
        st.none() | st.floats(-0.01, 0.5),
        st.sampled_from(["", "loses too much"]),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda option: option.precision,
)


@pytest.mark.parametrize(
    ("capability", "slow"),
    [
        ((5, 3), {"int8", "mixed"}),  # Jetson Nano, TX1
        ((6, 2), {"int8", "mixed"}),  # TX2
        ((6, 1), {"fp16"}),  # GTX 10
        ((7, 2), set()),  # Xavier
        ((8, 7), set()),  # Orin
        ((11, 0), set()),  # Thor
        ((5, 0), {"fp16", "int8", "mixed"}),
    ],
)
def test_what_each_gpu_computes_natively(capability: tuple[int, int], slow: set[str]) -> None:
    assert {name for name in PRECISIONS if not_native(name, capability)} == slow


def test_the_fastest_that_passes_the_gate_is_chosen_and_each_other_has_its_reason() -> None:
    choice = choose(
        [
            Option("fp32", 0.010),
            Option("fp16", 0.004, 0.0004),
            Option("int8", 0.003, 0.3, "loses 0.3000 of accuracy, more than 0.02"),
            Option("mixed", 0.005, 0.002),
        ],
        ORIN,
    )
    assert choice.precision == "fp16"
    assert choice.why == "the fastest measured here: 4.00 ms an inference, 2.50 x as fast as fp32, loses 0.0004"
    assert choice.others == {
        "fp32": "takes 2.50 x the time of fp16",
        "int8": "loses 0.3000 of accuracy, more than 0.02",
        "mixed": "takes 1.25 x the time of fp16",
    }


def test_a_gain_too_small_to_be_worth_its_loss_is_not_taken() -> None:
    choice = choose([Option("fp32", 0.0100), Option("fp16", 0.0098, 0.001)], ORIN)
    assert choice.precision == "fp32"
    assert choice.others["fp16"] == "1.02 x as fast as fp32, which loses less"


def test_a_board_without_int8_gets_fp16_whatever_was_measured() -> None:
    choice = choose([Option("int8", 0.001, 0.0), Option("fp16", 0.004, 0.0), Option("fp32", 0.01)], (5, 3))
    assert choice.precision == "fp16"
    assert "no int8 dot product" in choice.others["int8"]


def test_without_a_measurement_what_loses_nothing_is_used() -> None:
    choice = choose([Option("int8", None, 0.001), Option("fp32", None)], ORIN)
    assert (choice.precision, choice.why) == ("fp32", "nothing was measured here yet")


def test_nothing_allowed_is_an_error_that_names_every_reason() -> None:
    with pytest.raises(ValueError, match=r"int8: loses too much; fp16: compute capability 5\.0"):
        choose([Option("int8", 0.1, 0.3, "loses too much"), Option("fp16", 0.1)], (5, 0))


@given(options)
def test_the_choice_is_allowed_and_nothing_that_loses_less_is_nearly_as_fast(found: list[Option]) -> None:
    by_name = {option.precision: option for option in found}
    if all(option.barred for option in found):
        with pytest.raises(ValueError):
            choose(found, ORIN)
        return
    choice = choose(found, ORIN)
    chosen = by_name[choice.precision]
    assert not chosen.barred
    assert set(choice.others) == set(by_name) - {chosen.precision}
    assert all(choice.others.values())
    measured = [option for option in found if option.seconds is not None and not option.barred]
    if measured:
        assert chosen in measured
        assert chosen.seconds is not None
        fastest = min(option.seconds for option in measured if option.seconds is not None)
        assert chosen.seconds <= fastest * LEAST_SPEEDUP


def test_the_batch_at_the_knee_is_chosen_as_far_as_memory_goes() -> None:
    rates = {1: 100.0, 2: 180.0, 4: 240.0, 8: 245.0}
    picture = 3 * 640 * 640 * 4
    assert choose_batch(rates, picture, 8 << 30)[0] == 4, "8 gives 2 % more, for twice the memory"
    batch, why = choose_batch(rates, picture, 1 << 30)
    assert batch == 2
    assert why == "pictures a second by batch 1: 100, 2: 180, 4: 240, 8: 245; 1024 MB of free memory allow 3"
    assert choose_batch(rates, picture, 0)[0] == 1


@given(st.dictionaries(st.sampled_from([2, 4, 8, 16]), st.floats(1, 1e4)), st.integers(0, 1 << 40))
def test_no_batch_is_chosen_that_was_not_measured_or_does_not_pay(rates: dict[int, float], free: int) -> None:
    rates[1] = 100.0
    best, why = choose_batch(rates, 1 << 20, free)
    assert best in rates
    assert rates[best] >= rates[1]
    assert "\n" not in why


def test_without_a_rate_for_one_picture_there_is_no_knee() -> None:
    with pytest.raises(ValueError, match="single pictures"):
        choose_batch({4: 10.0}, 1, 1)
