"""The monitor: a sensor that fails is named and left out, and nothing that it does ends the housekeeping."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from waiting import wait_until

from agent.data import Temperature
from agent.governor.monitor import Monitor, merge
from agent.governor.sensors.base import Reading
from agent.governor.sensors.host import HostSensor


class Says:
    def __init__(self, read: Callable[[], Any]) -> None:
        self.read = read


def _raise(error: BaseException) -> Any:
    raise error


class EvilError(Exception):
    def __repr__(self) -> str:
        raise ValueError("no words")

    __str__ = __repr__


BAD = {
    "raises": lambda: _raise(OSError("no such zone")),
    "exits": lambda: _raise(SystemExit(1)),
    "evil": lambda: _raise(EvilError()),
    "nothing": lambda: None,
    "wrong": lambda: Reading(temperatures=None),  # type: ignore[arg-type]
    "unspeakable": lambda: Reading(cpu_load=object()),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_a_bad_sensor_is_left_out_and_the_ticks_go_on(bad: Callable[[], Any], caplog: pytest.LogCaptureFixture) -> None:
    readings: list[Reading] = []
    sensors = {"bad": Says(bad), "good": Says(lambda: Reading(cpu_load=0.5))}
    monitor = Monitor(sensors, lambda reading, now: readings.append(reading), period=0.01)
    monitor.start()
    wait_until(lambda: len(readings) >= 3)
    monitor.stop()
    assert {reading.cpu_load for reading in readings} == {0.5}
    assert monitor.latest.cpu_load == 0.5
    assert caplog.text.count("sensor bad:") == 1, "told once"


def test_a_tick_that_fails_does_not_end_the_monitor() -> None:
    ticks: list[float] = []

    def tick(_: Reading, now: float) -> None:
        ticks.append(now)
        raise RuntimeError("oops")

    monitor = Monitor({}, tick, period=0.01)
    monitor.start()
    wait_until(lambda: len(ticks) >= 3)
    monitor.stop()
    assert ticks == sorted(ticks)


def test_the_last_reading_is_there_without_asking_a_sensor_that_hangs() -> None:
    go, hung, calls = threading.Event(), threading.Event(), []

    def hang() -> Reading:
        calls.append(1)
        if len(calls) > 1:
            hung.set()
            go.wait(20)
        return Reading(power_w=7.0)

    monitor = Monitor({"hangs": Says(hang)}, lambda reading, now: None, period=0.0)
    monitor.start()
    assert hung.wait(5)
    monitor.stop(timeout=0.0)
    assert monitor.latest.power_w == 7.0
    go.set()


def test_the_first_reading_that_has_a_value_gives_it_and_temperatures_are_joined() -> None:
    hot, cold = Temperature(celsius=90), Temperature(celsius=20)
    first = Reading(temperatures={"a": hot}, cpu_load=0.1)
    second = Reading(temperatures={"a": cold, "b": cold}, cpu_load=0.9, power_w=3.0)
    merged = merge([first, second])
    assert merged.temperatures == {"a": hot, "b": cold}
    assert (merged.cpu_load, merged.power_w, merged.gpu_load) == (0.1, 3.0, None)


def test_the_host_sensor_reads_this_machine() -> None:
    reading = HostSensor().read()
    assert reading.memory is not None
    assert 0 < reading.memory < 1
    assert reading.rss_bytes
