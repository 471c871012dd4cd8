"""An address chooses its source, and nothing else is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from camera_fakes import FakeCamera

from agent.errors import MissingSourceError, SourceError
from agent.sources.base import Source
from agent.sources.factory import SourceOptions, open_source
from agent.sources.images import ImageFile, ImageFolder
from agent.sources.stream import StreamCamera
from agent.sources.v4l2 import V4l2Camera
from agent.sources.video import VideoFile


@pytest.mark.parametrize(
    ("address", "kind", "live"),
    [
        ("/dev/video0", V4l2Camera, True),
        ("/dev/v4l/by-id/usb-Acme_Cam-video-index0", V4l2Camera, True),
        ("rtsp://cam/stream", StreamCamera, True),
        ("RTSPS://cam/stream", StreamCamera, True),
        ("http://cam/video", StreamCamera, True),
        ("https://cam/video", StreamCamera, True),
        ("clip.mp4", VideoFile, False),
        ("no-suffix", VideoFile, False),
        ("photo.JPG", ImageFile, False),
    ],
)
def test_an_address_chooses_its_source(address: str, kind: type[Source], live: bool) -> None:
    source = open_source(address)
    assert isinstance(source, kind)
    assert source.live is live
    assert isinstance(source, Source)


def test_a_folder_is_a_folder_of_images_at_the_configured_rate(tmp_path: Path) -> None:
    source = open_source(str(tmp_path), options=SourceOptions(fps=2))
    assert isinstance(source, ImageFolder)


def test_the_tilde_is_the_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    source = open_source("~/clip.mp4")
    assert isinstance(source, VideoFile)
    assert source.path == tmp_path / "clip.mp4"


def test_a_plugins_scheme_is_opened_by_the_plugin_with_the_whole_address() -> None:
    seen: list[str] = []

    def factory(address: str) -> Source:
        seen.append(address)
        return FakeCamera()

    source = open_source("acme://7/left?x=1", factories={"acme": factory})
    assert isinstance(source, FakeCamera)
    assert seen == ["acme://7/left?x=1"]


def test_an_unknown_scheme_lists_what_is_known_and_hides_the_secret() -> None:
    with pytest.raises(SourceError, match=r"acme://.*rtsp://.*wonder://") as caught:
        open_source("acme://me:S3cr@cam", factories={"wonder": lambda _address: FakeCamera()})
    assert "S3cr" not in str(caught.value)


@pytest.mark.parametrize("address", ["csi://", "csi://front", "csi://0/1"])
def test_a_csi_camera_is_known_by_its_number_alone(address: str) -> None:
    with pytest.raises(SourceError, match="write csi://0 for the first"):
        open_source(address)


def test_what_is_not_there_is_said_when_it_is_opened() -> None:
    with pytest.raises(MissingSourceError):
        open_source("/nowhere/clip.mp4").open()


def test_options_do_not_show_their_secrets() -> None:
    assert "S3cr" not in repr(SourceOptions(username="me", password="S3cr"))


def test_a_missing_camera_says_how_to_find_one() -> None:
    with pytest.raises(MissingSourceError, match="by-id") as caught:
        V4l2Camera("/dev/video987").open()
    assert caught.value.exit_code == 69


def test_a_device_that_is_no_camera_is_refused_in_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SourceError, match="/dev/null: not a camera"):
        V4l2Camera("/dev/null").open()
    assert capfd.readouterr().err == ""


def test_choosing_a_source_imports_no_opencv() -> None:
    code = (
        "import sys; from agent.sources.factory import open_source;"
        "[open_source(a) for a in ('/dev/video0', 'rtsp://u:p@cam/s', 'clip.mp4', 'a.jpg')];"
        "sys.exit('cv2' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("setting", "expected"), [(None, "SILENT"), ("INFO", "INFO")])
def test_opencv_is_silenced_unless_the_user_wants_to_hear_it(setting: str | None, expected: str) -> None:
    code = "import os; from agent.sources.opencv import silence; silence(); print(os.environ['OPENCV_LOG_LEVEL'])"
    environment = {"PATH": "/usr/bin", **({"OPENCV_LOG_LEVEL": setting} if setting else {})}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected
