"""The sensors of boards, read from trees of files: one recorded, others made after what their source says."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from agent.errors import AgentError
from agent.governor.sensors.base import Sensor, board_power
from agent.governor.sensors.board import board_sensors
from agent.governor.sensors.gpu import GpuLoadSensor
from agent.governor.sensors.host import HostSensor
from agent.governor.sensors.nvml import NvmlSensor
from agent.governor.sensors.rails import PowerSensor
from agent.governor.sensors.sysfs import Sysfs
from agent.governor.sensors.thermal import ThermalSensor


def _tree(root: Path, files: Mapping[str, object]) -> Sysfs:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n", encoding="utf-8")
    return Sysfs(root)


def _zone(number: int, name: str, milli: object, trips: Mapping[str, int] | None = None) -> dict[str, object]:
    folder = f"sys/class/thermal/thermal_zone{number}"
    files: dict[str, object] = {f"{folder}/type": name, f"{folder}/temp": milli}
    for index, (kind, at) in enumerate((trips or {}).items()):
        files[f"{folder}/trip_point_{index}_type"] = kind.rstrip("0123456789")
        files[f"{folder}/trip_point_{index}_temp"] = at
    return files


@pytest.fixture
def orin(material: Path) -> Sysfs:
    """A Jetson Orin Nano Super with JetPack 7.2, recorded; see PROVENANCE.txt beside it."""
    return Sysfs(material / "jetson" / "sysfs_orin_nano_super_jp72")


def test_the_recorded_orin_gives_its_zones_and_those_without_power_are_absent(orin: Sysfs) -> None:
    zones = ThermalSensor(orin).read().temperatures
    assert {name: zone.celsius for name, zone in zones.items()} == {
        "cpu-thermal": 58.3,
        "gpu-thermal": 58.8,
        "soc0-thermal": 57.343,
        "soc1-thermal": 58.5,
        "soc2-thermal": 56.9,
        "tj-thermal": 58.937,
    }


def test_the_recorded_orin_gives_its_rails_its_fan_and_its_gpu(orin: Sysfs) -> None:
    power = PowerSensor(orin).read()
    assert power.rails == {"VDD_IN": pytest.approx(8.636, abs=1e-3), "VDD_CPU_GPU_CV": 1.981, "VDD_SOC": 3.724}
    assert power.power_w == power.rails["VDD_IN"]
    assert power.fan_rpm == 2367
    gpu = GpuLoadSensor(orin).read()
    assert (gpu.gpu_load, gpu.gpu_mhz) == (0.0, 1020.0)


def test_the_recorded_orin_is_recognised_as_a_whole(orin: Sysfs) -> None:
    sensors = board_sensors(orin)
    assert list(sensors) == ["host", "thermal", "power", "gpu"]
    assert all(isinstance(sensor, Sensor) for sensor in sensors.values())


def test_a_zone_that_loses_its_power_is_absent_and_not_cold(orin: Sysfs, tmp_path: Path) -> None:
    shutil.copytree(orin.root, tmp_path / "orin")
    sensor = ThermalSensor(Sysfs(tmp_path / "orin"))
    (tmp_path / "orin/sys/devices/virtual/thermal/thermal_zone1/temp").write_text("-256000\n")
    (tmp_path / "orin/sys/devices/virtual/thermal/thermal_zone8/temp").unlink()
    assert set(sensor.read().temperatures) == {"cpu-thermal", "soc0-thermal", "soc1-thermal", "soc2-thermal"}


def test_trip_points_of_the_device_tree_are_read_by_their_kind(tmp_path: Path) -> None:
    """The values of tegra114.dtsi's cpu-thermal (linux-tegra, "ARM: tegra: Add SOCTHERM support on Tegra114")."""
    sysfs = _tree(tmp_path, _zone(0, "cpu-thermal", 61500, {"critical": 102000, "hot": 100000, "passive": 90000}))
    sensor = ThermalSensor(sysfs)
    zone = sensor.read().temperatures["cpu-thermal"]
    assert (zone.celsius, zone.passive, zone.critical) == (61.5, 90.0, 102.0)
    assert sensor.governs


def test_a_hot_trip_stands_in_where_no_passive_one_is_named(tmp_path: Path) -> None:
    """tegra124.dtsi's cpu-thermal: hot at 100, critical at 103 (linux-tegra, thermal nodes cleaned up)."""
    zone = ThermalSensor(_tree(tmp_path, _zone(0, "cpu-thermal", 50000, {"critical": 103000, "hot": 100000}))).zones[0]
    assert (zone.passive, zone.critical) == (100.0, 103.0)


def test_disabled_trip_points_are_none(tmp_path: Path) -> None:
    """A PC's x86_pkg_temp and iwlwifi zones name passive trips of -274 °C where none is set."""
    files = {**_zone(0, "x86_pkg_temp", 54000, {"passive": -274000, "passive2": 0}), **_zone(1, "iwlwifi_1", 33000)}
    sensor = ThermalSensor(_tree(tmp_path, files))
    assert [zone.passive for zone in sensor.zones] == [None, None]
    assert not sensor.governs


def test_a_nano_gives_its_zones_without_the_constant_of_the_power_chip(tmp_path: Path) -> None:
    """Zone names of a Jetson Nano's tegrastats; AO-therm's critical trip of 110 °C is in its device tree
    (tegra210-p3448-0000-p3449-0000-a00, pastebin.com/YJkTe3nF)."""
    files = {
        **_zone(0, "AO-therm", 45000, {"critical": 110000}),
        **_zone(1, "CPU-therm", 40000),
        **_zone(4, "PMIC-Die", 100000),
        **_zone(10, "thermal-fan-est", 40000, {"active": 51000, "active1": 61000}),
    }
    zones = ThermalSensor(_tree(tmp_path, files)).read().temperatures
    assert list(zones) == ["AO-therm", "CPU-therm", "thermal-fan-est"]
    assert zones["AO-therm"].critical == 110.0
    assert zones["thermal-fan-est"].passive is None


def test_two_zones_of_one_name_stay_apart(tmp_path: Path) -> None:
    zones = (
        ThermalSensor(_tree(tmp_path, {**_zone(0, "acpitz", 20000), **_zone(1, "acpitz", 30000)})).read().temperatures
    )
    assert {name: zone.celsius for name, zone in zones.items()} == {"acpitz": 20.0, "acpitz/1": 30.0}


def test_cooling_devices_say_how_far_they_go(tmp_path: Path) -> None:
    """A fan and a clock, as thermal/sysfs-api.rst of the kernel's documentation lists them."""
    folder = "sys/class/thermal/cooling_device"
    files: dict[str, object] = {}
    for number, (kind, state, most) in enumerate(
        [("pwm-fan", 2, 10), ("cpufreq-cpu0", 0, 23), ("cpufreq-cpu0", 1, 23)]
    ):
        files |= {
            f"{folder}{number}/{name}": value
            for name, value in {"type": kind, "cur_state": state, "max_state": most}.items()
        }
    cooling = ThermalSensor(_tree(tmp_path, files)).read().cooling
    assert {name: (device.state, device.most) for name, device in cooling.items()} == {
        "pwm-fan": (2, 10),
        "cpufreq-cpu0": (0, 23),
        "cpufreq-cpu0/2": (1, 23),
    }


@pytest.mark.parametrize(
    "file",
    [
        "sys/devices/gpu.0/load",
        "sys/devices/platform/gpu.0/load",
        "sys/devices/platform/17000000.ga10b/load",
        "sys/devices/platform/bus@0/17000000.gpu/load",
    ],
)
def test_the_gpus_load_is_per_mille_wherever_a_generation_keeps_it(tmp_path: Path, file: str) -> None:
    """Paths: github.com/rbonghi/jetson_stats issues 360 and 556."""
    assert GpuLoadSensor(_tree(tmp_path, {file: 998})).read().gpu_load == pytest.approx(0.998)


def test_a_gpu_that_is_switched_off_or_talks_nonsense_says_nothing(tmp_path: Path) -> None:
    sensor = GpuLoadSensor(_tree(tmp_path, {"sys/devices/gpu.0/load": 1001}))
    assert sensor.read().gpu_load is None
    (tmp_path / "sys/devices/gpu.0/load").unlink()
    assert sensor.read().gpu_load is None
    assert GpuLoadSensor(Sysfs(tmp_path / "nothing")).read().gpu_load is None


def test_an_agx_orins_two_chips_without_their_sum_of_shunts_and_the_channel_that_fails(tmp_path: Path) -> None:
    """Files and labels: github.com/alumet-dev/alumet/issues/212 (EIO on 1-0041's third channel) and
    github.com/rbonghi/jetson_stats/issues/428 (the seventh label)."""
    files: dict[str, object] = {}
    chips = [("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"), ("NC", "VDDQ_VDD2_1V8AO", "NC")]
    for chip, labels in enumerate(chips):
        folder = f"sys/class/hwmon/hwmon{chip}"
        files |= {f"{folder}/name": "ina3221", f"{folder}/in7_label": "sum of shunt voltages", f"{folder}/in7_input": 5}
        for channel, label in enumerate(labels, 1):
            files |= {f"{folder}/in{channel}_label": label, f"{folder}/in{channel}_input": 5000}
            files[f"{folder}/curr{channel}_input"] = 1000
    sensor = PowerSensor(_tree(tmp_path, files))
    assert sensor.rails == ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO")
    (tmp_path / "sys/class/hwmon/hwmon1/in2_input").unlink()
    reading = sensor.read()
    assert reading.rails == {"VDD_GPU_SOC": 5.0, "VDD_CPU_CV": 5.0, "VIN_SYS_5V0": 5.0}
    assert reading.power_w == 15.0


def test_a_thors_ina238_measures_the_input(tmp_path: Path) -> None:
    """github.com/rbonghi/jetson_stats pull request 900: a power file in microwatts beside the INA3221's rails."""
    files = {
        "sys/class/hwmon/hwmon2/name": "ina238",
        "sys/class/hwmon/hwmon2/power1_input": 19780000,
        "sys/class/hwmon/hwmon3/name": "ina3221",
        "sys/class/hwmon/hwmon3/in1_label": "VDD_GPU",
        "sys/class/hwmon/hwmon3/in1_input": 981,
        "sys/class/hwmon/hwmon3/curr1_input": 2000,
    }
    reading = PowerSensor(_tree(tmp_path, files)).read()
    assert reading.rails == {"VIN": 19.78, "VDD_GPU": 1.962}
    assert reading.power_w == 19.78


def test_a_nanos_rails_stand_in_the_old_layout(tmp_path: Path) -> None:
    """github.com/rbonghi/jetson_stats issue 131."""
    folder = "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"
    files: dict[str, object] = {}
    for number, (name, milliwatts) in enumerate([("POM_5V_IN", 1750), ("POM_5V_GPU", 0), ("POM_5V_CPU", 366)]):
        files |= {f"{folder}/rail_name_{number}": name, f"{folder}/in_power{number}_input": milliwatts}
    reading = PowerSensor(_tree(tmp_path, files)).read()
    assert reading.rails == {"POM_5V_IN": 1.75, "POM_5V_GPU": 0.0, "POM_5V_CPU": 0.366}
    assert reading.power_w == 1.75


def test_the_boards_power_is_its_inputs_where_that_is_measured() -> None:
    assert board_power({}) is None
    assert board_power({"GPU": 1.0, "CPU": 2.0}) == 3.0
    assert board_power({"VDD_IN": 9.0, "VDD_SOC": 2.0}) == 9.0


def test_the_host_says_what_this_process_takes_of_it() -> None:
    reading = HostSensor().read()
    assert reading.own_load is not None
    assert 0 <= reading.own_load <= 1


def test_no_nvml_is_an_error_that_names_the_library() -> None:
    with pytest.raises(AgentError, match="no-such-library"):
        NvmlSensor("no-such-library.so")


class Nvml:
    """Stands for libnvidia-ml: a GPU that tells what ``told`` holds, and answers 3 (not supported) to all else."""

    def __init__(self, **told: int) -> None:
        self._told = told

    def nvmlInit_v2(self) -> int:  # noqa: N802 - the library's name
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: int, handle: Any) -> int:  # noqa: N802
        return 0

    def nvmlDeviceGetUtilizationRates(self, device: Any, rates: Any) -> int:  # noqa: N802
        rates._obj.gpu = self._told.get("load", 0)
        return 0 if "load" in self._told else 3

    def nvmlDeviceGetTemperature(self, device: Any, which: int, value: Any) -> int:  # noqa: N802
        return self._tell("celsius", value)

    def nvmlDeviceGetTemperatureThreshold(self, device: Any, which: int, value: Any) -> int:  # noqa: N802
        return self._tell(("shutdown", "slowdown")[which], value)

    def nvmlDeviceGetPowerUsage(self, device: Any, value: Any) -> int:  # noqa: N802
        return self._tell("milliwatts", value)

    def _tell(self, name: str, value: Any) -> int:
        value._obj.value = self._told.get(name, 0)
        return 0 if name in self._told else 3


def test_a_gpu_tells_its_load_its_power_and_its_own_limits() -> None:
    reading = NvmlSensor(nvml=Nvml(load=62, celsius=71, slowdown=87, shutdown=92, milliwatts=45500)).read()
    zone = reading.temperatures["gpu"]
    assert (zone.celsius, zone.passive, zone.critical) == (71.0, 87.0, 92.0)
    assert (reading.gpu_load, reading.rails, reading.power_w) == (0.62, {"GPU": 45.5}, None)


def test_what_a_gpu_does_not_support_or_cannot_mean_is_absent() -> None:
    partly = NvmlSensor(nvml=Nvml(load=4000, celsius=0, milliwatts=100)).read()
    assert (partly.gpu_load, partly.temperatures) == (None, {})
    with pytest.raises(AgentError, match="the GPU tells nothing"):
        NvmlSensor(nvml=Nvml())
