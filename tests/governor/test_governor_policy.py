"""The governor's rules: what must hold for any history, any forecast and any sensor."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.data import CameraHealth, Decision, Execution, Health, Temperature
from agent.governor import ladder, load
from agent.governor.governing import Governor, Options, decide
from agent.governor.heat import HORIZONS, Forecast
from agent.governor.ladder import Cost
from agent.governor.limits import Limits, Rung, clamp
from agent.governor.load import Load, LoadMemory, LoadSettings
from agent.governor.policy import Memory, Settings, Situation, choose

COSTS = {"fp32": Cost(1 / 30, 1.0), "fp16": Cost(0.7 / 30, 0.998), "int8": Cost(0.55 / 30, 0.97)}
SECONDS = {name: cost.seconds for name, cost in COSTS.items()}
LADDER = ladder.make(COSTS, 30.0)
STEPS = ladder.weigh(LADDER, COSTS)
HEATS = [step.heat for step in STEPS]
PRECISIONS = [step.rung.precision for step in STEPS]
BOTTOM = len(STEPS) - 1
TRIP = 90.0


def _health(at: float, zones: dict[str, Any], rung: int = 0, inferred: int = 0, age: float = 20.0) -> Health:
    """One second: ``zones`` is Celsius by zone, each with a passive trip at 90 °C."""
    temperatures = {name: Temperature(celsius=celsius, passive=TRIP) for name, celsius in zones.items()}
    camera = CameraHealth(state="up", captured=inferred, inferred=inferred, frame_age_p95_ms=age)
    step = STEPS[rung].rung
    return Health(
        node="n", at=at, temperatures=temperatures, cameras={"cam": camera}, rung=rung, precision=step.precision,
        rate=step.rate, busy=0.3, cpu_load=0.3, own_load=0.2,
    )  # fmt: skip


def _history(celsius: Sequence[Any], rungs: Sequence[int] = (0,)) -> list[Health]:
    history, done = [], 0
    for second, value in enumerate(celsius):
        rung = rungs[second % len(rungs)]
        done += round(STEPS[rung].rung.rate or 30)
        history.append(_health(float(second), {"tj": value}, rung, done))
    return history


def _decided(history: Sequence[Health], options: Options | None = None) -> Decision:
    return decide(history, STEPS, SECONDS, options or Options())


# the ladder


def test_the_ladder_falls_in_rate_and_changes_the_precision_where_that_buys_more() -> None:
    assert LADDER[:4] == [Rung("fp32", None), Rung("fp16", None), Rung("int8", None), Rung("int8", 24.0)]
    assert LADDER[-1] == Rung("int8", 1.0)
    assert sorted(HEATS, reverse=True) == HEATS
    assert [step.value for step in STEPS] == sorted((step.value for step in STEPS), reverse=True)


def test_a_precision_that_is_not_faster_has_no_rung() -> None:
    rungs = ladder.make({"fp32": Cost(0.02, 1.0), "fp16": Cost(0.02, 0.99)}, 25.0)
    assert {rung.precision for rung in rungs} == {"fp32"}
    assert (rungs[0], rungs[-1].rate) == (Rung("fp32", None), 1.0)


def test_a_lossy_precision_comes_below_a_lower_rate_that_is_worth_more() -> None:
    rungs = ladder.make({"fp32": Cost(1 / 30, 1.0), "int8": Cost(0.9 / 30, 0.5)}, 30.0)
    assert rungs[1] == Rung("fp32", 24.0)


@given(
    costs=st.dictionaries(
        st.sampled_from(["fp32", "fp16", "int8", "mixed"]),
        st.builds(Cost, st.floats(1e-4, 3.0), st.floats(0.1, 1.0)),
        min_size=1,
    ),
    top=st.floats(0.5, 200.0),
)
def test_any_ladder_gets_cooler_from_rung_to_rung_and_ends_at_one_frame_a_second(
    costs: dict[str, Cost], top: float
) -> None:
    rungs = ladder.make(costs, top)
    heats = [step.heat for step in ladder.weigh(rungs, costs, top)]
    assert all(hotter >= cooler for hotter, cooler in pairwise(heats))
    assert rungs[-1].rate == min(1.0, top)


# the rules


KELVIN = st.floats(-80, 40)
GAINS = st.lists(st.floats(0, 100), min_size=len(HORIZONS), max_size=len(HORIZONS)).map(tuple)
FORECASTS = st.builds(
    Forecast, KELVIN, st.lists(KELVIN, min_size=len(HORIZONS), max_size=len(HORIZONS)).map(tuple), GAINS, GAINS
)
MEMORIES = st.builds(Memory, *[st.floats(-7200, 0)] * 2, st.floats(-7200, 3600), st.floats(0, 3600), st.floats(-50, 0))
RUNG = st.integers(0, BOTTOM)


def _hotter(forecast: Forecast, kelvin: float) -> Forecast:
    return forecast._replace(level=forecast.level + kelvin, ahead=tuple(value + kelvin for value in forecast.ahead))


@given(forecast=FORECASTS, memory=MEMORIES, rung=RUNG, heat=st.floats(0, 1.2), kelvin=st.floats(0, 60))
def test_more_heat_never_raises_the_rung(
    forecast: Forecast, memory: Memory, rung: int, heat: float, kelvin: float
) -> None:
    def chosen(forecast: Forecast) -> int:
        return choose(Situation(forecast, HEATS, PRECISIONS, rung, heat), memory, 0.0, Settings()).rung

    assert chosen(_hotter(forecast, kelvin)) >= chosen(forecast)


@given(forecast=FORECASTS, memory=MEMORIES, rung=RUNG, heat=st.floats(0, 1.2))
def test_near_the_trip_the_bottom_comes_at_once(forecast: Forecast, memory: Memory, rung: int, heat: float) -> None:
    near = forecast._replace(level=-0.5)
    choice = choose(Situation(near, HEATS, PRECISIONS, rung, heat), memory, 0.0, Settings())
    assert choice.rung == BOTTOM


@given(forecast=FORECASTS, memory=MEMORIES, rung=RUNG, heat=st.floats(0, 1.2), since=st.floats(0, 44.9))
def test_within_the_dwell_it_never_rises(
    forecast: Forecast, memory: Memory, rung: int, heat: float, since: float
) -> None:
    just = memory._replace(since=-since)
    assert choose(Situation(forecast, HEATS, PRECISIONS, rung, heat), just, 0.0, Settings()).rung >= rung


# the whole


TEMPERATURES = st.lists(st.floats(20, 95), min_size=1, max_size=40)
RUNGS = st.lists(RUNG, min_size=1, max_size=10)


@settings(max_examples=40)
@given(celsius=TEMPERATURES, rungs=RUNGS)
def test_the_same_history_gives_the_same_decision(celsius: list[float], rungs: list[int]) -> None:
    history = _history(celsius, rungs)
    assert _decided(history) == _decided(history)


@settings(max_examples=60)
@given(celsius=TEMPERATURES, rungs=RUNGS, kelvin=st.floats(0, 40))
def test_a_hotter_newest_sample_never_raises_the_rung(celsius: list[float], rungs: list[int], kelvin: float) -> None:
    hotter = [*celsius[:-1], min(celsius[-1] + kelvin, 150.0)]
    assert _decided(_history(hotter, rungs)).rung >= _decided(_history(celsius, rungs)).rung


@settings(max_examples=40)
@given(celsius=TEMPERATURES, stricter=st.floats(40, 89))
def test_a_limit_of_the_user_can_only_be_stricter_than_the_board(celsius: list[float], stricter: float) -> None:
    one = _history(celsius)[:1]
    assert _decided(one, Options(limit=stricter)).rung >= _decided(one).rung
    looser = _decided(_history(celsius), Options(limit=149.0))
    assert looser == _decided(_history(celsius))


@given(
    wanted=st.integers(0, 30),
    fps=st.none() | st.floats(0.1, 100),
    limit=st.none() | RUNG,
)
def test_whatever_is_wanted_never_exceeds_the_limits(wanted: int, fps: float | None, limit: int | None) -> None:
    decision = clamp(LADDER, Limits(fps, limit), wanted, "because")
    assert decision.rung >= (limit or 0)
    assert decision.rung == min(max(wanted, limit or 0), BOTTOM)
    allowed = [rate for rate in (fps, LADDER[decision.rung].rate) if rate is not None]
    assert decision.rate == min(allowed, default=None)
    assert decision.precision == LADDER[decision.rung].precision


GARBAGE = [float("nan"), -256.0, 1e9, float("inf"), None, "hot", -41.0]
SAFE = next(number for number, heat in enumerate(HEATS) if heat <= 0.25)


@pytest.mark.parametrize("garbage", GARBAGE, ids=str)
def test_garbage_from_the_only_sensor_leads_to_the_safe_rung_with_its_reason(garbage: Any) -> None:
    history = _history([60.0 + second % 3 for second in range(20)])
    broken = [_broken(_health(20.0 + second, {}, 0), garbage) for second in range(10)]
    decision = _decided([*history, *broken])
    assert decision.rung == SAFE
    assert "no believable temperature" in decision.reason
    assert "tj" in decision.reason


@pytest.mark.parametrize("garbage", [value for value in GARBAGE if isinstance(value, float)], ids=str)
def test_garbage_from_the_start_leads_to_the_safe_rung_too(garbage: float) -> None:
    decision = _decided([_broken(_health(float(second), {}, 0), garbage) for second in range(3)])
    assert (decision.rung, "which cannot be" in decision.reason) == (SAFE, True)


def _broken(health: Health, garbage: Any) -> Health:
    """As a sensor of a plugin might tell it: no check has been at work."""
    zone = Temperature(celsius=garbage, passive=TRIP)
    return msgspec.structs.replace(health, temperatures={"tj": zone})


def test_a_sensor_that_disappears_leads_to_the_safe_rung_and_one_dropout_does_not() -> None:
    history = _history([60.0 + second % 3 for second in range(200)])
    gone = [_health(200.0 + second, {}) for second in range(8)]
    assert "safe rung" not in _decided([*history, gone[0]]).reason
    decision = _decided([*history, *gone])
    assert (decision.rung, "tj has said nothing for" in decision.reason) == (SAFE, True)
    back = _history([60.0 + second % 3 for second in range(4)])
    again = [msgspec.structs.replace(health, at=208.0 + number) for number, health in enumerate(back)]
    assert "safe rung" not in _decided([*history, *gone, *again]).reason


def test_a_frozen_sensor_leads_to_the_safe_rung() -> None:
    history = _history([60.0 + 0.1 * (second % 7) for second in range(60)] + [60.3] * 130)
    decision = _decided(history)
    assert decision.rung == SAFE
    assert "tj frozen at 60.3 °C" in decision.reason


def test_a_coarse_sensor_may_stand_still_for_longer() -> None:
    history = _history([float(60 + second % 2) for second in range(60)] + [60.0] * 200)
    assert "frozen" not in _decided(history).reason


def test_another_zone_takes_over_from_a_broken_one() -> None:
    history = [_health(float(second), {"tj": 60.0 + second % 2, "cpu": 50.0 + second % 2}) for second in range(20)]
    broken = [_health(20.0 + second, {"tj": float("nan"), "cpu": 50.0 + second % 2}) for second in range(10)]
    governor = Governor(STEPS, SECONDS)
    for health in [*history, *broken]:
        governor.observe(health)
    assert "safe rung" not in governor.decide().reason
    told = governor.told(broken[-1])
    assert set(told.temperatures) == {"cpu"}
    assert told.faults == {"tj": "says nan °C, which cannot be"}


def test_a_board_without_sensors_is_governed_by_load_alone_unless_told_otherwise() -> None:
    history = [_health(float(second), {}) for second in range(20)]
    assert _decided(history).rung == 0
    careful = _decided(history, Options(needs_temperature=True, safe_rung=5))
    assert (careful.rung, careful.reason) == (5, "safe rung: no thermal sensor")


def test_a_cold_board_goes_up_and_tells_its_outlook() -> None:
    governor = Governor(STEPS, SECONDS)
    rung, done = BOTTOM, 0
    for second in range(200):
        done += round(STEPS[rung].rung.rate or 30)
        health = _health(float(second), {"tj": 45.0 + 0.03 * (second % 5)}, rung, done)
        governor.observe(health)
        rung = governor.decide().rung
    assert rung == 0
    told = governor.told(health)
    assert told.outlook is not None
    assert (told.outlook.zone, told.outlook.seconds_to_limit) == ("tj", None)
    assert told.outlook.headroom == pytest.approx(45, abs=0.5)
    assert told.temperatures["tj"].limit == TRIP
    assert told.temperatures["tj"].headroom == pytest.approx(45, abs=0.5)


def test_a_board_whose_zones_name_no_trip_is_kept_below_what_is_assumed() -> None:
    zone = {"tj": Temperature(celsius=84.5)}
    health = msgspec.structs.replace(_health(0.0, {}), temperatures=zone)
    decision = _decided([health])
    assert decision.rung == BOTTOM
    ignored = _decided([health], Options(ignore=("tj",)))
    assert ignored.rung == 0


# load


RATES = [step.rung.rate or 30.0 for step in STEPS]


def _drive(loads: Sequence[Load]) -> list[int]:
    rung, memory, rungs = 0, LoadMemory(), []
    for second, one in enumerate(loads):
        choice = load.choose(one, RATES, rung, memory, float(second), LoadSettings())
        rung, memory = choice.rung, choice.memory
        rungs.append(rung)
    return rungs


CALM = Load(strain=0.1, busy=0.3, rate=30.0, seconds=0.01, best=0.01)
STRAINED = Load(strain=0.8, busy=0.9, rate=30.0, seconds=0.06, best=0.01)


def test_frames_that_come_near_max_age_shed_rate_and_get_it_back_once() -> None:
    busy = STRAINED._replace(strain=0.2, rate=8.0, busy=0.48)
    rungs = _drive([CALM] * 10 + [STRAINED] * 4 + [busy] * 60 + [CALM._replace(rate=8.0)] * 40)
    assert rungs[9] == 0
    assert 0 < rungs[20] < BOTTOM
    assert len(set(rungs[20:70])) == 1, "while an inference takes long it stays"
    assert rungs[-1] == 0
    changes = sum(one != other for one, other in pairwise(rungs))
    assert changes == 2


def test_after_a_rise_that_lasted_the_next_fall_costs_no_longer_than_the_first() -> None:
    fall, calm = [STRAINED] * 4, CALM._replace(rate=8.0)

    def seconds_down(rungs: list[int]) -> list[int]:
        return [len(list(run)) for down, run in groupby(rungs, key=bool) if down]

    first, second, third = seconds_down(_drive(fall + [calm] * 30 + fall + [calm] * 200 + fall + [calm] * 60))
    assert first < second, "the first rise did not last"
    assert third <= first, "the second did"


ONE = {"fp32": Cost(1 / 60, 1.0)}
WHOLE = ladder.weigh(ladder.make(ONE, 60.0), ONE, 60.0)


class Shared:
    """A machine that makes 60 inferences a second with all cores and 30 with one, and a camera of 60."""

    def __init__(self) -> None:
        self.governor = Governor(WHOLE, {"fp32": 1 / 60}, Options(max_age={"cam": 1.0}), top_rate=60.0)
        self.rung, self.at, self.done = 0, 0.0, 0.0

    def run(self, seconds: int, slower: float, share: float, age: float) -> int:
        """``slower``: by how much other processes make it so; ``share``: of the machine, in the mode that holds."""
        for _ in range(seconds):
            makes = 60 * share / slower
            rate = min(WHOLE[self.rung].rung.rate or 60.0, makes)
            self.at, self.done = self.at + 1, self.done + rate
            camera = CameraHealth(
                state="up", captured=round(60 * self.at), inferred=round(self.done), frame_age_p95_ms=age
            )
            health = Health(
                node="n", at=self.at, cameras={"cam": camera}, rung=self.rung, precision="fp32",
                rate=WHOLE[self.rung].rung.rate, busy=rate / makes, execution=Execution(share=share),
            )  # fmt: skip
            self.governor.observe(health)
            self.rung = self.governor.decide().rung
        return self.rung


def test_a_rate_shed_under_foreign_load_comes_back_though_one_thread_keeps_up_with_what_is_left() -> None:
    machine = Shared()
    assert machine.run(20, slower=1.0, share=1.0, age=60.0) == 0
    assert machine.run(10, slower=4.0, share=1.0, age=1500.0) > 0
    assert machine.run(60, slower=1.0, share=0.5, age=40.0) == 0


def test_where_few_frames_are_old_all_the_same_the_rate_does_not_fall_further() -> None:
    rare = STRAINED._replace(rate=2.0, seconds=0.1, busy=0.2)
    assert set(_drive([rare] * 60)) == {0}


@given(
    loads=st.lists(
        st.builds(
            Load,
            strain=st.none() | st.floats(0, 5),
            busy=st.none() | st.floats(0, 1),
            rate=st.floats(0, 60),
            seconds=st.none() | st.floats(1e-3, 1),
            best=st.none() | st.floats(1e-3, 1),
        ),
        max_size=60,
    )
)
def test_no_load_leads_off_the_ladder_and_it_rises_only_after_calm(loads: list[Load]) -> None:
    rungs = _drive(loads)
    assert all(0 <= rung <= BOTTOM for rung in rungs)
    rises = [number for number, (one, other) in enumerate(pairwise(rungs)) if other < one]
    assert all(later - earlier >= 10 for earlier, later in pairwise(rises))
