"""The monitor thread: once a second it reads the sensors and hands the reading on. It decides nothing yet."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

from agent.data import Temperature
from agent.governor.sensors import Reading, Sensor

log = logging.getLogger(__name__)


class Monitor:
    """Reads every sensor once a ``period`` (seconds) and calls ``tick(reading, now)`` with what they say together."""

    def __init__(self, sensors: Mapping[str, Sensor], tick: Callable[[Reading, float], None], period: float = 1.0):
        self._sensors = dict(sensors)
        self._tick = tick
        self._period = period
        self._stop = threading.Event()
        self._failing: dict[str, str] = {}
        self._thread = threading.Thread(target=self._run, name="monitor", daemon=True)

    def start(self) -> None:
        """Begin; the first tick comes at once."""
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """End the thread and wait for it."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def read(self) -> Reading:
        """One reading of all sensors together; a sensor that fails is logged once and left out until it answers."""
        readings = []
        for name, sensor in self._sensors.items():
            try:
                readings.append(sensor.read())
                self._failing.pop(name, None)
            except Exception as error:  # noqa: BLE001 - a sensor from a plugin may raise anything
                if self._failing.get(name) != repr(error):
                    log.warning("sensor %s: %s: %s", name, type(error).__name__, error)
                    self._failing[name] = repr(error)
        return merge(readings)

    def _run(self) -> None:
        while not self._stop.is_set():
            started = time.monotonic()
            try:
                self._tick(self.read(), started)
            except Exception:
                log.exception("monitor: a tick failed")
            self._stop.wait(max(0.0, self._period - (time.monotonic() - started)))


def merge(readings: list[Reading]) -> Reading:
    """Readings as one: the first that has a value gives it, temperatures are joined."""
    temperatures: dict[str, Temperature] = {}
    for reading in reversed(readings):
        temperatures.update(reading.temperatures)
    values = {
        name: next((value for reading in readings if (value := getattr(reading, name)) is not None), None)
        for name in Reading.__struct_fields__
        if name != "temperatures"
    }
    return Reading(temperatures=temperatures, **values)
