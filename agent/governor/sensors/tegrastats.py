"""tegrastats, the last resort where sysfs shows no temperature: its line parsed, and the program kept running.

The format was never promised: fields come, go and change their form with every JetPack, so each is found by its own
pattern wherever it stands, and what is not understood is passed over.
"""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections.abc import Sequence

import msgspec

from agent.data import Temperature
from agent.errors import AgentError
from agent.governor.sensors.base import Reading, board_power, is_plausible

COMMAND = ("tegrastats", "--interval", "1000")
STALE = 5.0


class Unit(msgspec.Struct, frozen=True):
    """A core or an engine: ``load`` 0..1 and ``mhz`` where they are told; not ``on``: switched off."""

    load: float | None = None
    mhz: tuple[int, ...] = ()
    on: bool = True


class Rail(msgspec.Struct, frozen=True):
    """Milliwatts: now, on average, and at most where it is told."""

    now: int
    average: int | None = None
    most: int | None = None


class Tegrastats(msgspec.Struct, frozen=True, kw_only=True):
    """One line. Memory in MB as (used, total). ``unpowered``: zones that read -256 °C."""

    stamp: str | None = None
    ram: tuple[int, int] | None = None
    swap: tuple[int, int] | None = None
    cores: tuple[Unit, ...] = ()
    gpu: Unit | None = None
    memory_clock: Unit | None = None
    engines: dict[str, Unit] = {}
    temperatures: dict[str, float] = {}
    unpowered: tuple[str, ...] = ()
    rails: dict[str, Rail] = {}


_STAMP = re.compile(r"^\s*(\d\d-\d\d-\d{4} \d\d:\d\d:\d\d)\b")
_MEMORY = re.compile(r"\b(RAM|SWAP)\s+(\d+)/(\d+)MB")
_CORES = re.compile(r"\bCPU\s+\[([^\]]*)\]")
# GR3D_FREQ 62%@306, 0%@[305,305], @[314,314,314], 0%; NVENC off, NVENC 79%@166, NVENC0_FREQ @0; VIC_FREQ 729
_UNIT = re.compile(
    r"\b(?P<name>GR3D|EMC|NVENC\d?|NVDEC\d?|NVJPG\d?|VIC|OFA|NVDLA\d?|PVA\d?|APE)(?P<freq>_FREQ)?\s+"
    r"(?:(?P<off>off)\b|(?:(?P<load>\d+)%)?(?:@(?:\[(?P<many>[\d,]*)\]|(?P<one>\d+)))?(?P<plain>(?<=\s)\d+\b(?![%@/]))?)"
)
_TEMPERATURE = re.compile(r"(?<!\S)([A-Za-z]\w*)@(-?\d+(?:\.\d+)?)C(?:/-?\d+(?:\.\d+)?C)?(?!\S)")
_RAIL = re.compile(r"(?<!\S)([A-Za-z]\w*)\s+(\d+)(mW)?/(\d+)(?:mW)?(?:/(\d+)(?:mW)?)?(?!\S)")


def parse(line: str) -> Tegrastats:
    """What the line says. Never raises: an empty or a foreign line says nothing."""
    stamp = _STAMP.search(line)
    cores = _CORES.search(line)
    memory = {name: (int(used), int(total)) for name, used, total in _MEMORY.findall(line)}
    units = {match["name"]: _unit(match) for match in _UNIT.finditer(line)}
    zones = {name: float(celsius) for name, celsius in _TEMPERATURE.findall(line)}
    return Tegrastats(
        stamp=stamp[1] if stamp else None,
        ram=memory.get("RAM"),
        swap=memory.get("SWAP"),
        cores=tuple(_core(core) for core in cores[1].split(",") if core.strip()) if cores else (),
        gpu=units.pop("GR3D", None),
        memory_clock=units.pop("EMC", None),
        engines=units,
        temperatures={name: celsius for name, celsius in zones.items() if is_plausible(celsius)},
        unpowered=tuple(name for name, celsius in zones.items() if not is_plausible(celsius)),
        rails={
            name: Rail(int(now), int(average), int(most) if most else None)
            for name, now, _, average, most in _RAIL.findall(line)
            if name != "NC"  # not connected
        },
    )


def _core(text: str) -> Unit:
    match = re.match(r"\s*(\d+)%@(\d+)", text)
    return Unit(int(match[1]) / 100.0, (int(match[2]),)) if match else Unit(on=False)


def _unit(match: re.Match[str]) -> Unit:
    if match["off"]:
        return Unit(on=False)
    clocks = match["many"] or match["one"] or match["plain"] or ""
    load = None if match["load"] is None else int(match["load"]) / 100.0
    return Unit(load, tuple(int(clock) for clock in clocks.split(",") if clock))


def reading(line: str) -> Reading:
    """The line as a sensor's reading: without zones that are constants, loads as fractions, rails in watts."""
    told = parse(line)
    loads = [core.load for core in told.cores if core.load is not None]
    rails = {name: rail.now / 1e3 for name, rail in told.rails.items()}
    return Reading(
        temperatures={
            name: Temperature(celsius=celsius)
            for name, celsius in told.temperatures.items()
            if not name.lower().startswith("pmic")
        },
        gpu_load=told.gpu.load if told.gpu else None,
        gpu_mhz=float(told.gpu.mhz[0]) if told.gpu and told.gpu.mhz else None,
        cpu_load=sum(loads) / len(loads) if loads else None,
        memory=told.ram[0] / told.ram[1] if told.ram and told.ram[1] else None,
        rails=rails,
        power_w=board_power(rails),
    )


class TegrastatsSensor:
    """Runs the program and gives its newest line. ``close`` ends it. Raises AgentError where it cannot be started."""

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        try:
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        except OSError as error:
            raise AgentError(f"{command[0]}: cannot be started: {error.strerror}") from None
        self._newest: tuple[float, str] | None = None
        self._thread = threading.Thread(target=self._follow, name="tegrastats", daemon=True)
        self._thread.start()

    def read(self) -> Reading:
        """The newest line. Raises OSError when none came for a while."""
        newest = self._newest
        if newest is None or time.monotonic() - newest[0] > STALE:
            ended = self._process.poll()
            raise OSError("tegrastats says nothing" if ended is None else f"tegrastats ended with code {ended}")
        return reading(newest[1])

    def close(self) -> None:
        """End the program."""
        self._process.terminate()
        self._process.wait()
        self._thread.join(5.0)

    def _follow(self) -> None:
        for line in self._process.stdout or ():
            self._newest = (time.monotonic(), line)
