"""What is learned of the heat: forecasts come true on boards whose parameters nobody told it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.governor.heat import HeatBank
from agent.governor.plant import Boards, Event, Plant, draw
from agent.governor.policy import Settings
from agent.governor.simulate import TOP_RATE, reference_steps
from agent.governor.thermal import Thermal

PLANT = Plant(
    rise=50.0, junction_share=0.3, junction_seconds=6.0, board_seconds=180.0, idle=0.2, trip=95.0, ambient=25.0
)


def _learned(plant: Plant, rates: list[float]) -> tuple[HeatBank, Boards]:
    """A bank after so many seconds at these rates (fp32)."""
    boards, bank = Boards([plant], len(rates), seed=1), HeatBank()
    heat = np.zeros(1)
    for second, rate in enumerate(rates):
        seen = boards.sense()
        bank.advance(seen, heat)
        bank.learn(seen)
        heat = boards.step(second, np.array([rate]), np.ones(1)) / TOP_RATE
    return bank, boards


def test_the_gain_of_a_rung_is_learned_from_its_changes() -> None:
    rates = ([10.0] * 300 + [25.0] * 300) * 3
    bank, _ = _learned(PLANT, rates)
    _, _, gain, doubt = bank.forecasts(np.array([25.0 / TOP_RATE]))
    assert gain[0, -1] == pytest.approx(50.0 * 0.8, rel=0.2)
    assert doubt[0, 1] < 3.0


def test_the_steady_state_is_known_before_it_is_reached() -> None:
    rates = ([10.0] * 300 + [25.0] * 300) * 2 + [25.0] * 60
    bank, _ = _learned(PLANT, rates)
    _, ahead, _, _ = bank.forecasts(np.array([25.0 / TOP_RATE]))
    steady = 25.0 + 50.0 * (0.2 + 0.8 * 25.0 / 30.0)
    assert ahead[0, -1] == pytest.approx(steady, abs=4.0)


def test_air_that_grows_hot_is_seen_in_the_forecast_before_it_is_there() -> None:
    plant = Plant(**{**{name: getattr(PLANT, name) for name in PLANT.__struct_fields__},
                     "events": (Event(at=600.0, change=18.0),)})  # fmt: skip
    bank, boards = _learned(plant, [20.0] * 620)
    level, ahead, _, _ = bank.forecasts(np.array([20.0 / TOP_RATE]))
    assert ahead[0, 1] > level[0] + 0.8
    assert level[0] == pytest.approx(float(boards.junction[0]), abs=1.0)


@settings(max_examples=15)
@given(
    heats=st.lists(st.floats(0, 1.2), min_size=3, max_size=40),
    values=st.lists(st.floats(-60, 60) | st.just(float("nan")), min_size=3, max_size=40),
    kelvin=st.floats(-40, 40),
)
def test_a_board_that_is_warmer_throughout_is_forecast_warmer_by_as_much(
    heats: list[float], values: list[float], kelvin: float
) -> None:
    """What is learned of gains does not depend on where the scale begins."""
    one, other = HeatBank(), HeatBank()
    for heat, value in zip(heats, values, strict=False):
        for bank, moved in ((one, 0.0), (other, kelvin)):
            bank.advance(np.array([value + moved]), np.array([heat]))
            bank.learn(np.array([value + moved]))
    if all(np.isnan(value) for value, _ in zip(values, heats, strict=False)):
        return
    (level, ahead, gain, _), (level2, ahead2, gain2, _) = (bank.forecasts(np.array([0.5])) for bank in (one, other))
    np.testing.assert_allclose(level2 - level, kelvin, atol=1e-5)
    np.testing.assert_allclose(ahead2 - ahead, kelvin, atol=1e-5)
    np.testing.assert_allclose(gain2, gain, atol=1e-5)


def test_many_boards_side_by_side_fare_as_each_alone() -> None:
    plants = draw(4, seed=9)
    steps = reference_steps()
    heats, precisions = [step.heat for step in steps], [step.rung.precision for step in steps]
    together = Thermal(heats, precisions, Settings(), 4)
    alone = [Thermal(heats, precisions, Settings()) for _ in plants]
    boards = Boards(plants, 300, seed=2)
    for second in range(300):
        over = boards.sense() - boards.trip
        heat = np.array([heats[rung] for rung in together.rungs])
        together.step(over, heat, float(second))
        for number, one in enumerate(alone):
            one.step(over[number : number + 1], heat[number : number + 1], float(second))
        boards.step(second, np.array([TOP_RATE * heats[rung] for rung in together.rungs]), np.ones(4))
        assert together.rungs == [one.rungs[0] for one in alone]
