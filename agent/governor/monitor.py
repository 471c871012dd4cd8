"""The monitor thread: once a second it reads the sensors and hands the reading on. It decides nothing yet."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from agent.errors import in_words
from agent.governor.sensors.base import Reading, Sensor

log = logging.getLogger(__name__)

JOINED = ("temperatures", "cooling", "rails")


class Monitor:
    """Reads every sensor once a ``period`` (seconds) and calls ``tick(reading, now)`` with what they say together.

    ``latest``: the last reading; to ask for it asks no sensor.
    """

    def __init__(self, sensors: Mapping[str, Sensor], tick: Callable[[Reading, float], None], period: float = 1.0):
        self._sensors = dict(sensors)
        self._tick = tick
        self._period = period
        self.latest = Reading()
        self._stop = threading.Event()
        self._failing: dict[str, str] = {}
        self._thread = threading.Thread(target=self._run, name="monitor", daemon=True)

    def start(self) -> None:
        """Begin; the first tick comes at once."""
        self._thread.start()

    def use(self, sensors: Mapping[str, Sensor]) -> None:
        """Read these from the next tick on, and close those that are gone."""
        before, self._sensors = self._sensors, dict(sensors)
        for name, sensor in before.items():
            if self._sensors.get(name) is not sensor:
                self._close(name, sensor)

    def stop(self, timeout: float = 5.0) -> None:
        """End the thread and wait for it."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout)
        for name, sensor in self._sensors.items():
            self._close(name, sensor)

    def read(self) -> Reading:
        """One reading of all sensors together; a sensor that fails is logged once and left out until it answers."""
        readings = []
        for name, sensor in self._sensors.items():
            try:
                readings.append(_checked(sensor.read()))
                self._failing.pop(name, None)
            except BaseException as error:  # noqa: BLE001 - a sensor from a plugin may raise anything, SystemExit too
                self._tell(name, in_words(error))
        self.latest = merge(readings)
        return self.latest

    def _close(self, name: str, sensor: Sensor) -> None:
        """A sensor that keeps something open has a ``close``."""
        try:
            getattr(sensor, "close", lambda: None)()
        except Exception as error:  # noqa: BLE001 - a plugin's may raise anything
            self._tell(name, in_words(error))

    def _tell(self, name: str, fault: str) -> None:
        if self._failing.get(name) != fault:
            log.warning("sensor %s: %s", name, fault)
            self._failing[name] = fault

    def _run(self) -> None:
        while not self._stop.is_set():
            started = time.monotonic()
            try:
                self._tick(self.read(), started)
            except Exception:
                log.exception("monitor: a tick failed")
            self._stop.wait(max(0.0, self._period - (time.monotonic() - started)))


def _checked(reading: Reading) -> Reading:
    """The reading, if it is one in all its parts. Raises TypeError or msgspec.ValidationError."""
    return msgspec.convert(msgspec.to_builtins(reading), Reading)


def merge(readings: list[Reading]) -> Reading:
    """Readings as one: the first that has a value gives it, what goes by name is joined."""
    joined: dict[str, dict[str, Any]] = {name: {} for name in JOINED}
    for reading in reversed(readings):
        for name, values in joined.items():
            values.update(getattr(reading, name))
    firsts: dict[str, Any] = {
        name: next((value for reading in readings if (value := getattr(reading, name)) is not None), None)
        for name in Reading.__struct_fields__
        if name not in JOINED
    }
    return msgspec.structs.replace(Reading(**firsts), **joined)
