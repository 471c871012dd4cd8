"""What every Linux box has, as psutil gives it: CPU load, memory, this process; and where no thermal zone says when it
is too hot, the temperatures of the processor's own sensors."""

from __future__ import annotations

import os

from agent.data import Temperature
from agent.governor.sensors.base import Reading, is_plausible


class HostSensor:
    """``temperatures``: whether to read psutil's too (they are the same zones again on a board with a device tree)."""

    def __init__(self, *, temperatures: bool = True) -> None:
        import psutil

        self._psutil = psutil
        self._process = psutil.Process()
        self._cores = len(os.sched_getaffinity(0))
        self._with_temperatures = temperatures
        # The first call only sets the mark from which the next one counts.
        psutil.cpu_percent()
        self._process.cpu_percent()

    def read(self) -> Reading:
        """One reading; costs a few reads of /proc and /sys."""
        with self._process.oneshot():
            own, rss = self._process.cpu_percent(), self._process.memory_info().rss
        return Reading(
            temperatures=self._temperatures() if self._with_temperatures else {},
            cpu_load=self._psutil.cpu_percent() / 100.0,
            own_load=min(1.0, own / 100.0 / self._cores),
            memory=self._psutil.virtual_memory().percent / 100.0,
            rss_bytes=rss,
        )

    def _temperatures(self) -> dict[str, Temperature]:
        zones = {}
        for chip, entries in self._psutil.sensors_temperatures().items():
            for index, entry in enumerate(entries):
                if is_plausible(entry.current):
                    name = chip if len(entries) == 1 else f"{chip}/{entry.label or index}"
                    zones[name] = Temperature(
                        celsius=entry.current, passive=_trip(entry.high), critical=_trip(entry.critical)
                    )
        return zones


def _trip(celsius: float | None) -> float | None:
    """NVMe drives name 65261 °C where they mean none."""
    return celsius if celsius is not None and 20.0 < celsius <= 150.0 else None
