"""What the machine is: JetPack by its files, GPUs by the driver, findings and the commands that mend them."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import pytest

from agent.board import cuda_driver, findings
from agent.board.cuda_driver import Driver, Gpu, ask_driver
from agent.board.finding import Finding
from agent.board.findings import Software
from agent.board.jetpack import pycuda_command, release_of, tensorrt_command, too_old
from agent.board.jetson import Jetson, power_mode, read_jetson

ORIN = Gpu("Orin", (8, 7), 8 << 30, True, 8)
NOTHING = Software("", "TensorRT is not installed; `edgewarden doctor` says how", False, True, "", "", (), "", False)


def jetson(l4t: str = "36.4.3") -> Jetson:
    return Jetson("NVIDIA Jetson Orin Nano", l4t, "MAXN_SUPER")


@pytest.mark.parametrize(
    ("l4t", "jetpack", "tensorrt"),
    [
        ("35.6.1", "5", "8.5"),
        ("36.3.0", "6.0", "8.6"),
        ("36.4.0", "6.1", "10.3"),
        ("36.4.3", "6.2", "10.3"),
        ("36.4.7", "6.2.1", "10.3"),
        ("38.2.1", "7.0", "10.13"),
        ("38.4.0", "7.1", "10.13"),
        ("39.2.1", "7.2", "10.16"),
    ],
)
def test_each_jetson_linux_has_its_jetpack(l4t: str, jetpack: str, tensorrt: str) -> None:
    release = release_of(l4t)
    assert release is not None
    assert (release.jetpack, release.tensorrt) == (jetpack, tensorrt)


def test_what_is_no_jetson_linux_has_none() -> None:
    assert release_of("") is None
    assert release_of("28.1") is None
    assert too_old("35.4.1").endswith("flash JetPack 6")
    assert too_old("36.4.3") == ""


def test_a_board_is_known_by_its_files(tmp_path: Path, material: Path) -> None:
    for name, text in (
        ("etc/nv_tegra_release", "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64"),
        ("proc/device-tree/model", "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0"),
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = read_jetson(tmp_path)
    assert found == Jetson("NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super", "36.4.3", "")
    assert power_mode(material / "jetson" / "sysfs_orin_nano_super_jp72") == "MAXN_SUPER", "a real board's files"
    assert read_jetson(tmp_path / "nothing") == Jetson("", "", "")


def test_a_power_mode_without_a_name_is_its_number(tmp_path: Path) -> None:
    (tmp_path / "var/lib/nvpmodel").mkdir(parents=True)
    (tmp_path / "var/lib/nvpmodel/status").write_text("pmode:0003")
    assert power_mode(tmp_path) == "3"


class FakeDriver:
    """libcuda with the calls that are asked of it; checked against the names of the real one by their prefix."""

    def __init__(self, gpus: int = 1, init: int = 0) -> None:
        self.gpus, self.init = gpus, init

    def cuInit(self, _flags: int) -> int:  # noqa: N802
        return self.init

    def cuDriverGetVersion(self, version: Any) -> int:  # noqa: N802
        version._obj.value = 12060
        return 0

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = self.gpus
        return 0

    def cuDeviceGet(self, device: Any, index: int) -> int:  # noqa: N802
        device._obj.value = index
        return 0

    def cuDeviceGetName(self, name: Any, _length: int, _device: Any) -> int:  # noqa: N802
        name.value = b"Orin"
        return 0

    def cuDeviceTotalMem_v2(self, memory: Any, _device: Any) -> int:  # noqa: N802
        memory._obj.value = 8 << 30
        return 0

    def cuDeviceGetAttribute(self, value: Any, which: int, _device: Any) -> int:  # noqa: N802
        value._obj.value = {75: 8, 76: 7, 16: 8, 18: 1}[which]
        return 0


def driver_of(fake: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> Driver:
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: fake)
    return ask_driver()


def test_gpus_are_asked_of_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    assert driver_of(FakeDriver(), monkeypatch) == Driver("12.6", (ORIN,), "")
    assert driver_of(FakeDriver(gpus=0), monkeypatch).fault == "no CUDA device"
    assert "different versions: restart" in driver_of(FakeDriver(init=803), monkeypatch).fault
    assert driver_of(FakeDriver(init=12345), monkeypatch).fault == "CUDA error 12345"


def test_a_machine_without_a_driver_and_a_library_that_is_none_are_told() -> None:
    assert ask_driver("libno-such-driver.so.1") == Driver(
        "", (), "no NVIDIA driver (libno-such-driver.so.1 is not there)"
    )
    assert "not what it should be" in ask_driver("libc.so.6").fault
    assert cuda_driver.LIBRARY == "libcuda.so.1"


def test_each_jetpack_has_its_command() -> None:
    system = {"in_system": False, "venv": False}
    assert tensorrt_command(Jetson("", "", ""), **system) == "pip install 'edgewarden[tensorrt]'"
    assert tensorrt_command(jetson(), **system) == "sudo apt-get install -y python3-libnvinfer"
    hidden = tensorrt_command(jetson("38.4.0"), in_system=True, venv=True)
    assert hidden == "python3 -m venv --system-site-packages --upgrade .venv  # with the system's Python 3.12"
    assert "flash JetPack 6" in tensorrt_command(jetson("35.6.1"), **system)
    assert "cuda-toolkit-12-6" in pycuda_command(jetson())
    assert "cuda-toolkit-13-2" in pycuda_command(jetson("39.2.0"))


def test_a_board_that_lacks_everything_is_told_all_of_it_with_commands() -> None:
    board, driver = jetson(), Driver("", (), "no NVIDIA driver (libcuda.so.1 is not there)")
    found = [
        findings.gpu(driver, board, "", container=False),
        findings.tensorrt(NOTHING, board, False),
        findings.pycuda(NOTHING, board, False),
        findings.onnxruntime(NOTHING),
        findings.opencv(NOTHING, board),
    ]
    assert {one.state for one in found} == {"missing"}
    assert all(one.advice for one in found)
    assert "--runtime nvidia" in findings.gpu(driver, board, "", container=True).advice


def test_a_board_that_has_everything_is_told_what_it_is() -> None:
    whole = Software("tensorrt 10.3.0", "", True, True, "2024.1", "1.20.0", ("CPUExecutionProvider",), "4.8.0", True)
    board, driver = jetson(), Driver("12.6", (ORIN,), "")
    found = [
        findings.machine(board, "linux aarch64", "3.10.12"),
        findings.gpu(driver, board, "fp32, fp16, int8", container=False),
        findings.cuda_driver(driver),
        findings.tensorrt(whole, board, True),
        findings.pycuda(whole, board, True),
        findings.onnxruntime(whole),
        findings.opencv(whole, board),
    ]
    assert {one.state for one in found} == {"ok"}
    words = " / ".join(one.found for one in found)
    assert "JetPack 6.2 (L4T 36.4.3)" in words
    assert (
        "Orin, compute capability 8.7, 8 multiprocessors, 8.0 GiB shared with the CPU; natively fp32, fp16, int8"
        in words
    )


def test_what_does_not_fit_together_is_shown() -> None:
    other = NOTHING._replace(tensorrt="tensorrt 10.7.0", opencv="4.11.0", gstreamer=False)
    assert "JetPack 6.2 brings 10.3" in findings.tensorrt(other, jetson(), True).found
    assert "hide JetPack's own" in findings.opencv(other, jetson()).advice
    assert findings.tensorrt(NOTHING._replace(tensorrt="tensorrt 8.5.2"), jetson(), True).state == "warn"
    assert findings.machine(jetson("35.6.1"), "linux aarch64", "3.10.12").state == "warn"


def test_a_machine_without_a_gpu_lacks_nothing_for_it() -> None:
    plain, driver = Jetson("", "", ""), Driver("", (), "no NVIDIA driver")
    assert findings.gpu(driver, plain, "", container=False) == Finding("GPU", "none", "no NVIDIA driver", "")
    assert findings.tensorrt(NOTHING, plain, False).state == "none"
    assert findings.pycuda(NOTHING, plain, False).state == "none"


def test_openvino_is_told_of_and_never_missed() -> None:
    there = findings.openvino("2026.4.1", bf16=True)
    assert there[:3] == ("OpenVINO", "ok", "2026.4.1 (this processor has bfloat16)")
    assert findings.openvino("", bf16=False).state == "none"
