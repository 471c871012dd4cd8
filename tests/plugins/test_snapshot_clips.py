"""Clips: the seconds before an event come from memory, within its budget, and are written off everybody's way."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from waiting import wait_until

from agent import Event, Frame, Health
from agent.data import CameraHealth
from agent.testing import NODE, PluginHarness, make_event
from plugins.snapshot import Snapshot
from plugins.snapshot.clips import CutShortError, encode, encode_clip
from plugins.snapshot.paths import stem_of
from plugins.snapshot.ring import Ring, Shot
from plugins.snapshot.store import NoRoomError

HEALTH = Health(node=NODE, at=0.0, cameras={"cam": CameraHealth(state="up")})


def _picture(number: int, width: int = 320, height: int = 240) -> Frame:
    """One whose grey tells its number."""
    pixels = np.full((height, width, 3), number * 5 % 250, np.uint8)
    return Frame("cam", number, pixels, time.time(), time.monotonic())


@contextmanager
def _filming(harness: PluginHarness) -> Iterator[list[Frame]]:
    """A camera of 40 pictures a second."""
    stop, taken = threading.Event(), list[Frame]()

    def film() -> None:
        while not stop.wait(0.025):
            taken.append(_picture(len(taken)))
            harness.frames["cam"] = taken[-1]

    thread = threading.Thread(target=film, daemon=True)
    thread.start()
    yield taken
    stop.set()
    thread.join(5)


def _harness(tmp_path: Path, **clip: Any) -> PluginHarness:
    table = {"folder": str(tmp_path / "pictures"), "clip": {"fps": 20, "before": 0.5, "after": 0.3, **clip}}
    return PluginHarness(Snapshot, table, state_dir=tmp_path / "state")


def _read(path: Path) -> list[np.ndarray[Any, Any]]:
    video, pictures = cv2.VideoCapture(str(path)), []
    while (frame := video.read())[0]:
        pictures.append(frame[1])
    return pictures


def _over(event: Event) -> Event:
    now = time.time()
    return msgspec.structs.replace(event, kind="end", seq=1, ended_at=now, updated_at=now)


@pytest.mark.parametrize("form", ["mp4", "webm", "avi"])
def test_a_clip_has_the_seconds_before_and_after_and_its_sidecar_tells_of_it(form: str, tmp_path: Path) -> None:
    with _harness(tmp_path, format=form) as harness, _filming(harness) as taken:
        harness.health_tick(HEALTH)
        wait_until(lambda: len(taken) > 30)
        event = make_event(started_at=time.time())
        harness.send(event, taken[-1])
        start = len(taken)
        wait_until(lambda: len(taken) > start + 20)
        end = _over(event)
        harness.send(end, taken[-1])
        path = tmp_path / "pictures" / f"{stem_of(event)}.{form}"
        wait_until(lambda: harness.metrics.get("clips_written"), timeout=30)
        wait_until(lambda: "clip" in json.loads(path.with_suffix(".json").read_bytes())["files"])
    sidecar = json.loads(path.with_suffix(".json").read_bytes())
    assert sidecar["files"]["clip"] == path.name
    about = sidecar["clip"]
    assert about["whole"] is True
    assert event.started_at - 0.5 <= about["from"] <= event.started_at - 0.2
    assert end.ended_at is not None
    assert end.ended_at <= about["to"] <= end.ended_at + 0.3
    pictures = _read(path)
    assert len(pictures) == about["pictures"] >= 10
    assert pictures[0].shape == (240, 320, 3)
    fps = cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FPS)
    assert len(pictures) / fps == pytest.approx(about["to"] - about["from"], rel=0.2)
    assert not list((tmp_path / "pictures").rglob(".*"))


def test_only_the_cameras_and_labels_that_are_asked_for_are_clipped_and_nothing_late(tmp_path: Path) -> None:
    with _harness(tmp_path, labels=["person"], cameras=["cam"]) as harness, _filming(harness) as taken:
        wait_until(lambda: len(taken) > 5)
        events = [make_event(label="cat"), make_event(camera="gate"), make_event(late=True), make_event()]
        for event in events:
            harness.send(event, taken[-1])
            harness.send(_over(event), taken[-1])
        wait_until(lambda: harness.metrics.get("clips_written"), timeout=30)
    assert [path.stem for path in (tmp_path / "pictures").rglob("*.mp4")] == [Path(stem_of(events[3])).name]


def test_a_clip_that_is_being_taken_at_the_end_is_cut_there_and_kept(tmp_path: Path) -> None:
    with _harness(tmp_path, after=60.0) as harness, _filming(harness) as taken:
        harness.health_tick(HEALTH)
        wait_until(lambda: len(taken) > 20)
        event = make_event(started_at=time.time())
        harness.send(event, taken[-1])
        before = len(taken)
        wait_until(lambda: len(taken) > before + 20)
    assert len(_read(tmp_path / "pictures" / f"{stem_of(event)}.mp4")) > 5


def test_a_clip_for_which_no_time_is_left_is_left_out_and_no_thread_stays_in_the_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plugins.snapshot.clips.CLOSE_TIMEOUT", 0.0)
    with _harness(tmp_path, after=60.0) as harness, _filming(harness) as taken:
        harness.health_tick(HEALTH)
        wait_until(lambda: len(taken) > 20)
        harness.send(make_event(started_at=time.time()), taken[-1])
        before = len(taken)
        wait_until(lambda: len(taken) > before + 20)
    # A thread that is in OpenCV when the interpreter ends aborts the process.
    assert not [thread for thread in threading.enumerate() if thread.name == "snapshot-clip"]
    assert not list((tmp_path / "pictures").rglob("*.part*"))


def test_writing_a_clip_ends_between_two_pictures_when_it_is_enough(tmp_path: Path) -> None:
    asked: list[int] = []

    def enough() -> bool:
        asked.append(1)
        return len(asked) > 2

    jpegs = [encode(_picture(number).pixels, 320) for number in range(5)]
    with pytest.raises(CutShortError):
        encode_clip(tmp_path / "clip.mp4", jpegs, 10.0, "mp4v", enough)
    assert len(asked) == 3


def test_an_event_that_lasts_gives_a_clip_of_the_longest_length(tmp_path: Path) -> None:
    with _harness(tmp_path, longest=0.5) as harness, _filming(harness) as taken:
        harness.health_tick(HEALTH)
        wait_until(lambda: len(taken) > 20)
        event = make_event(started_at=time.time())
        harness.send(event, taken[-1])
        wait_until(lambda: harness.metrics.get("clips_written"), timeout=30)
        path = tmp_path / "pictures" / f"{stem_of(event)}.json"
        wait_until(lambda: "clip" in json.loads(path.read_bytes())["files"])
        about = json.loads(path.read_bytes())["clip"]
        assert about["to"] <= event.started_at + 0.5
        harness.send(_over(event), taken[-1])
        assert json.loads(path.read_bytes())["clip"] == about


def test_memory_stays_within_its_budget_and_a_clip_says_when_it_did_not_suffice(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8)
    with _harness(tmp_path, memory=1 << 20, before=30.0, fps=60) as harness:
        harness.health_tick(HEALTH)
        shown, most = 0, 0.0

        def let_go() -> bool:
            nonlocal shown, most
            shown += 1
            pixels = noise // (1 + shown % 3)  # of several sizes, so that it shows when some had to go
            harness.frames["cam"] = Frame("cam", shown, pixels, time.time(), time.monotonic())
            held = harness.metrics.get("clip_bytes", 0.0)
            assert held <= 1 << 20
            most = max(held, most)
            return shown > 60 and most > 700_000 and held < most

        wait_until(let_go, timeout=30)
        event = make_event(started_at=time.time())
        harness.send(event, harness.frames["cam"])
        most = 0.0
        wait_until(let_go, timeout=30)
        harness.send(_over(event), harness.frames["cam"])
        path = tmp_path / "pictures" / f"{stem_of(event)}.json"
        wait_until(lambda: b'"whole":false' in path.read_bytes(), timeout=30)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 60), st.floats(0, 5)), max_size=60), st.floats(0, 20))
def test_the_ring_keeps_what_is_needed_in_order_and_never_more_than_its_budget(
    shots: list[tuple[str, int, float]], keep: float
) -> None:
    ring, now, added = Ring(100), 0.0, dict[str, list[Shot]]()
    for camera, size, pause in shots:
        now += pause
        shot = Shot(now, b"x" * size)
        ring.add(camera, shot, now - keep)
        added.setdefault(camera, []).append(shot)
        assert ring.total <= 100
    kept = {camera: ring.between(camera, 0.0, now) for camera in added}
    assert ring.total == sum(len(shot.jpeg) for shots_of in kept.values() for shot in shots_of)
    for camera, shots_of in kept.items():
        wanted = added[camera]
        assert shots_of == wanted[len(wanted) - len(shots_of) :]
        missing = wanted[: len(wanted) - len(shots_of)]
        if missing and ring.is_whole(camera, missing[-1].at):
            assert missing[-1].at < wanted[-1].at - keep


@pytest.mark.parametrize(
    ("size", "width", "wanted"),
    [
        ((1920, 1080), 960, (540, 960)),
        ((321, 241), 960, (240, 320)),
        ((3, 3), 64, (2, 2)),
        ((101, 3001), 64, (1902, 64)),
    ],
)
def test_pictures_are_made_small_with_even_sides(size: tuple[int, int], width: int, wanted: tuple[int, int]) -> None:
    data = encode(np.zeros((size[1], size[0], 3), np.uint8), width)
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    assert pixels.shape[:2] == wanted


def test_a_clip_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    data = encode(np.zeros((48, 64, 3), np.uint8), 64)
    with pytest.raises(NoRoomError):
        encode_clip(tmp_path / "nowhere" / "x.mp4", [data, data], 5.0, "mp4v")
    with pytest.raises(NoRoomError):
        encode_clip(Path("/dev/full"), [data, data], 5.0, "mp4v")
