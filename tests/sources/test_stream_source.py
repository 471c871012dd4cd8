"""Network cameras, against real HTTP and RTSP servers on loopback: pictures, credentials, and reasons of failure."""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Iterator

import pytest
from mjpeg_server import MjpegCamera, number_of
from rtsp_server import RtspCamera

from agent.errors import SourceError
from agent.sources.stream import Backlog, StreamCamera

PASSWORD = "p@ss/w:r d%?#ü"


@pytest.fixture(params=[MjpegCamera, RtspCamera])
def any_camera(request: pytest.FixtureRequest) -> Iterator[MjpegCamera | RtspCamera]:
    """The same for both kinds of network camera."""
    with request.param(fps=30) as camera:
        yield camera


@pytest.fixture
def camera() -> Iterator[MjpegCamera]:
    with MjpegCamera(fps=30) as camera:
        yield camera


def refusal(source: StreamCamera) -> str:
    with pytest.raises(SourceError) as caught:
        source.open()
    source.close()
    return str(caught.value)


def loss(source: StreamCamera) -> str:
    """How an open stream is lost; a few pictures may still be on their way."""
    with pytest.raises(SourceError) as caught:
        deque((source.read() for _ in range(100)), maxlen=0)
    return str(caught.value)


def test_pictures_come_in_order_and_the_first_is_no_old_one(any_camera: MjpegCamera | RtspCamera) -> None:
    source = StreamCamera(any_camera.url)
    source.open()
    before = any_camera.number
    numbers = [number_of(picture.pixels) for picture in (source.read() for _ in range(10)) if picture]
    source.close()
    assert numbers[0] >= before
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize(
    ("seconds", "passed_over"),
    [
        pytest.param([0.0001, 0.0001, 0.033, 0.033], 3, id="awaited from the third"),
        pytest.param([0.0001, 0.025, 0.0001, 0.0001, 0.033, 0.034], 5, id="a busy machine held one up"),
        pytest.param([0.0001, 0.0001, 1.0], 2, id="a camera of one picture a second"),
        pytest.param([0.007, 0.007, 0.007, 0.034, 0.033], 4, id="slow to decode"),
    ],
)
def test_a_backlog_is_over_when_pictures_have_to_be_waited_for(seconds: list[float], passed_over: int) -> None:
    backlog = Backlog()
    assert [backlog.over(took, step=0.033) for took in seconds].index(True) == passed_over


def test_a_user_name_and_password_with_every_kind_of_character_arrive(any_camera: MjpegCamera | RtspCamera) -> None:
    any_camera.credentials = ("admin", PASSWORD)
    source = StreamCamera(any_camera.url, username="admin", password=PASSWORD)
    source.open()
    assert source.read() is not None
    source.close()


def test_a_wrong_password_is_said_and_not_shown(
    any_camera: MjpegCamera | RtspCamera, capfd: pytest.CaptureFixture[str]
) -> None:
    any_camera.credentials = ("admin", PASSWORD)
    message = refusal(StreamCamera(any_camera.url, username="admin", password="S3cr"))
    assert "does not accept the user name and password" in message
    assert "wants a user name and password" in refusal(StreamCamera(any_camera.url))
    message += refusal(StreamCamera(any_camera.url.replace("//", "//admin:S3cr@")))
    assert "S3cr" not in message
    assert capfd.readouterr().err == ""


def test_a_wrong_path_is_said(any_camera: MjpegCamera | RtspCamera) -> None:
    assert "there is no such path (404)" in refusal(StreamCamera(any_camera.url + "x"))


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("rtsp://user:S3cr@127.0.0.1:1/s", "127.0.0.1 port 1: connection refused"),
        ("http://camera.invalid/s", "camera.invalid port 80: the name is not known"),
        ("http://a:b:c/", "not a valid URL"),
        ("http:///video", "names no host"),
    ],
)
def test_a_stream_that_cannot_be_reached_says_why(url: str, reason: str) -> None:
    message = refusal(StreamCamera(url, timeout=1))
    assert reason in message
    assert "S3cr" not in message


def test_rtsp_goes_over_tcp() -> None:
    with RtspCamera() as camera:
        source = StreamCamera(camera.url)
        source.open()
        source.close()
        assert camera.refused_udp == 0


def test_a_page_that_is_no_video_is_said(camera: MjpegCamera) -> None:
    def answer() -> None:
        for _ in range(8):
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n<html>hello</html>")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=answer, daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        assert "sends no video we can read" in refusal(StreamCamera(url, timeout=2))


def test_a_server_that_says_nothing_ends_in_a_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/video"
        assert "cannot be opened" in refusal(StreamCamera(url, timeout=1))


def test_a_stream_that_falls_silent_is_lost_after_the_timeout(camera: MjpegCamera) -> None:
    source = StreamCamera(camera.url, timeout=1)
    source.open()
    assert source.read() is not None
    camera.mute.set()
    assert "ended or stalled" in loss(source)
    source.close()


def test_a_stream_whose_server_hangs_up_is_lost(any_camera: MjpegCamera | RtspCamera) -> None:
    source = StreamCamera(any_camera.url, timeout=2)
    source.open()
    assert source.read() is not None
    any_camera.stop()
    assert "ended or stalled" in loss(source)
    source.close()
