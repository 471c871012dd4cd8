"""Which sensors this machine has, in the order in which they are believed: files, then libraries, then a program."""

from __future__ import annotations

import logging
import shutil

from agent.errors import AgentError
from agent.governor.sensors.base import Sensor
from agent.governor.sensors.gpu import GpuLoadSensor
from agent.governor.sensors.host import HostSensor
from agent.governor.sensors.rails import PowerSensor
from agent.governor.sensors.sysfs import Sysfs
from agent.governor.sensors.tegrastats import COMMAND, TegrastatsSensor
from agent.governor.sensors.thermal import ThermalSensor

log = logging.getLogger(__name__)


def board_sensors(sysfs: Sysfs | None = None) -> dict[str, Sensor]:
    """By name. Where two tell the same thing the first one counts."""
    sysfs = sysfs or Sysfs()
    thermal, gpu, power = ThermalSensor(sysfs), GpuLoadSensor(sysfs), PowerSensor(sysfs)
    found: dict[str, Sensor] = {"host": HostSensor(temperatures=not thermal.governs)}
    if thermal.zones:
        found["thermal"] = thermal
    if power.rails:
        found["power"] = power
    if gpu.file is not None:
        found["gpu"] = gpu
    else:
        found |= _nvml()
    if not thermal.read().temperatures and shutil.which(COMMAND[0]):
        found["tegrastats"] = TegrastatsSensor()
    return found


def _nvml() -> dict[str, Sensor]:
    from agent.governor.sensors.nvml import NvmlSensor

    try:
        return {"nvml": NvmlSensor()}
    except AgentError as error:
        log.debug("no GPU by NVML: %s", error)
        return {}
