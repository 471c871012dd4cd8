"""One camera's thread: newest frame only, states, reconnects, recordings at their pace or frame by frame."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from camera_fakes import Clock, FakeCamera, GrabbingCamera, Recording, noise
from clips import cut, write_clip
from mjpeg_server import MjpegCamera, number_of
from rtsp_server import RtspCamera
from waiting import wait_until

from agent.data import Frame
from agent.errors import MissingSourceError, SourceError
from agent.sources.base import Picture, Source
from agent.sources.capture import CameraStatus, Capture
from agent.sources.images import ImageFolder
from agent.sources.stream import StreamCamera
from agent.sources.video import VideoFile

Begin = Callable[..., Capture]


@pytest.fixture
def begin() -> Iterator[Begin]:
    """Starts captures, and ends them after the test."""
    captures: list[Capture] = []

    def start(source: Source, **options: object) -> Capture:
        capture = Capture("door", source, **options)  # type: ignore[arg-type]
        captures.append(capture)
        capture.start()
        return capture

    yield start
    for capture in captures:
        if isinstance(capture.source, FakeCamera):
            capture.source.gone.set()
        capture.stop()


def captured(capture: Capture, count: int) -> None:
    wait_until(lambda: capture.status().captured >= count, what=f"{count} captured, now {capture.status()}")


def take_all(capture: Capture) -> list[Frame]:
    """Every frame until the recording has ended."""
    frames: list[Frame] = []

    def at_the_end() -> bool:
        while (frame := capture.take()) is not None:
            frames.append(frame)
        return capture.ended

    wait_until(at_the_end, timeout=30)
    return frames


# The newest frame


def test_only_the_newest_frame_is_offered_and_the_others_are_counted(begin: Begin) -> None:
    camera = FakeCamera()
    capture = begin(camera)
    camera.show(*(noise(index) for index in range(5)))
    captured(capture, 5)
    frame = capture.take()
    assert frame is not None
    assert (frame.camera, frame.seq) == ("door", 4)
    assert np.array_equal(frame.pixels, noise(4))
    assert capture.take() is None
    status = capture.status()
    assert (status.state, status.captured, status.dropped) == ("up", 5, 4)


def test_the_latest_picture_stays_to_be_seen_after_it_was_taken(begin: Begin) -> None:
    camera = FakeCamera()
    capture = begin(camera)
    assert capture.latest() is None
    camera.show(noise(1))
    captured(capture, 1)
    assert capture.latest() is capture.take() is capture.latest()


def test_both_times_are_stamped_when_the_frame_is_captured(begin: Begin) -> None:
    clock = Clock()
    camera = FakeCamera()
    capture = begin(camera, clock=clock, wall=lambda: 1_700_000_000 + clock.now)
    clock.now = 107.5
    camera.show(noise(1))
    captured(capture, 1)
    clock.now = 200.0
    frame = capture.take()
    assert frame is not None
    assert (frame.captured_mono, frame.captured_at) == (107.5, 1_700_000_107.5)


def test_real_times_are_those_of_the_machine(begin: Begin) -> None:
    camera = FakeCamera()
    capture = begin(camera)
    before, before_mono = time.time(), time.monotonic()
    camera.show(noise(1))
    captured(capture, 1)
    frame = capture.take()
    assert frame is not None
    assert before <= frame.captured_at <= time.time()
    assert before_mono <= frame.captured_mono <= time.monotonic()


def test_pixels_cannot_be_written_nor_made_writable(begin: Begin) -> None:
    camera = FakeCamera()
    capture = begin(camera)
    big = noise(1, (128, 96))
    for picture in (noise(1), big[:48, :64], np.frombuffer(bytes(12), np.uint8).reshape(2, 2, 3)):
        camera.show(picture)
        wait_until(lambda: capture.latest() is not None and capture.take() is not None)
        frame = capture.latest()
        assert frame is not None
        assert frame.pixels.flags.c_contiguous
        with pytest.raises(ValueError, match="read-only"):
            frame.pixels[0, 0] = 0
        with pytest.raises(ValueError, match="WRITEABLE"):
            frame.pixels.flags.writeable = True


TURNED = [
    (0, (64, 48), (0, 0)),
    (90, (48, 64), (0, 47)),
    (180, (64, 48), (47, 63)),
    (270, (48, 64), (63, 0)),
]


@pytest.mark.parametrize(("degrees", "size", "corner"), TURNED)
def test_a_camera_is_turned_clockwise(
    begin: Begin, degrees: int, size: tuple[int, int], corner: tuple[int, int]
) -> None:
    camera = FakeCamera()
    capture = begin(camera, rotate=degrees)
    picture = np.full((48, 64, 3), 100, np.uint8)
    picture[0, 0] = 255
    camera.show(picture)
    captured(capture, 1)
    frame = capture.take()
    assert frame is not None
    assert frame.size == size
    assert frame.pixels[corner].tolist() == [255, 255, 255]


def test_the_dispatcher_is_woken_for_each_frame(begin: Begin) -> None:
    wake = threading.Event()
    camera = FakeCamera()
    capture = begin(camera, on_frame=wake.set)
    camera.show(noise(1))
    assert wake.wait(10)
    assert capture.take() is not None


def test_frames_beyond_the_configured_rate_are_neither_offered_nor_fetched(begin: Begin) -> None:
    clock = Clock()
    camera = GrabbingCamera()
    capture = begin(camera, fps=10, clock=clock)

    def pass_time() -> None:
        clock.now += 1 / 30

    for index in range(60):
        camera.show(noise(index))
        camera.script.put(pass_time)
    wait_until(camera.script.empty)
    status = capture.status()
    assert status.captured == pytest.approx(20, abs=2)
    assert camera.retrieved == status.captured


def test_what_nobody_will_look_at_is_not_fetched_but_counted_and_the_camera_is_up(begin: Begin) -> None:
    clock = Clock()
    camera = GrabbingCamera()
    capture = begin(camera, clock=clock)

    def pass_time() -> None:
        clock.now += 1 / 30

    def show(count: int) -> None:
        for index in range(count):
            camera.show(noise(index))
            camera.script.put(pass_time)
        wait_until(camera.script.empty)
        wait_until(lambda: capture.status().captured >= count)

    show(3)
    capture.spare(clock.now + 0.9)
    show(24)
    wait_until(lambda: capture.status().captured == 27)
    assert camera.retrieved <= 5
    capture.spare(clock.now + 0.1)
    show(6)
    wait_until(lambda: capture.status().captured == 33)
    frame = capture.take()
    assert frame is not None
    assert frame.seq == 32, "the newest one when it is asked for"
    status = capture.status()
    assert (status.state, status.captured, status.dropped) == ("up", 33, 32)


def test_a_recording_in_its_own_time_is_decoded_only_as_far_as_somebody_looks(begin: Begin, material: Path) -> None:
    video = VideoFile(material / "video" / "intel_asl_book.mkv")
    fetched: list[bool] = []
    whole = video.retrieve

    def retrieve() -> Picture | None:
        fetched.append(True)
        return whole()

    video.retrieve = retrieve  # type: ignore[method-assign]
    capture = begin(video)
    capture.spare(1e12)
    wait_until(lambda: capture.take() is None and capture.status().captured == 109, 60)
    status = capture.status()
    assert (status.captured, status.dropped) >= (109, 100)
    assert len(fetched) <= 8


def test_the_rate_of_a_camera_is_measured(begin: Begin) -> None:
    clock = Clock()
    camera = FakeCamera()
    capture = begin(camera, clock=clock)

    def pass_time() -> None:
        clock.now += 0.125

    for index in range(30):
        camera.show(noise(index))
        camera.script.put(pass_time)
    captured(capture, 30)
    assert capture.status().fps == pytest.approx(8)
    assert capture.status(clock.now + 60).fps == 0


def test_a_picture_that_cannot_be_decoded_is_counted_and_passed_over(begin: Begin) -> None:
    camera = GrabbingCamera()
    capture = begin(camera)
    camera.show(noise(1), np.empty((0, 0, 3), np.uint8), noise(2))
    captured(capture, 2)
    status = capture.status()
    assert (status.captured, status.skipped, status.restarts) == (2, 1, 0)


# States


def test_a_camera_that_sends_nothing_is_down_though_its_thread_is_stuck(begin: Begin) -> None:
    clock = Clock()
    camera = FakeCamera()
    capture = begin(camera, clock=clock, stall_after=5)
    camera.show(noise(1))
    captured(capture, 1)
    clock.now += 5
    assert capture.status().state == "up"
    clock.now += 0.1
    status = capture.status()
    assert (status.state, status.reason) == ("down", "no new frame for 5 s")
    camera.show(noise(2))
    captured(capture, 2)
    assert capture.status().state == "up"
    assert capture.status().restarts == 0


def test_a_frozen_camera_offers_nothing_until_its_picture_changes(begin: Begin) -> None:
    clock = Clock()
    camera = FakeCamera()
    capture = begin(camera, clock=clock, stall_after=5)
    for count in range(1, 8):
        camera.show(noise(1))
        captured(capture, count)
        clock.now += 1
    assert capture.status().state == "frozen"
    assert "5 s" in capture.status().reason
    assert capture.take() is None
    assert capture.latest() is not None
    camera.show(noise(2))
    captured(capture, 8)
    assert capture.status().state == "up"
    frame = capture.take()
    assert frame is not None
    assert frame.seq == 7
    status = capture.status()
    assert (status.captured, status.dropped) == (8, 7)


def test_a_black_camera_offers_nothing_until_it_sees_again(begin: Begin) -> None:
    clock = Clock()
    camera = FakeCamera()
    capture = begin(camera, clock=clock)
    for count in range(1, 5):
        camera.show(noise(count) // 40)
        captured(capture, count)
        clock.now += 1
    assert (capture.status().state, capture.take()) == ("black", None)
    camera.show(noise(9))
    captured(capture, 5)
    assert capture.status().state == "up"
    assert capture.take() is not None


def test_a_recording_may_be_black_and_still(begin: Begin) -> None:
    class Still(Recording):
        def read(self) -> Picture | None:
            picture = super().read()
            return picture and picture._replace(pixels=np.zeros((48, 64, 3), np.uint8))

    capture = begin(Still(50, fps=0.5), realtime=False)
    assert len(take_all(capture)) == 50


def test_changes_of_state_are_reported_in_order(begin: Begin) -> None:
    clock = Clock()
    seen: list[tuple[str, str]] = []
    camera = FakeCamera()
    capture = begin(camera, clock=clock, on_state=lambda name, status: seen.append((name, status.state)))
    camera.show(noise(1))
    captured(capture, 1)
    clock.now += 6
    assert capture.status().state == "down"
    camera.show(noise(2))
    captured(capture, 2)
    wait_until(lambda: len(seen) == 3)
    assert seen == [("door", "up"), ("door", "down"), ("door", "up")]


def test_a_listener_that_fails_does_not_cost_the_camera(begin: Begin, caplog: pytest.LogCaptureFixture) -> None:
    def listener(_camera: str, _status: CameraStatus) -> None:
        raise RuntimeError("listener")

    camera = FakeCamera()
    capture = begin(camera, on_state=listener)
    camera.show(noise(1), noise(2))
    captured(capture, 2)
    assert "a listener of its state failed" in caplog.text


# Losing and finding a camera


def test_a_lost_camera_is_opened_again_within_a_second_and_said_once(
    begin: Begin, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    camera = FakeCamera()
    capture = begin(camera, rng=random.Random(1))
    camera.show(noise(1))
    captured(capture, 1)
    lost = time.monotonic()
    camera.lose("the cable is out")
    wait_until(lambda: capture.status().state == "down")
    assert capture.status().reason == "the cable is out"
    camera.show(noise(2))
    captured(capture, 2)
    assert time.monotonic() - lost > 0.4
    status = capture.status()
    assert (status.state, status.restarts, camera.opened, camera.closed) == ("up", 1, 2, 1)
    assert [record.getMessage() for record in caplog.records] == [
        "camera door: up",
        "camera door: down: the cable is out",
        "camera door: up again",
    ]


def test_a_camera_that_is_missing_is_retried_and_its_reason_logged_once(
    begin: Begin, caplog: pytest.LogCaptureFixture
) -> None:
    camera = FakeCamera()
    camera.unplugged = MissingSourceError("/dev/video7: no such device")
    capture = begin(camera)
    wait_until(lambda: camera.opened >= 3)
    assert capture.status().state == "down"
    assert not capture.ended
    assert capture.failure is None
    assert caplog.text.count("no such device") == 1
    camera.unplugged = SourceError("/dev/video7: another program is using it")
    wait_until(lambda: "another program" in caplog.text)
    camera.unplugged = None
    camera.show(noise(1))
    captured(capture, 1)
    wait_until(lambda: "up again" in caplog.text)


def test_whatever_a_plugins_source_raises_is_told_with_its_traceback_and_retried(
    begin: Begin, caplog: pytest.LogCaptureFixture
) -> None:
    camera = FakeCamera()
    camera.script.put(ZeroDivisionError("oops"))
    camera.show(noise(1))
    capture = begin(camera)
    captured(capture, 1)
    assert "Traceback" in caplog.text
    assert "ZeroDivisionError: oops" in caplog.text


@pytest.mark.parametrize("wrong", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), "a picture"])
def test_a_source_that_gives_no_picture_is_told_so(begin: Begin, wrong: np.ndarray) -> None:
    camera = FakeCamera()
    camera.show(wrong)
    capture = begin(camera)
    wait_until(lambda: capture.status().state == "down")
    assert "instead of a uint8 [H, W, 3] picture" in capture.status().reason


def test_a_camera_that_sends_only_rubbish_is_opened_again(begin: Begin) -> None:
    clock = Clock()
    camera = GrabbingCamera()
    capture = begin(camera, clock=clock)

    def pass_time() -> None:
        clock.now += 3

    for _ in range(3):
        camera.script.put(pass_time)
        camera.show(np.empty((0, 0, 3), np.uint8))
    wait_until(lambda: camera.opened >= 2)
    assert "no picture that can be decoded" in capture.status().reason


def test_a_camera_stuck_in_its_driver_does_not_hold_up_the_end(caplog: pytest.LogCaptureFixture) -> None:
    camera = FakeCamera()
    capture = Capture("door", camera)
    capture.start()
    wait_until(lambda: camera.opened == 1)
    capture.stop(0.05)
    assert "left behind" in caplog.text
    camera.gone.set()
    wait_until(lambda: camera.closed == 1)
    capture.stop()


def test_stopping_is_safe_before_the_start_and_twice_after_it(begin: Begin) -> None:
    Capture("never", FakeCamera()).stop()
    capture = begin(Recording(3))
    capture.stop()
    capture.stop()


# Recordings


def test_frame_by_frame_every_picture_is_handed_over_in_order(begin: Begin, tmp_path: Path) -> None:
    capture = begin(VideoFile(write_clip(tmp_path / "clip.avi", 60)), realtime=False)
    frames = take_all(capture)
    assert [number_of(frame.pixels) for frame in frames] == list(range(60))
    assert [frame.seq for frame in frames] == list(range(60))
    status = capture.status()
    assert (status.state, status.captured, status.dropped) == ("ended", 60, 0)
    assert capture.failure is None


def test_frame_by_frame_the_reader_waits_until_a_frame_is_taken(begin: Begin) -> None:
    source = Recording(10)
    capture = begin(source, realtime=False)
    wait_until(lambda: source.given == 2)
    assert capture.status().captured == 1
    assert not capture.ended
    assert capture.take() is not None
    wait_until(lambda: source.given == 3)
    capture.stop()
    assert capture.status().captured == 2


def test_frame_by_frame_time_is_that_of_the_recording(begin: Begin) -> None:
    capture = begin(Recording(20, fps=10), realtime=False)
    times = [capture.media_time(frame) for frame in take_all(capture)]
    assert np.diff(times) == pytest.approx(0.1)


def test_a_recording_ends_when_its_last_frame_was_taken(begin: Begin) -> None:
    woken = threading.Semaphore(0)
    capture = begin(Recording(1), on_frame=woken.release)
    assert woken.acquire(timeout=10)
    wait_until(lambda: capture.status().state == "ended")
    before = capture.ended
    assert capture.take() is not None
    assert (before, capture.ended) == (False, True)
    assert woken.acquire(timeout=10), "the end is worth waking for"


def test_in_real_time_a_recording_keeps_its_pace(begin: Begin) -> None:
    capture = begin(Recording(21, fps=20))
    frames: list[Frame] = []

    def at_the_end() -> bool:
        frame = capture.take()
        if frame is not None:
            frames.append(frame)
        return capture.ended

    wait_until(at_the_end)
    first, last = frames[0], frames[-1]
    assert last.captured_mono - first.captured_mono > (last.seq - first.seq) / 20 - 0.25
    status = capture.status()
    assert (status.captured, len(frames) + status.dropped) == (21, 21)
    assert capture.media_time(frames[-1]) == frames[-1].captured_mono


def test_a_real_clip_runs_through_frame_by_frame(begin: Begin, material: Path) -> None:
    capture = begin(VideoFile(material / "video" / "car-detection.mp4"), realtime=False)
    frames = take_all(capture)
    assert len(frames) == 377
    assert frames[0].size == (768, 432)
    assert capture.media_time(frames[-1]) - capture.media_time(frames[-2]) == pytest.approx(0.08)


def test_a_truncated_video_gives_all_its_frames_and_then_its_failure(begin: Begin, tmp_path: Path) -> None:
    path = cut(write_clip(tmp_path / "clip.avi", 60), 0.5)
    capture = begin(VideoFile(path), realtime=False)
    frames = take_all(capture)
    assert len(frames) > 25
    assert str(capture.failure) == f"{path} ended after {len(frames)} of 60 frames: truncated or damaged"
    status = capture.status()
    assert (status.state, status.reason) == ("ended", str(capture.failure))


def test_a_missing_video_has_ended_and_its_failure_says_missing(begin: Begin, tmp_path: Path) -> None:
    capture = begin(VideoFile(tmp_path / "none.mp4"))
    wait_until(lambda: capture.ended)
    assert isinstance(capture.failure, MissingSourceError)


def test_a_recording_of_a_plugin_that_crashes_ends_with_a_failure(begin: Begin) -> None:
    capture = begin(Recording(3, failure=KeyError("x")), realtime=False)
    assert len(take_all(capture)) == 3
    assert "KeyError" in str(capture.failure)


def test_broken_images_of_a_folder_are_counted(begin: Begin, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"")
    cv2.imwrite(str(tmp_path / "b.jpg"), noise(1))
    capture = begin(ImageFolder(tmp_path), realtime=False)
    assert len(take_all(capture)) == 1
    status = capture.status()
    assert (status.skipped, status.captured) == (1, 1)
    assert capture.failure is None


# A real stream


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("kind", [MjpegCamera, RtspCamera])
def test_a_stream_that_stops_and_returns_gives_its_newest_frame_again(
    begin: Begin, kind: type[MjpegCamera] | type[RtspCamera]
) -> None:
    seen: list[str] = []
    with kind(fps=30) as camera:
        capture = begin(
            StreamCamera(camera.url, timeout=2), stall_after=2, on_state=lambda _name, status: seen.append(status.state)
        )
        captured(capture, 5)
        open_before = descriptors()
        for _ in range(3):
            camera.stop()
            wait_until(lambda: capture.status().state == "down")
            capture.take()
            newest = camera.number
            camera.start()
            wait_until(lambda: capture.status().state == "up", timeout=20)
            frame = capture.take() or capture.latest()
            assert frame is not None
            assert newest < number_of(frame.pixels) <= camera.number
        status = capture.status()
        assert status.restarts >= 3
        wait_until(lambda: descriptors() <= open_before + 1)
    assert seen[:7] == ["up", "down", "up", "down", "up", "down", "up"]


def test_a_stream_that_falls_silent_is_down_while_its_reader_still_waits(begin: Begin) -> None:
    with MjpegCamera(fps=30) as camera:
        capture = begin(StreamCamera(camera.url, timeout=60), stall_after=0.5)
        captured(capture, 3)
        camera.mute.set()
        wait_until(lambda: capture.status().state == "down")
        assert capture.status().reason == "no new frame for 0.5 s"
        assert capture.status().restarts == 0
        camera.mute.clear()
        wait_until(lambda: capture.status().state == "up")
