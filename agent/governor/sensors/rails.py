"""Power rails: INA3221 and INA238 as hwmon shows them, the industrial-I/O files of JetPack 4; and the fan's speed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from agent.governor.sensors.base import Reading, board_power
from agent.governor.sensors.sysfs import Sysfs

CHIPS = frozenset({"ina3221", "ina238", "ina237", "ina226", "ina219"})
NOT_RAILS = frozenset({"", "nc", "sum of shunt voltages"})
OLD_LAYOUT = "sys/bus/i2c/drivers/ina3221x/*/iio:device*"

Watts = Callable[[], float | None]


class PowerSensor:
    """``rails``: the names of those found. One that fails to be read (EIO happens) is left out of that reading."""

    def __init__(self, sysfs: Sysfs) -> None:
        self._sysfs = sysfs
        self._rails: dict[str, Watts] = {}
        chips = sysfs.glob("sys/class/hwmon/hwmon[0-9]*")
        for name, watts in [*self._hwmon(chips), *self._old()]:
            if name.lower() not in NOT_RAILS:
                self._rails.setdefault(name, watts)
        self._fans = [path for folder in chips for path in (folder / "rpm", folder / "fan1_input") if path.exists()]

    @property
    def rails(self) -> tuple[str, ...]:
        """Names, in the order of the channels."""
        return tuple(self._rails)

    def read(self) -> Reading:
        """Watts by rail, and of the board."""
        values = {name: watts() for name, watts in self._rails.items()}
        known = {name: round(value, 3) for name, value in values.items() if value is not None}
        rpm = next((value for path in self._fans if (value := self._sysfs.number(path)) is not None), None)
        return Reading(rails=known, power_w=board_power(known), fan_rpm=rpm)

    def _hwmon(self, chips: list[Path]) -> Iterator[tuple[str, Watts]]:
        for folder in chips:
            chip = self._sysfs.text(folder / "name") or ""
            if chip not in CHIPS:
                continue
            if (folder / "power1_input").exists():
                # One channel, and the chip multiplies by itself; Thor's, unlabelled, measures the input.
                yield self._sysfs.text(folder / "in1_label") or "VIN", self._scaled(folder / "power1_input", 1e-6)
                continue
            for number, label in self._sysfs.numbered(folder, "in", "_label"):
                # A channel without a current is no rail: the seventh is a sum of shunt voltages.
                if (folder / f"curr{number}_input").exists():
                    volts, amperes = folder / f"in{number}_input", folder / f"curr{number}_input"
                    yield self._sysfs.text(label) or "", self._product(volts, amperes)

    def _old(self) -> Iterator[tuple[str, Watts]]:
        for folder in self._sysfs.glob(OLD_LAYOUT):
            for number, label in self._sysfs.numbered(folder, "rail_name_", ""):
                power = folder / f"in_power{number}_input"
                volts, amperes = folder / f"in_voltage{number}_input", folder / f"in_current{number}_input"
                watts = self._scaled(power, 1e-3) if power.exists() else self._product(volts, amperes)
                yield self._sysfs.text(label) or "", watts

    def _scaled(self, file: Path, unit: float) -> Watts:
        def watts() -> float | None:
            value = self._sysfs.number(file)
            return None if value is None else value * unit

        return watts

    def _product(self, millivolts: Path, milliamperes: Path) -> Watts:
        def watts() -> float | None:
            volts, amperes = self._sysfs.number(millivolts), self._sysfs.number(milliamperes)
            return None if volts is None or amperes is None else volts * amperes * 1e-6

        return watts
