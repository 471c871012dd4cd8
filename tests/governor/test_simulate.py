"""The simulated plants, and the promises that the policy keeps on them."""

from __future__ import annotations

import numpy as np
import pytest

from agent.data import CameraHealth, Health, Temperature
from agent.governor import known_boards
from agent.governor.governing import Governor
from agent.governor.plant import Boards, Event, Plant, draw
from agent.governor.simulate import COSTS, POLICIES, TOP_RATE, Constant, hindsight, judge, reference_steps, run

STEPS = reference_steps()
HOT = Plant(rise=70.0, junction_share=0.3, junction_seconds=5.0, board_seconds=120.0, idle=0.2, trip=85.0, ambient=35.0)


def test_a_plant_settles_where_its_resistances_say() -> None:
    trace = run([HOT], Constant([HOT], 3), STEPS, 1500, seed=0)
    heat = 0.2 + 0.8 * 24.0 * 0.55 / 30.0
    assert trace.junction[-1, 0] == pytest.approx(35.0 + 70.0 * heat, abs=0.1)


def test_half_of_the_heat_is_there_after_the_time_constants() -> None:
    trace = run([HOT], Constant([HOT], 3), STEPS, 1500, seed=0)
    rise = (trace.junction[:, 0] - trace.junction[0, 0]) / (trace.junction[-1, 0] - trace.junction[0, 0])
    assert 0.25 < rise[25] < 0.5, "the junction's share, after five of its time constants"
    assert 0.6 < rise[180] < 0.95


def test_the_hardware_throttles_at_the_trip_and_gives_the_speed_back_below() -> None:
    trace = run([HOT], Constant([HOT]), STEPS, 900, seed=0)
    assert trace.junction.max() < 87.0
    assert set(np.unique(trace.rates[-100:])) == {15.0, 30.0}


def test_the_air_steps_and_ramps() -> None:
    air = Plant(
        rise=20, junction_share=0.3, junction_seconds=5, board_seconds=100, idle=0.2, trip=90, ambient=10,
        events=(Event(at=100, change=5), Event(at=200, change=-10, over=100)),
    ).air(400)  # fmt: skip
    assert [air[at] for at in (0, 99, 101, 250, 399)] == [10, 10, 15, 10, 5]


def test_drawn_plants_are_those_of_the_seed_and_within_their_bounds() -> None:
    plants = draw(300, seed=4)
    assert plants == draw(300, seed=4)
    assert plants != draw(300, seed=5)
    for plant in plants:
        assert 15 <= plant.rise <= 75
        assert 3 <= plant.junction_seconds <= 15
        assert 60 <= plant.board_seconds <= 900
        assert 80 <= plant.trip <= 99
        assert 0.5 <= plant.lag <= 3
        air = plant.air(7200)
        assert air.min() >= -1e-6
        assert air.max() <= 60 + 1e-6
        steps = [event for event in plant.events if not event.over]
        assert all(abs(event.change) <= 20 for event in steps)
        assert all(abs(event.change) <= event.over / 60 + 1e-9 for event in plant.events if event.over)
        assert plant.steady_from <= 3600
        assert 0.85 * 0.55 <= plant.energy["int8"] <= 1.15 * 0.55


def test_the_sensor_is_coarse_and_sometimes_silent() -> None:
    boards = Boards(draw(200, seed=1), 10, seed=1)
    seen = np.concatenate([boards.sense() for _ in range(20)])
    silent = np.isnan(seen)
    assert 0.005 < silent.mean() < 0.05
    assert np.allclose(seen[~silent] * 2, np.round(seen[~silent] * 2))


def test_on_random_plants_ours_keeps_its_promises_where_the_others_do_not() -> None:
    """Twenty-five plants for an hour and a half; the thousand of the documentation are a command."""
    plants, seconds = draw(25, seed=12), 5400
    best = hindsight(plants, STEPS, seconds)
    figures = {
        name: judge(plants, run(plants, make(plants, STEPS), STEPS, seconds, seed=13), best, STEPS)[0]
        for name, make in POLICIES.items()
    }
    assert figures["ours"].seconds_over_passive == 0
    assert figures["ours"].relative_frames >= 0.95
    assert figures["ours"].changes_per_hour <= 6
    assert figures["none"].seconds_over_passive > 0
    assert figures["threshold"].changes_per_hour > 100


def test_the_best_rung_of_hindsight_is_one_that_stays_below() -> None:
    best = hindsight([HOT], STEPS, 1800)
    assert best.possible.all()
    rung = int(best.best_rung[0])
    assert run([HOT], Constant([HOT], rung), STEPS, 1800, 0).junction.max() <= HOT.trip
    assert run([HOT], Constant([HOT], rung - 1), STEPS, 1800, 0).junction.max() > HOT.trip


def test_the_daemons_governor_does_on_health_what_the_simulators_does_on_numbers() -> None:
    """The same plant, once through Health as the monitor makes it; from the first change of the rung on both see the
    same heat, and the rungs stay within one of each other."""
    boards = Boards([HOT], 900, seed=3)
    seconds = {name: cost.seconds for name, cost in COSTS.items()}
    governor = Governor(STEPS, seconds, top_rate=TOP_RATE)
    rung, inferred, hottest = len(STEPS) - 1, 0.0, 0.0
    for second in range(900):
        seen = boards.sense()[0]
        zones = {} if np.isnan(seen) else {"tj": Temperature(celsius=float(seen), passive=HOT.trip)}
        step = STEPS[rung].rung
        governor.observe(
            Health(
                node="n",
                at=float(second),
                temperatures=zones,
                rung=rung,
                rate=step.rate,
                precision=step.precision,
                cameras={"cam": CameraHealth(state="up", captured=30 * second, inferred=int(inferred))},
            )
        )
        rung = governor.decide().rung
        chosen = STEPS[rung].rung
        energy = {"fp32": 1.0, "fp16": 0.7, "int8": 0.55}[chosen.precision]
        inferred += boards.step(second, np.array([chosen.rate or TOP_RATE]), np.array([energy]))[0]
        hottest = max(hottest, float(boards.junction[0]))
    assert hottest < HOT.trip
    best = int(hindsight([HOT], STEPS, 1800).best_rung[0])
    assert abs(rung - best) <= 1


@pytest.mark.parametrize("name", known_boards.names())
def test_each_board_says_where_its_figures_are_from(name: str) -> None:
    board = known_boards.load(name)
    told = {word for key in board.sources for word in key.split(", ")}
    assert told >= {"trip", "idle", "rise", "junction_share", "junction_seconds", "board_seconds", "ambient", "energy"}
    assert all(text for text in board.sources.values())
