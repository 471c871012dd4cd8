"""A discrete GPU (or a Thor) through NVIDIA's management library, called directly; what it cannot tell is absent."""

from __future__ import annotations

import ctypes
from typing import Any

from agent.data import Temperature
from agent.errors import AgentError
from agent.governor.sensors.base import Reading, is_plausible

LIBRARY = "libnvidia-ml.so.1"
# nvml.h: NVML_TEMPERATURE_GPU, and the thresholds of nvmlTemperatureThresholds_t.
GPU = 0
SHUTDOWN, SLOWDOWN = 0, 1


class _Utilisation(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class NvmlSensor:
    """The first GPU. Raises AgentError where there is no library, no driver or no GPU that answers.

    ``nvml``: the library, already loaded.
    """

    def __init__(self, library: str = LIBRARY, nvml: Any = None) -> None:
        try:
            self._nvml = nvml or ctypes.CDLL(library)
        except OSError as error:
            raise AgentError(f"{library}: {error}") from None
        self._device = ctypes.c_void_p()
        if self._nvml.nvmlInit_v2():
            raise AgentError(f"{library}: the driver does not answer")
        if self._nvml.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(self._device)):
            raise AgentError(f"{library}: no GPU")
        self._slowdown, self._shutdown = self._threshold(SLOWDOWN), self._threshold(SHUTDOWN)
        if self.read() == Reading():
            raise AgentError(f"{library}: the GPU tells nothing")

    def read(self) -> Reading:
        """Load, temperature with its thresholds, power."""
        load = _Utilisation()
        busy = not self._nvml.nvmlDeviceGetUtilizationRates(self._device, ctypes.byref(load)) and load.gpu <= 100
        celsius = self._number("nvmlDeviceGetTemperature", GPU)
        milliwatts = self._number("nvmlDeviceGetPowerUsage")
        zones = {}
        if celsius is not None and celsius > 0 and is_plausible(celsius):
            zones["gpu"] = Temperature(celsius=float(celsius), passive=self._slowdown, critical=self._shutdown)
        # The GPU's power is not the board's: on a server it is one rail of many.
        rails = {} if milliwatts is None else {"GPU": milliwatts / 1e3}
        return Reading(temperatures=zones, gpu_load=load.gpu / 100.0 if busy else None, rails=rails)

    def _threshold(self, which: int) -> float | None:
        celsius = self._number("nvmlDeviceGetTemperatureThreshold", which)
        return float(celsius) if celsius is not None and 20 < celsius <= 150 else None

    def _number(self, function: str, *arguments: int) -> int | None:
        value = ctypes.c_uint()
        failed = getattr(self._nvml, function)(self._device, *arguments, ctypes.byref(value))
        return None if failed else int(value.value)
