"""Video files: every picture with its position, and a plain word where the file ends too early."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from clips import cut, write_clip
from mjpeg_server import number_of

from agent.errors import MissingSourceError, SourceError
from agent.sources.base import Picture, Source
from agent.sources.container import Layout, ended_early, examine
from agent.sources.opencv import OpenCvSource
from agent.sources.video import VideoFile


def read_all(source: Source) -> tuple[list[Picture], SourceError | None]:
    """Every picture, and the error that ended them if one did."""
    pictures: list[Picture] = []
    try:
        source.open()
        while (picture := source.read()) is not None:
            pictures.append(picture)
    except SourceError as error:
        return pictures, error
    finally:
        source.close()
    return pictures, None


@pytest.mark.parametrize(("name", "codec"), [("clip.avi", "MJPG"), ("clip.mp4", "mp4v")])
def test_every_picture_comes_in_order_with_its_position(tmp_path: Path, name: str, codec: str) -> None:
    pictures, error = read_all(VideoFile(write_clip(tmp_path / name, 40, fps=10, codec=codec)))
    assert error is None
    assert [number_of(picture.pixels) for picture in pictures] == list(range(40))
    assert [picture.position for picture in pictures] == pytest.approx([index / 10 for index in range(40)], abs=1e-3)


def test_each_picture_has_pixels_of_its_own(tmp_path: Path) -> None:
    pictures, _ = read_all(VideoFile(write_clip(tmp_path / "clip.avi", 5)))
    assert len({picture.pixels.ctypes.data for picture in pictures}) == len(pictures) == 5
    assert all(not np.shares_memory(one.pixels, other.pixels) for one, other in itertools.combinations(pictures, 2))


def test_a_video_can_be_opened_again_from_its_beginning(tmp_path: Path) -> None:
    source = VideoFile(write_clip(tmp_path / "clip.avi", 5))
    assert len(read_all(source)[0]) == 5
    pictures, error = read_all(source)
    assert (len(pictures), error) == (5, None)
    assert pictures[0].position == 0


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_truncated_avi_gives_what_can_be_read_and_then_says_so(tmp_path: Path, share: float) -> None:
    path = cut(write_clip(tmp_path / "clip.avi", 100), share)
    pictures, error = read_all(VideoFile(path))
    assert [number_of(picture.pixels) for picture in pictures] == list(range(len(pictures)))
    assert 100 * share - 5 < len(pictures) < 100 * share + 5
    assert str(error) == f"{path} ended after {len(pictures)} of 100 frames: truncated or damaged"


def test_a_truncated_mp4_without_its_index_says_what_is_missing(tmp_path: Path) -> None:
    path = cut(write_clip(tmp_path / "clip.mp4", 50, codec="mp4v"), 0.6)
    pictures, error = read_all(VideoFile(path))
    assert pictures == []
    assert str(path) in str(error)
    assert "moov" in str(error)


@pytest.mark.parametrize("share", [0.5, 0.97])
def test_a_truncated_mp4_with_its_index_in_front_says_how_many_are_missing(
    material: Path, tmp_path: Path, share: float
) -> None:
    path = tmp_path / "cut.mp4"
    data = (material / "video" / "one-by-one-person-detection.mp4").read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    pictures, error = read_all(VideoFile(path))
    assert len(pictures) > 1394 * (share - 0.05)
    assert str(error) == f"{path} ended after {len(pictures)} of 1394 frames: truncated or damaged"


def test_a_truncated_matroska_says_so_though_its_count_is_an_estimate(material: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.mkv"
    data = (material / "video" / "intel_asl_book.mkv").read_bytes()
    path.write_bytes(data[: len(data) // 2])
    pictures, error = read_all(VideoFile(path))
    assert len(pictures) > 30
    assert f"ended after {len(pictures)} of about 110 frames" in str(error)


@pytest.mark.parametrize(
    ("name", "count", "seconds"),
    [
        ("car-detection.mp4", 377, 30.16),
        ("one-by-one-person-detection.mp4", 1394, 139.4),
        ("rf_example_video.mp4", 431, 14.37),
        ("intel_asl_book.mkv", 109, 3.63),  # promises 110: an estimate from its duration
        ("classroom.mjpg.avi", 45, 2.7),
        ("person-bicycle-car-detection.mjpg.avi", 41, 3.28),
    ],
)
def test_real_clips_are_read_whole_and_not_called_damaged(
    material: Path, name: str, count: int, seconds: float
) -> None:
    source = VideoFile(material / "video" / name)
    source.open()
    positions = []
    while (picture := source.read()) is not None:
        positions.append(picture.position or 0.0)
    source.close()
    assert len(positions) == count
    assert positions[-1] + 1 / source.fps == pytest.approx(seconds, abs=0.05)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "empty file"), (b"hello, world\n" * 100, "not a video"), (bytes(1000), "not a video")],
)
def test_what_is_no_video_is_refused_in_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], content: bytes, reason: str
) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=reason) as caught:
        VideoFile(path).open()
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_a_missing_video_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingSourceError, match="no such file") as caught:
        VideoFile(tmp_path / "none.mp4").open()
    assert caught.value.exit_code == 69


def test_a_folder_where_a_video_is_meant_says_so(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot be read: Is a directory"):
        VideoFile(tmp_path).open()


def test_a_name_that_looks_like_a_protocol_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_clip(tmp_path / "clip.avi", 3).rename(tmp_path / "concat:a|b.avi")
    monkeypatch.chdir(tmp_path)
    pictures, error = read_all(VideoFile(Path("concat:a|b.avi")))
    assert (len(pictures), error) == (3, None)


def test_closing_twice_and_after_a_failed_open_is_safe(tmp_path: Path) -> None:
    source = VideoFile(tmp_path / "none.mp4")
    with pytest.raises(SourceError):
        source.open()
    source.close()
    source.close()
    assert source.read() is None


@pytest.mark.parametrize(("name", "codec", "kind"), [("a.avi", "MJPG", "avi"), ("a.mp4", "mp4v", "mp4")])
def test_a_container_knows_whether_it_is_whole(tmp_path: Path, name: str, codec: str, kind: str) -> None:
    path = write_clip(tmp_path / name, 30, codec=codec)
    with path.open("rb") as whole, cut(path, 0.5).open("rb") as half:
        layout, shorter = examine(whole), examine(half)
    assert (layout.kind, layout.cut, layout.indexed, layout.exact) == (kind, False, True, True)
    assert shorter.cut


def test_a_whole_file_may_hold_fewer_pictures_than_it_promises() -> None:
    estimate = Layout("matroska")
    assert not ended_early(estimate, 1800, 900, share_of_time=0.99)  # a variable rate
    assert not ended_early(estimate, 1800, 1700, share_of_time=0.94)  # a longer sound track
    assert ended_early(estimate, 1800, 600, share_of_time=0.33)


def test_a_cut_file_may_lack_nothing_but_its_tail() -> None:
    exact = Layout("mp4", cut=True, exact=True)
    assert not ended_early(exact, 100, 100, 1.0)
    assert ended_early(exact, 100, 99, 0.99)
    assert ended_early(exact, 0, 99, 1.0)
    assert not ended_early(Layout(), 0, 99, 1.0)


def test_a_hardware_decoder_that_gives_no_picture_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    opened: list[list[int]] = []
    connect, grab = OpenCvSource.connect, OpenCvSource.grab

    def remember(self: OpenCvSource, target: str, backend: int, parameters: Sequence[int] = ()) -> bool:
        opened.append(list(parameters))
        return connect(self, target, backend, [])

    def stuck(self: OpenCvSource) -> bool:
        return len(opened) > 1 and grab(self)

    monkeypatch.setattr(OpenCvSource, "connect", remember)
    monkeypatch.setattr(OpenCvSource, "grab", stuck)
    monkeypatch.setattr(OpenCvSource, "decoder", lambda _self: "by VAAPI")
    path = write_clip(tmp_path / "clip.avi", 5)
    video = VideoFile(path, threads=1, hardware_decode=True)
    video.open()
    pictures = 0
    while video.read() is not None:
        pictures += 1
    video.close()
    assert pictures == 5
    assert [len(parameters) for parameters in opened] == [4, 2]
    assert f"{path}: decoded by VAAPI gives no picture, so in software" in caplog.text


def test_a_file_is_decoded_on_as_many_threads_as_asked(material: Path) -> None:
    def threads() -> int:
        return len(list(Path("/proc/self/task").iterdir()))

    before = threads()
    video = VideoFile(material / "video" / "car-detection.mp4", threads=1)
    video.open()
    assert video.read() is not None
    assert threads() == before
    video.close()
