"""Local cameras: which mode is asked for, what the driver makes of it, and where a camera is after it was unplugged."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import pytest

from agent.config import ControlName
from agent.errors import MissingSourceError
from agent.sources.device_path import current_device, stable_link
from agent.sources.v4l2 import V4l2Camera
from agent.sources.v4l2_modes import CONTROLS, Mode, fourcc_for, fourcc_text, shortfall


class Driver:
    """Stands for a camera's driver: a webcam that does 640x480 raw, and 1280x720 as MJPEG alone."""

    opened: list[str] = []

    def __init__(self) -> None:
        self.values: dict[int, float] = {
            cv2.CAP_PROP_FRAME_WIDTH: 640,
            cv2.CAP_PROP_FRAME_HEIGHT: 480,
            cv2.CAP_PROP_FPS: 30,
            cv2.CAP_PROP_FOURCC: cv2.VideoWriter.fourcc(*"YUYV"),
        }
        self.order: list[int] = []

    def open(self, target: str, _backend: int, _parameters: Any) -> bool:
        Driver.opened.append(target)
        return True

    def get(self, number: int) -> float:
        return self.values.get(number, 0.0)

    def set(self, number: int, value: float) -> bool:
        if number == cv2.CAP_PROP_ZOOM:
            return False
        self.order.append(number)
        self.values[number] = value
        raw = self.values[cv2.CAP_PROP_FOURCC] == cv2.VideoWriter.fourcc(*"YUYV")
        if raw and self.values[cv2.CAP_PROP_FRAME_WIDTH] > 640:
            self.values[cv2.CAP_PROP_FPS] = 10
        self.values[cv2.CAP_PROP_FRAME_WIDTH] = min(1280, self.values[cv2.CAP_PROP_FRAME_WIDTH])
        self.values[cv2.CAP_PROP_FRAME_HEIGHT] = min(720, self.values[cv2.CAP_PROP_FRAME_HEIGHT])
        return True

    def grab(self) -> bool:
        return True

    def retrieve(self) -> tuple[bool, Any]:
        return True, np.zeros((480, 640, 3), np.uint8)

    def release(self) -> None:
        pass


@pytest.fixture
def dev(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A made /dev with one camera: video0, and the links that udev makes for it."""
    Driver.opened = []
    monkeypatch.setattr(cv2, "VideoCapture", Driver)
    for kind in ("by-id", "by-path"):
        (tmp_path / "v4l" / kind).mkdir(parents=True)
    plug_in(tmp_path, 0)
    return tmp_path


def plug_in(dev: Path, number: int) -> None:
    (dev / f"video{number}").write_bytes(b"")
    for link in ("by-id/usb-Acme_Cam_1234-video-index0", "by-path/pci-0000:00:14.0-usb-0:2-video-index0"):
        path = dev / "v4l" / link
        path.unlink(missing_ok=True)
        path.symlink_to(f"../../video{number}")


def test_a_large_picture_is_asked_for_as_mjpeg_so_that_usb_carries_it_at_full_rate(dev: Path) -> None:
    camera = V4l2Camera(str(dev / "video0"), size=(1280, 720), fps=30, root=dev)
    camera.open()
    assert camera.mode == Mode("MJPG", 1280, 720, 30)
    driver: Any = camera._device
    assert driver.order.index(cv2.CAP_PROP_FOURCC) < driver.order.index(cv2.CAP_PROP_FRAME_WIDTH)


def test_a_small_picture_stays_in_the_drivers_own_format(dev: Path) -> None:
    camera = V4l2Camera(str(dev / "video0"), root=dev)
    camera.open()
    assert camera.mode == Mode("YUYV", 640, 480, 30)


def test_what_the_camera_does_not_do_is_told(dev: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        V4l2Camera(str(dev / "video0"), size=(3840, 2160), fps=30, format="yuyv", root=dev).open()
    assert "gives 1280x720 YUYV at 10 a second; it does not do size 3840x2160, 30 pictures a second" in caplog.text


def test_controls_are_set_by_name_and_what_the_driver_refuses_is_told(
    dev: Path, caplog: pytest.LogCaptureFixture
) -> None:
    camera = V4l2Camera(str(dev / "video0"), controls={"exposure": 120, "auto_exposure": 1, "zoom": 3}, root=dev)
    camera.open()
    driver: Any = camera._device
    assert driver.order.index(cv2.CAP_PROP_AUTO_EXPOSURE) < driver.order.index(cv2.CAP_PROP_EXPOSURE)
    assert "has no control zoom, or not the value 3" in caplog.text


def test_the_controls_of_the_configuration_are_those_that_are_known() -> None:
    assert set(get_args(ControlName)) == set(CONTROLS)
    assert all(hasattr(cv2, constant) for constant in CONTROLS.values())


def test_a_camera_that_returns_under_another_number_is_found_by_its_stable_path(
    dev: Path, caplog: pytest.LogCaptureFixture
) -> None:
    camera = V4l2Camera(str(dev / "video0"), root=dev)
    camera.open()
    camera.close()
    (dev / "video0").unlink()
    with pytest.raises(MissingSourceError):
        camera.open()
    plug_in(dev, 2)
    with caplog.at_level(logging.INFO):
        camera.open()
    assert Driver.opened == [str(dev / "video0"), str(dev / "video2")]
    assert "usb-Acme_Cam_1234" in caplog.text


def test_another_camera_that_took_the_number_is_not_taken_for_it(dev: Path) -> None:
    camera = V4l2Camera(str(dev / "video0"), root=dev)
    camera.open()
    plug_in(dev, 2)
    (dev / "video0").write_bytes(b"another one")
    camera.open()
    assert Driver.opened[-1] == str(dev / "video2")


def test_the_serial_number_counts_more_than_the_socket(dev: Path) -> None:
    link = stable_link(dev / "video0", dev)
    assert link is not None
    assert link.parent.name == "by-id"
    link.unlink()
    link = stable_link(dev / "video0", dev)
    assert link is not None
    assert link.parent.name == "by-path"


def test_a_machine_without_udevs_links_uses_the_number(tmp_path: Path) -> None:
    assert stable_link(tmp_path / "video0", tmp_path) is None
    assert current_device(tmp_path / "video0", None) == tmp_path / "video0"


@pytest.mark.parametrize(
    ("wanted", "size", "fourcc"),
    [
        ("auto", (640, 480), ""),
        ("auto", (1920, 1080), "MJPG"),
        ("yuyv", (1920, 1080), "YUYV"),
        ("h264", (1, 1), "H264"),
    ],
)
def test_the_format_follows_the_wish_or_the_size(wanted: Any, size: tuple[int, int], fourcc: str) -> None:
    assert fourcc_for(wanted, size) == fourcc


def test_a_fourcc_reads_as_text_and_rubbish_as_nothing() -> None:
    assert fourcc_text(cv2.VideoWriter.fourcc(*"MJPG")) == "MJPG"
    assert fourcc_text(-1.0) == fourcc_text(3.0) == ""


def test_a_rate_a_hair_below_the_wish_is_the_wish() -> None:
    assert shortfall((640, 480), 30, "auto", Mode("YUYV", 640, 480, 29.97)) == ""
    assert shortfall((640, 480), 30, "mjpeg", Mode("YUYV", 640, 480, 15)) == "format mjpeg, 30 pictures a second"


def test_the_real_dev_is_only_looked_at() -> None:
    before = sorted(os.listdir("/dev"))
    assert stable_link(Path("/dev/video99")) is None
    assert sorted(os.listdir("/dev")) == before
