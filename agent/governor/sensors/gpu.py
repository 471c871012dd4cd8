"""How busy an integrated GPU is: the load file of each Jetson generation, in per mille, and its clock."""

from __future__ import annotations

from pathlib import Path

from agent.governor.sensors.base import Reading
from agent.governor.sensors.sysfs import Sysfs

LOADS = (
    "sys/devices/platform/bus@0/*.gpu/load",  # JetPack 6 and 7: Orin, Thor
    "sys/devices/platform/*.ga10b/load",  # JetPack 5: Orin
    "sys/devices/platform/*.gv11b/load",  # JetPack 5: Xavier
    "sys/devices/platform/gpu.0/load",
    "sys/devices/gpu.0/load",  # JetPack 4: Nano, TX2, Xavier
    "sys/devices/*.gp10b/load",
    "sys/devices/*.gv11b/load",
    "sys/devices/57000000.gpu/load",
)
CLOCKS = tuple(f"sys/class/devfreq/{name}/cur_freq" for name in ("*gpu", "*ga10b", "*gv11b", "*gp10b", "gpu-gpc*"))


class GpuLoadSensor:
    """``file`` is None where the board has no such file."""

    def __init__(self, sysfs: Sysfs) -> None:
        self._sysfs = sysfs
        self.file = _first(sysfs, LOADS)
        self._clock = _first(sysfs, CLOCKS)

    def read(self) -> Reading:
        """Load 0..1 and clock; a GPU that is switched off says nothing."""
        if self.file is None:
            return Reading()
        per_mille = self._sysfs.number(self.file)
        hertz = None if self._clock is None else self._sysfs.number(self._clock)
        return Reading(
            gpu_load=per_mille / 1e3 if per_mille is not None and 0 <= per_mille <= 1000 else None,
            gpu_mhz=None if hertz is None else hertz / 1e6,
        )


def _first(sysfs: Sysfs, patterns: tuple[str, ...]) -> Path | None:
    return next((path for pattern in patterns for path in sysfs.glob(pattern)), None)
