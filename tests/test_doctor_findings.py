"""Whatever the machine looks like, doctor says it in lines that can be acted on, and never ends with a traceback."""

from __future__ import annotations

import errno
import inspect
import os
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.board import camera_findings, clock, configured, findings, packages, power, sensing, storage, unit
from agent.board.camera_findings import cameras, csi
from agent.board.cameras import Camera, Cameras, read_cameras
from agent.board.clock import Clock, read_clock
from agent.board.configured import ConfigFile, Reached, SecretFile
from agent.board.finding import Finding
from agent.board.findings import Software
from agent.board.jetson import Jetson
from agent.board.packages import Packages
from agent.board.power import Power, read_power
from agent.board.sensing import Sensed, Zone
from agent.board.storage import Storage, read_storage
from agent.board.unit import Unit, properties, read_unit, unit_findings
from agent.cli.doctor import SERVICE_PLACES, gathered
from agent.cli.doctor_config import secret_keys
from agent.cli.doctor_network import reach

MODULES = (findings, camera_findings, clock, configured, packages, power, sensing, storage, unit)


def tells(function: Callable[..., Any]) -> bool:
    """Whether it gives findings."""
    return str(inspect.signature(function).return_annotation) in ("Finding", "Iterator[Finding]")


FUNCTIONS = sorted(
    {
        (module.__name__.rpartition(".")[2], name)
        for module in MODULES
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and not name.startswith("_") and tells(function)
    }
)


def all_of(answer: Finding | Iterator[Finding]) -> list[Finding]:
    return [answer] if isinstance(answer, Finding) else list(answer)


def test_there_are_finding_functions_for_every_part_of_a_board() -> None:
    assert len(FUNCTIONS) >= 30
    assert {module for module, _ in FUNCTIONS} == {module.__name__.rpartition(".")[2] for module in MODULES}


@pytest.mark.parametrize(("module", "name"), FUNCTIONS)
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_what_is_not_as_it_should_be_comes_with_what_mends_it(module: str, name: str, data: st.DataObject) -> None:
    function = getattr(next(one for one in MODULES if one.__name__.endswith(f".{module}")), name)
    hints = inspect.get_annotations(function, eval_str=True)
    hints.pop("return")
    facts = {key: data.draw(st.from_type(hint), label=key) for key, hint in hints.items()}
    if name == "gpu":  # a driver without a fault has a GPU, and one without a GPU has a fault
        facts["driver"] = facts["driver"]._replace(fault="" if facts["driver"].gpus else "no NVIDIA driver")
    for finding in all_of(function(**facts)):
        assert finding.state in ("ok", "none", "missing", "warn")
        assert finding.advice or finding.state in ("ok", "none"), finding


def words(*told: Finding) -> dict[str, tuple[str, str]]:
    return {one.what: (one.state, one.found) for one in told}


def put(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return root


def test_a_camera_that_this_user_may_not_open_is_told_with_its_group() -> None:
    denied = Camera("/dev/video0", "HD Webcam", captures=False, fault="permission denied", denied=True)
    other = Camera("/dev/video1", "HD Webcam", captures=False)
    (told,) = cameras(Cameras((denied, other), False, "video"), jetson=False, container=False)
    assert (told.what, told.state) == ("camera /dev/video0", "warn")
    assert told.advice.startswith("sudo usermod -aG video $USER")


def test_a_camera_that_works_is_told_with_its_formats_and_what_is_beside_it_is_not() -> None:
    whole = Camera("/dev/video0", "HD Webcam", ("MJPG", "YUYV"))
    metadata = Camera("/dev/video1", "HD Webcam", captures=False)
    told = words(*cameras(Cameras((whole, metadata), False, "video"), jetson=False, container=False))
    assert told == {"camera /dev/video0": ("ok", "HD Webcam: MJPG, YUYV")}


def test_sensors_on_the_csi_connector_need_the_program_that_serves_them() -> None:
    sensor = Camera("/dev/video0", "vi-output, imx219 9-0010", ("RG10",))
    assert csi(Cameras((sensor,), True, "video")).found == "1 (csi://0 …): imx219 9-0010"
    silent = csi(Cameras((sensor,), False, "video"))
    assert (silent.state, silent.advice.split("  #")[0]) == ("warn", "sudo systemctl restart nvargus-daemon")
    none = words(*cameras(Cameras((sensor,), True, "video"), jetson=True, container=False))
    assert none["cameras"][0] == "none", "a bare sensor is no USB camera"


def test_what_has_a_cameras_name_and_is_none_is_passed_over(tmp_path: Path) -> None:
    put(tmp_path, {"dev/video0": "no device", "sys/class/video4linux/video0/name": "Fake\n"})
    (tmp_path / "dev/video1").mkdir()
    known = read_cameras(tmp_path)
    assert (*known.cameras[0][:2], known.cameras[0].captures) == ("/dev/video0", "Fake", False)
    assert known.cameras[0].fault == "not a V4L2 device"
    assert known.cameras[1].fault == "is a directory"


class FakeCamera:
    """What a driver answers to QUERYCAP and ENUM_FMT, by the request numbers of linux/videodev2.h."""

    def __init__(self, able: int, formats: list[bytes]) -> None:
        self.able, self.formats = able, formats

    def __call__(self, _handle: int, request: int, answer: bytearray) -> int:
        if request == self.number(2, 0, 104):
            struct.pack_into("16s32s32s3I", answer, 0, b"uvcvideo", b"HD Webcam", b"usb", 1, 1 << 31, self.able)
        elif request == self.number(3, 2, 64):
            index, kind = struct.unpack_from("2I", answer)
            if kind != 1 or index >= len(self.formats):
                raise OSError(errno.EINVAL, "Invalid argument")
            answer[44:48] = self.formats[index]
        else:
            raise OSError(errno.ENOTTY, "Inappropriate ioctl")
        return 0

    @staticmethod
    def number(direction: int, which: int, size: int) -> int:
        return direction << 30 | size << 16 | ord("V") << 8 | which


def test_a_device_is_asked_what_it_gives_and_not_to_give_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, {"dev/video0": ""})
    monkeypatch.setattr("fcntl.ioctl", FakeCamera(1, [b"MJPG", b"YUYV", b"MJPG"]))
    assert read_cameras(tmp_path).cameras == (Camera("/dev/video0", "HD Webcam", ("MJPG", "YUYV")),)
    monkeypatch.setattr("fcntl.ioctl", FakeCamera(1 << 23, []))
    assert not read_cameras(tmp_path).cameras[0].captures, "a device for metadata alone"


def test_a_boards_own_files_say_its_power_mode_and_memory(material: Path) -> None:
    known = read_power(material / "jetson" / "sysfs_orin_nano_super_jp72")
    assert known.modes == {0: "15W", 1: "25W", 2: "MAXN_SUPER"}
    assert power.mode_finding(known) == Finding("power mode", "ok", "MAXN_SUPER")
    slower = power.mode_finding(known._replace(mode="15W"))
    assert slower.state == "ok"
    assert slower.advice.startswith("sudo nvpmodel -m 2  # MAXN_SUPER")
    assert 6 << 30 < known.memory < 9 << 30


def test_a_small_board_without_swap_is_told_how_to_make_some() -> None:
    small = Power("15W", {}, False, 8 << 30, 0, False)
    assert power.swap(small, jetson=True).advice.startswith("sudo fallocate -l 8G /swapfile")
    assert power.swap(small, jetson=False).state == "none"
    assert power.swap(small._replace(swap=4 << 30, zram=True), jetson=True).state == "ok"
    assert "jetson_clocks" in power.clocks(small, jetson=True).advice


@pytest.mark.parametrize(
    ("changed", "advised"),
    [
        ({"kind": "tmpfs"}, "lost with the next start"),
        ({"kind": "nfs4"}, "local disk"),
        ({"kind": "vfat"}, "ext4"),
        ({"read_only": True}, "remount,rw"),
        ({"writable": False, "owner": "edgewarden"}, "sudo -u edgewarden"),
        ({"free": 1 << 20}, "make room"),
        ({"inodes": 3}, "df -i"),
        ({"fault": "not there"}, "state_dir"),
    ],
)
def test_a_disk_that_does_not_keep_what_is_written_is_told(changed: dict[str, Any], advised: str) -> None:
    whole = Storage("/var/lib/edgewarden", "ext4", 8 << 30, 100_000)
    assert storage.disk(whole).state == "ok"
    told = storage.disk(whole._replace(**changed))
    assert told.state == "warn"
    assert advised in told.advice


def test_the_file_system_of_a_folder_is_that_of_the_mount_it_is_in(tmp_path: Path) -> None:
    place = os.path.realpath(tmp_path)
    mounts = (
        "22 1 8:1 / / rw - ext4 /dev/root rw\n"
        f"23 22 0:5 / {place} rw shared:1 - tmpfs tmpfs rw\n"
        f"24 22 0:6 / {place}x rw - nfs server:/ rw\nbroken\n"
    )
    put(tmp_path, {"proc/self/mountinfo": mounts})
    assert read_storage(tmp_path / "not" / "yet", tmp_path).kind == "tmpfs"
    assert read_storage(Path("/"), tmp_path).kind == "ext4"


def test_a_clock_that_nobody_sets_is_told_with_what_sets_it(tmp_path: Path) -> None:
    lone = read_clock(tmp_path, 12.0, synced=True)
    told = clock.clock(lone, container=False)
    assert told.state == "warn"
    assert "before 2025" in told.found
    assert "systemd-timesyncd" in told.advice
    put(tmp_path, {"run/systemd/timesync/synchronized": "", "dev/rtc0": ""})
    assert clock.clock(read_clock(tmp_path, 1.8e9, synced=False), container=False) == Finding(
        "clock", "ok", "synchronised"
    )
    assert "on the host" in clock.clock(Clock(1.8e9, False, "chrony", True, True), container=True).advice


RUNNING = {
    "LoadState": "loaded",
    "UnitFileState": "enabled",
    "ActiveState": "active",
    "SubState": "running",
    "Result": "success",
    "User": "edgewarden",
    "NRestarts": "0",
    "WatchdogUSec": "30s",
    "ExecMainStatus": "0",
    "NeedDaemonReload": "no",
}


@pytest.mark.parametrize(
    ("changed", "state", "advised"),
    [
        ({}, "ok", ""),
        ({"User": ""}, "warn", "User=edgewarden"),
        ({"UnitFileState": "disabled"}, "warn", "systemctl enable edgewarden"),
        ({"NRestarts": "17"}, "warn", "journalctl"),
        ({"ActiveState": "activating", "SubState": "auto-restart"}, "warn", "journalctl"),
        ({"WatchdogUSec": "infinity"}, "warn", "WatchdogSec=30"),
        ({"NeedDaemonReload": "yes"}, "warn", "daemon-reload"),
        ({"ActiveState": "inactive"}, "warn", "enable --now"),
        ({"ActiveState": "failed", "Result": "exit-code", "ExecMainStatus": "78"}, "warn", "edgewarden check"),
        ({"ActiveState": "failed", "Result": "exit-code", "ExecMainStatus": "243"}, "warn", "LoadCredential="),
        ({"ActiveState": "failed", "Result": "watchdog", "ExecMainStatus": "6"}, "warn", "journalctl"),
        ({"LoadState": "masked"}, "warn", "unmask"),
    ],
)
def test_a_service_is_told_with_what_would_mend_it(changed: dict[str, str], state: str, advised: str) -> None:
    told = unit.service(Unit(None, "/etc/systemd/system/edgewarden.service"), RUNNING | changed)
    assert told.state == state
    assert advised in told.advice


def test_a_unit_is_read_with_its_drop_ins_and_nothing_of_its_secrets(tmp_path: Path) -> None:
    put(
        tmp_path,
        {
            "etc/systemd/system/edgewarden.service": "[Service]\nUser=edgewarden\n",
            "etc/systemd/system/edgewarden.service.d/credentials.conf": (
                "[Service]\nLoadCredential=mqtt.password:/etc/edgewarden/credentials/mqtt.password\n"
                "LoadCredential=door:/etc/edgewarden/credentials/door\n#LoadCredential=no:/etc/no\n"
            ),
            "etc/edgewarden/credentials/mqtt.password": "verysecret",
            "etc/group": "video:x:44:somebody,edgewarden\nrender:x:104:\nbroken\n",
            "dev/watchdog": "",
        },
    )
    (tmp_path / "etc/edgewarden/credentials/mqtt.password").chmod(0o644)
    told = list(unit_findings(read_unit(tmp_path, properties("LoadState=loaded\nActiveState=active\nUser=edgewarden"))))
    by_name = {one.what: one for one in told}
    assert by_name["service's user"].found == "is not in render"
    assert "others may read it (mode 644)" in by_name["credential mqtt.password"].found
    assert by_name["credential door"].state == "missing"
    assert "RuntimeWatchdogSec" in by_name["hardware watchdog"].advice
    assert "credential no" not in by_name
    assert "verysecret" not in str(told)


def test_the_service_is_looked_for_where_its_unit_keeps_things() -> None:
    text = (REPOSITORY / "systemd" / "edgewarden.service").read_text()
    assert f"EDGEWARDEN_CACHE={SERVICE_PLACES['EDGEWARDEN_CACHE']}" in text
    assert f"EDGEWARDEN_MODELS={SERVICE_PLACES['EDGEWARDEN_MODELS']}" in text
    assert f"WorkingDirectory={SERVICE_PLACES['STATE_DIRECTORY']}" in text


def test_without_systemd_there_is_no_service_to_speak_of(tmp_path: Path) -> None:
    assert words(*unit_findings(read_unit(tmp_path, None))) == {"service": ("none", "no systemd here")}
    assert unit.service(read_unit(tmp_path, {}), {"LoadState": "not-found"}).state == "none"


def test_python_packages_that_do_not_fit_together_are_told() -> None:
    whole = Packages((3, 10, 12), {"numpy": "1.26.4"}, system_opencv=True)
    assert packages.wheels(whole, jetson=True).state == "none"
    two = whole._replace(versions={"numpy": "2.1", "opencv-python": "4.11", "opencv-python-headless": "4.11"})
    assert "overwrite each other" in packages.wheels(two, jetson=False).found
    one = whole._replace(versions={"numpy": "1.26.4", "opencv-python": "4.11"})
    assert packages.wheels(one, jetson=True).advice.startswith("pip uninstall -y opencv-python;") or (
        packages.wheels(one, jetson=True).advice == "pip uninstall -y opencv-python"
    )
    broken = whole._replace(versions={"numpy": "2.1"}, opencv_fault="numpy.core.multiarray failed to import")
    assert packages.numpy(broken, jetson=True) == Finding(
        "numpy", "warn", "2.1, and this OpenCV was built for numpy 1", "pip install 'numpy<2'"
    )
    software = Software("", "none", False, True, "", "", (), "", False, broken.opencv_fault)
    told = findings.opencv(software, Jetson("", "", ""))
    assert (told.state, told.advice.split("  #")[0]) == ("missing", "pip install 'numpy<2'")
    assert "libgl1" in findings.opencv(software._replace(opencv_fault="libGL.so.1"), Jetson("", "", "")).advice
    assert packages.python(whole._replace(python=(3, 8, 10))).state == "warn"


def test_a_board_that_is_about_to_throttle_is_told() -> None:
    zones = {"cpu-thermal": Zone(48.0, 99.0, 104.5), "gpu-thermal": Zone(51.0, 99.0, None)}
    sensed = Sensed(zones, {"VDD_IN": 7.25}, 7.25, 0.31)
    told = words(*sensing.sensor_findings(sensed, jetson=True, has_gpu=True, limited=False))
    assert told["temperatures"][1].startswith("gpu-thermal 51 °C (throttles at 99); cpu-thermal 48 °C (throttles at 99")
    assert told["power rails"] == ("ok", "7.2 W in all: VDD_IN 7.2 W")
    hot = sensing.temperatures(Sensed({"cpu": Zone(97.0, 99.0, None)}, {}, None, None), jetson=True, limited=False)
    assert (hot.state, "close to throttling" in hot.found) == ("warn", True)
    blind = Sensed({}, {}, None, None)
    assert sensing.temperatures(blind, jetson=True, limited=True).state == "warn"
    assert sensing.temperatures(blind, jetson=False, limited=False).state == "none"
    silent = blind._replace(zones={"cpu": Zone(60.0, None, None)})
    assert sensing.temperatures(silent, jetson=True, limited=False).advice == "set [governor] limit = 85"
    assert sensing.temperatures(silent, jetson=True, limited=True).state == "ok"


def test_a_configuration_that_everybody_may_read_is_told_only_when_a_secret_stands_in_it() -> None:
    table = {
        "camera": [{"name": "door", "source": "rtsp://user:secret@10.0.0.5/x", "password_file": "/p"}],
        "plugins": {"alert": {"webhook": {"token": "abc", "token_file": "/t"}}, "mqtt": {"host": "broker"}},
    }
    assert list(secret_keys(table)) == ["camera[0].source", "plugins.alert.webhook.token"]
    told = configured.permissions(ConfigFile("/etc/edgewarden/agent.toml", 0o644, ("camera[0].source",)))
    assert (told.state, told.advice) == ("warn", "chmod o= /etc/edgewarden/agent.toml")
    assert configured.permissions(ConfigFile("a.toml", 0o640, ("camera[0].source",))).state == "ok"
    assert configured.permissions(ConfigFile("a.toml", 0o644, ())).state == "ok"
    assert configured.secret_file(SecretFile("k", "/p", 0o644, "")).advice == "chmod 600 /p"


def test_who_does_not_answer_is_told_by_why() -> None:
    (closed, unknown) = reach({"broker": ("127.0.0.1", 1), "camera": ("no-such-host.invalid", 554)})
    assert closed.fault == "connection refused"
    assert "nothing listens" in configured.reached(closed).advice
    assert unknown.fault in ("the name is not known", "no answer")
    assert configured.reached(Reached("broker", "h:1883", "")).state == "ok"


PATHS = [
    "etc/nv_tegra_release",
    "etc/nvpmodel.conf",
    "etc/group",
    "etc/systemd/system/edgewarden.service",
    "etc/systemd/system/edgewarden.service.d/a.conf",
    "proc/device-tree/model",
    "proc/meminfo",
    "proc/swaps",
    "proc/self/mountinfo",
    "var/lib/nvpmodel/status",
    "dev/video0",
    "dev/video1",
    "dev/rtc0",
    "dev/watchdog",
    ".dockerenv",
    "tmp/argus_socket",
    "run/systemd/system",
    "run/systemd/timesync/synchronized",
    "sys/class/video4linux/video0/name",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_min_freq",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq",
    "sys/class/thermal/thermal_zone0/type",
    "sys/class/thermal/thermal_zone0/temp",
    "sys/class/thermal/thermal_zone0/trip_point_0_temp",
    "sys/class/thermal/thermal_zone0/trip_point_0_type",
    "sys/class/hwmon/hwmon0/name",
    "sys/class/hwmon/hwmon0/in1_label",
    "sys/class/hwmon/hwmon0/in1_input",
    "sys/class/hwmon/hwmon0/curr1_input",
    "sys/devices/gpu.0/load",
    "usr/lib/python3/dist-packages/cv2",
]
CONTENTS = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [
            b"# R36 (release), REVISION: 4.3, GCID: 1",
            b"R99 (release), REVISION: ....",
            b"pmode:0002",
            b"< POWER_MODEL ID=2 NAME=MAXN >",
            b"MemTotal: 8000000 kB\nSwapTotal: 0 kB",
            b"MemTotal: 99999999999999999999999999 kB",
            b"1 1 8:1 / / rw - ext4 / rw",
            b"User=edgewarden\nLoadCredential=a:/etc/group\nLoadCredential=b:/\0\nLoadCredential=c:" + b"x" * 300,
            b"video:x:44:a\nrender:x:5",
            b"ina3221",
            b"45000",
            b"passive",
            b"9" * 5000,
            b"nan",
            b"vi-output, imx219 \x1b[31m",
        ]
    ),
)
THINGS = st.one_of(CONTENTS, st.sampled_from(["folder", "dangling", "loop", "pipe"]))


def make(path: Path, thing: bytes | str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(thing, bytes):
            path.write_bytes(thing)
        elif thing == "folder":
            path.mkdir()
        elif thing == "pipe":
            os.mkfifo(path) if "/sys/" not in str(path) else path.mkdir()  # in sysfs there are no pipes
        else:
            path.symlink_to(path.name if thing == "loop" else "nowhere")
    except (FileExistsError, NotADirectoryError):
        return  # something else lies where its folder should


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(PATHS), THINGS, max_size=len(PATHS)))
def test_no_machine_is_too_broken_to_be_looked_at(things: dict[str, bytes | str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, thing in things.items():
            make(Path(folder) / name, thing)
        told = list(gathered(Path(folder)))
    assert not [one for one in told if "cannot be looked at" in one.found], "the net is for what nobody thought of"
    assert all(one.advice or one.state in ("ok", "none") for one in told)
    assert all(text.isprintable() for one in told for text in one[:1] + one[2:])


def test_what_nobody_thought_of_is_a_finding_and_the_rest_is_still_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("no such\nluck")

    monkeypatch.setattr("agent.cli.doctor_software.read_software", broken)
    told = {one.what: one for one in gathered(tmp_path)}
    assert told["machine"].found == "cannot be looked at: ZeroDivisionError: no such luck"
    assert told["machine"].advice
    assert {"Python", "power mode", "temperatures", "cameras", "memory", "disk", "clock", "service"} <= set(told)


def test_a_board_that_is_known_by_its_files_alone_is_told_whole(material: Path) -> None:
    told = words(*gathered(material / "jetson" / "sysfs_orin_nano_super_jp72"))
    assert told["power mode"] == ("ok", "MAXN_SUPER")
    assert told["temperatures"][1].startswith("tj-thermal 59 °C")
    assert "W in all" in told["power rails"][1]
    assert told["GPU load"][0] == "ok"
