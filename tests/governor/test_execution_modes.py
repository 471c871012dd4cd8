"""How the cores are used, by load: a made-up machine, seconds that are passed in."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from agent.governor.modes import Demand, Mode, ModePolicy, fixed, levels


class Machine:
    """``seconds`` an inference takes with one thread; what a mode makes of it is not just what the policy believes."""

    def __init__(self, seconds: float, cores: int = 2, threads: int | None = None) -> None:
        self.seconds = seconds
        self.policy = ModePolicy(levels(cores, threads))
        self.now = 0.0
        self.modes: list[Mode] = []

    def run(self, offered: float, ticks: int, *, noise: float = 0.0, every_frame: bool = False, seed: int = 0) -> Mode:
        chance = random.Random(seed)
        for _ in range(ticks):
            mode = self.policy.mode
            took = self.seconds / mode.workers / (1 + 0.7 * (mode.threads - 1)) * (1 + chance.uniform(-noise, noise))
            inferred = min(offered, 1 / took)
            self.now += 1.0
            self.modes.append(self.policy.decide(Demand(offered, inferred, inferred * took, every_frame), self.now))
        return self.modes[-1]

    @property
    def changes(self) -> int:
        return sum(before != after for before, after in pairwise(self.modes))


def test_the_modes_of_a_machine_go_from_one_thread_to_all_and_then_to_a_thread_a_frame() -> None:
    assert levels(2) == ((1, 1, 0), (2, 1, 0), (1, 2, 0))
    assert [mode[:2] for mode in levels(6)] == [(1, 1), (2, 1), (4, 1), (6, 1), (1, 6)]
    assert levels(1) == ((1, 1, 0),)
    assert [mode[:2] for mode in levels(4, threads=2)] == [(2, 1), (2, 2)]
    assert [mode[:2] for mode in levels(4, slots=1)] == [(1, 1), (2, 1), (4, 1)]
    assert [mode[:2] for mode in levels(2, slots=3)] == [(1, 1), (2, 1), (1, 3)]


def test_who_names_a_mode_gets_it_whatever_the_load() -> None:
    assert fixed("latency", 4, None, None) == Mode(4, 1)
    assert fixed("latency", 4, 2, 8) == Mode(2, 1)
    assert fixed("throughput", 4, None, None) == Mode(1, 4)
    assert fixed("throughput", 4, 2, None) == Mode(2, 2)
    assert fixed("throughput", 1, None, None) == Mode(1, 1)
    policy = ModePolicy([fixed("latency", 4, None, None)])
    assert policy.decide(Demand(1000.0, 10.0, 1.0), 1.0) == Mode(4, 1)
    assert policy.reason == "as configured"


def test_a_paced_camera_that_one_thread_keeps_up_with_gets_one() -> None:
    machine = Machine(seconds=0.010)
    assert machine.run(offered=10, ticks=600, noise=0.3) == Mode(1, 1)
    assert machine.changes == 0


def test_a_recording_frame_by_frame_gets_every_core_at_once_and_a_frame_made_ready() -> None:
    machine = Machine(seconds=0.010)
    assert machine.run(offered=100, ticks=1, every_frame=True) == Mode(1, 2, ahead=1)
    assert machine.run(offered=10, ticks=1) == Mode(1, 2), "no frame of a camera waits behind another"
    assert machine.run(offered=10, ticks=30) == Mode(1, 1)


def test_a_camera_too_fast_for_one_thread_gets_more_threads_and_saturated_work_a_thread_a_frame() -> None:
    assert Machine(seconds=0.060).run(offered=18, ticks=60) == Mode(2, 1)
    assert Machine(seconds=0.060).run(offered=60, ticks=60) == Mode(1, 2)
    assert Machine(seconds=0.010, cores=4).run(offered=120, ticks=60) == Mode(2, 1), "not more than it takes"


def test_when_the_load_is_gone_fewer_threads_work_again_but_not_at_the_first_calm_second() -> None:
    machine = Machine(seconds=0.060)
    machine.run(offered=60, ticks=60)
    assert machine.run(offered=5, ticks=5) == Mode(1, 2)
    assert machine.run(offered=5, ticks=15) == Mode(1, 1)
    assert machine.policy.reason == "fewer threads keep up"


def test_a_mode_that_did_not_last_is_tried_again_ever_later() -> None:
    machine = Machine(seconds=0.050)
    for _ in range(40):
        machine.run(offered=5, ticks=12)
        machine.run(offered=40, ticks=12)
    regular = 2 * 40
    assert machine.changes < regular / 2


def test_after_a_quiet_night_a_busy_day_is_no_reason_to_wait_for_the_next_one() -> None:
    machine = Machine(seconds=0.050)
    for _ in range(40):  # until it waits as long as it ever does
        machine.run(offered=5, ticks=12)
        machine.run(offered=40, ticks=12)
    machine.run(offered=5, ticks=3600)
    machine.run(offered=40, ticks=60)
    assert machine.run(offered=5, ticks=15).workers == 1


@given(
    st.floats(0.001, 0.5),
    st.floats(0.5, 200),
    st.integers(1, 12),
    st.floats(0.0, 0.15),
    st.integers(0, 1000),
    st.sampled_from([None, 1, 2]),
)
def test_a_steady_load_settles(
    seconds: float, offered: float, cores: int, noise: float, seed: int, threads: int | None
) -> None:
    machine = Machine(seconds, cores, threads)
    machine.run(offered, 600, noise=noise, seed=seed)
    # Up step by step, and then what noise at the edge may do until the waits have doubled.
    assert machine.changes <= len(levels(cores, threads)) + 8


@given(st.lists(st.tuples(st.floats(0, 1000), st.floats(0, 1000), st.floats(0, 1), st.booleans()), max_size=60))
def test_whatever_is_seen_the_mode_is_one_of_the_machines(demands: Sequence[tuple[float, float, float, bool]]) -> None:
    policy = ModePolicy(levels(4))
    for second, demand in enumerate(demands):
        mode = policy.decide(Demand(*demand), float(second))
        assert mode._replace(ahead=0) in levels(4)
        assert mode.ahead == (1 if demand[3] else 0)


def test_a_mode_of_few_threads_says_that_the_machine_can_do_more() -> None:
    machine = Machine(seconds=0.010)
    machine.run(offered=10.0, ticks=5)
    assert machine.policy.mode == Mode(1, 1)
    assert 0.4 < machine.policy.share < 0.7, "by rule of thumb, as long as nothing else was measured"
    machine.run(offered=150.0, ticks=10)
    assert (machine.policy.mode, machine.policy.share) == (Mode(1, 2), 1.0)
    machine.run(offered=10.0, ticks=60)
    assert machine.policy.mode == Mode(1, 1)
    assert abs(machine.policy.share - 0.5) < 0.1, "as it was measured"
    assert ModePolicy([fixed("latency", 4, None, None)]).share == 1.0
