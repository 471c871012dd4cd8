"""The snapshot plugin: the right picture in the right place, never outside its folder, never above its cap."""

from __future__ import annotations

import errno
import os
import re
import sys
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import Event, Frame, PluginError
from agent.testing import PluginHarness, make_event, make_frame
from plugins.snapshot import Snapshot
from plugins.snapshot.config import SnapshotConfig
from plugins.snapshot.drawing import annotate, ascii_text, crop
from plugins.snapshot.paths import is_leftover, is_picture, picture_paths, safe, short
from plugins.snapshot.store import Ledger, Store

NAMES = st.text(st.characters(codec=None), max_size=200)


def _harness(tmp_path: Path, **keys: Any) -> PluginHarness:
    table = {"folder": str(tmp_path / "pictures"), **keys}
    return PluginHarness(Snapshot, table, state_dir=tmp_path / "state")


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _read(path: Path) -> np.ndarray[Any, Any]:
    pixels = cv2.imread(str(path))
    assert pixels is not None
    return pixels


def test_an_event_becomes_an_annotated_picture_and_a_clean_crop(tmp_path: Path) -> None:
    event = make_event(camera="door", best_box=(100.0, 80.0, 200.0, 280.0), label="person")
    ramp = np.linspace(0, 255, 480 * 640, dtype=np.uint8).reshape(480, 640)
    frame = make_frame(640, 480).with_pixels(np.dstack([ramp, ramp[::-1], ramp]))
    with _harness(tmp_path) as harness:
        harness.send(event, frame)
        assert harness.metrics["written"] == 1
    whole, part = picture_paths(event)
    assert _files(tmp_path / "pictures") == sorted([str(whole), str(part)])
    assert re.fullmatch(r"door/\d{4}-\d\d-\d\d/\d{6}-person-[0-9a-f]{8}\.jpg", str(whole))
    annotated = _read(tmp_path / "pictures" / whole)
    assert annotated.shape == (480, 640, 3)
    assert np.abs(annotated[180, 100].astype(int) - (0, 159, 230)).max() < 90
    cut = _read(tmp_path / "pictures" / part)
    assert cut.shape == (241, 121, 3)
    difference = np.abs(cut.astype(int) - frame.pixels[60:301, 90:211].astype(int))
    assert difference.mean() < 3


def test_a_better_picture_replaces_the_first_and_an_equal_one_is_not_written(tmp_path: Path) -> None:
    event = make_event()
    with _harness(tmp_path) as harness:
        harness.send(event, make_frame(seed=1))
        (path,) = [tmp_path / "pictures" / name for name in _files(tmp_path / "pictures") if "crop" not in name]
        first = path.read_bytes()
        harness.send(msgspec.structs.replace(event, kind="update", seq=1, label="cat"), make_frame(seed=2))
        assert path.read_bytes() == first
        better = msgspec.structs.replace(event, kind="end", seq=2, best_box=(2.0, 2.0, 20.0, 20.0))
        harness.send(better, make_frame(seed=2))
        assert path.read_bytes() != first
        assert harness.metrics["written"] == 2
    assert len(_files(tmp_path / "pictures")) == 2


def test_an_event_without_pixels_writes_nothing_and_is_counted(tmp_path: Path) -> None:
    with _harness(tmp_path) as harness:
        harness.send(make_event(), None)
        assert harness.metrics["without_frame"] == 1
        assert harness.health.failed == 0
    assert _files(tmp_path / "pictures") == []


def test_a_box_without_a_pixel_gives_no_crop(tmp_path: Path) -> None:
    with _harness(tmp_path) as harness:
        harness.send(make_event(best_box=(900.0, 900.0, 950.0, 950.0)), make_frame())
    assert [name for name in _files(tmp_path / "pictures") if "crop" in name] == []


def test_a_hostile_camera_writes_nowhere_outside_the_folder(tmp_path: Path) -> None:
    with _harness(tmp_path) as harness:
        harness.send(make_event(camera="../../etc/x", label="/../..\0"), make_frame(camera="../../etc/x"))
    (picture, _) = list(tmp_path.rglob("*.jpg"))
    assert picture.is_relative_to(tmp_path / "pictures")
    assert picture.parent.parent.parent == tmp_path / "pictures"


@given(NAMES, NAMES, NAMES)
def test_no_name_leads_out_of_the_folder_or_is_not_known_again(camera: str, label: str, event_id: str) -> None:
    for path in picture_paths(make_event(camera=camera, label=label, id=event_id)):
        assert len(path.parts) == 3
        assert not path.is_absolute()
        for part in path.parts:
            assert part not in ("", ".", "..")
            assert not part.startswith(".")
            assert not set("/\\\0\n") & set(part)
            assert len(os.fsencode(f".{part}.tmp")) <= 255
        assert is_picture(path)
        assert is_leftover(path.with_name(f".{path.name}.tmp"))


@given(NAMES, NAMES)
def test_two_names_do_not_share_a_folder(one: str, other: str) -> None:
    assert (safe(one) == safe(other)) == (one == other)


def test_ordinary_names_stay_and_the_id_is_told_by_its_end() -> None:
    assert safe("Einfahrt-Süd_2.b") == "Einfahrt-Süd_2.b"
    assert safe("..") != ".."
    assert short("0197c2a4-1b2c-7def-8123-456789abcdef") == "89abcdef"
    assert not is_picture(PurePosixPath("holiday/2024-05-05/IMG_2031.jpg"))


@settings(max_examples=50)
@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 120)), max_size=60))
def test_the_ledger_keeps_its_cap_and_drops_the_oldest_first(writes: list[tuple[str, int]]) -> None:
    ledger, there = Ledger(200), dict[str, int]()
    for name, size in writes:
        victims = ledger.admit(name, size)
        there.pop(name, None)
        there[name] = size
        assert victims == list(there)[: len(victims)]
        for victim in victims:
            del there[victim]
        assert sum(there.values()) == ledger.total <= 200
        assert name in there


def test_the_folder_keeps_its_cap_and_only_pictures_are_ever_deleted(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    other = folder / "family" / "2024-05-05" / "wedding.jpg"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"x" * 200_000)
    events = [make_event(camera=f"cam{n % 3}", started_at=1.7e9 + n * 86400) for n in range(30)]
    with _harness(tmp_path, max_bytes=1 << 16) as harness:
        for n, event in enumerate(events):
            harness.send(event, make_frame(seed=n))
            pictures = [path for path in folder.rglob("*.jpg") if path != other]
            assert sum(path.stat().st_size for path in pictures) <= 1 << 16
        harness.restart()
        harness.send(make_event(), make_frame())
    assert other.exists()
    left = {path.name.removesuffix("-crop.jpg").removesuffix(".jpg") for path in pictures}
    newest = [picture_paths(event)[0].stem for event in events[-len(left) :]]
    assert left == set(newest)
    assert not any(day.is_dir() and not any(day.iterdir()) for day in folder.glob("*/*"))


def test_what_an_earlier_run_left_counts_and_what_it_left_unfinished_goes(tmp_path: Path) -> None:
    whole, _ = picture_paths(make_event())
    store = Store(tmp_path, 1 << 16)
    store.open()
    store.write(whole, b"x" * 1000)
    (tmp_path / whole).with_name(f".{whole.name}.tmp").write_bytes(b"half")
    again = Store(tmp_path, 1 << 16)
    again.open()
    assert again.total == 1000
    assert _files(tmp_path) == [str(whole)]
    smaller = Store(tmp_path, 500)
    smaller.open()
    assert (smaller.total, _files(tmp_path)) == (0, [])


def test_a_folder_that_cannot_be_written_is_named_and_tried_again(tmp_path: Path) -> None:
    (tmp_path / "pictures").write_text("a file stands where the folder should be", encoding="utf-8")
    store = Store(tmp_path / "pictures", 1 << 16)
    with pytest.raises(PluginError, match=r"pictures cannot be written.*mount it.*plugins\.snapshot\.folder") as no:
        store.open()
    assert no.value.retry_after
    (tmp_path / "pictures").unlink()
    store.open()
    with _harness(tmp_path, folder="/proc/edgewarden") as harness:
        assert "/proc/edgewarden cannot be written" in harness.health.reason
        assert harness.health.state == "backing off"


def test_a_full_disk_costs_the_picture_alone_and_heals_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = True
    write = Path.write_bytes

    def write_bytes(path: Path, content: Any) -> int:
        if full and path.suffix == ".tmp" and content:
            write(path, content[:10])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    with _harness(tmp_path) as harness:
        harness.offer(make_event(), make_frame())
        harness.wait_until(lambda: harness.health.failed == 1)
        assert "No space left on device" in harness.health.reason
        assert harness.metrics["lost"] == 1
        assert _files(tmp_path / "pictures") == []
        full = False
        harness.send(make_event(), make_frame())
    assert len(_files(tmp_path / "pictures")) == 2


def test_a_picture_that_could_not_be_replaced_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, (whole, _) = Store(tmp_path, 1 << 16), picture_paths(make_event())
    store.open()
    store.write(whole, b"first")

    def replace(*_args: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(PluginError, match="Input/output error"):
        store.write(whole, b"second")
    assert (tmp_path / whole).read_bytes() == b"first"
    assert (store.total, _files(tmp_path)) == (5, [str(whole)])


def _shown(size: tuple[int, int], box: tuple[float, float, float, float]) -> np.ndarray[Any, Any]:
    grey = np.full((size[1], size[0], 3), 90, np.uint8)
    return annotate(grey, box, "person 0.87", "cam  2024-01-01 00:00:00")


@pytest.mark.parametrize("size", [(16, 16), (160, 120), (640, 480), (1920, 1080), (3840, 2160)])
def test_every_resolution_is_drawn_on_with_letters_that_grow_with_it(size: tuple[int, int]) -> None:
    width, height = size
    drawn = _shown(size, (width * 0.4, height * 0.4, width * 0.6, height * 0.6))
    assert drawn.shape == (height, width, 3)
    plate = (drawn == (0, 159, 230)).all(axis=2)
    rows = np.flatnonzero(plate[: int(height * 0.39)].any(axis=1)) if height > 100 else np.arange(height)
    assert len(rows) >= max(9, 0.026 * min(size)) or height < 100


@settings(max_examples=40)
@given(st.tuples(*[st.floats(-1e4, 1e4)] * 4), st.text(max_size=40))
def test_any_box_and_any_text_can_be_drawn_and_cropped(box: tuple[float, float, float, float], text: str) -> None:
    pixels = np.zeros((90, 120, 3), np.uint8)
    assert annotate(pixels, box, text, text).shape == pixels.shape
    assert not pixels.any()
    cut = crop(pixels, box)
    assert cut is None or cut.size > 0


def test_text_of_other_scripts_is_drawn_as_far_as_the_font_goes() -> None:
    assert ascii_text("Müller é 猫") == "Muller e ?"


def test_a_frame_is_not_kept_after_it_was_written(tmp_path: Path) -> None:
    class Facade:
        state_dir = tmp_path

        class metrics:  # noqa: N801
            @staticmethod
            def count(*_: object) -> None: ...

            @staticmethod
            def gauge(*_: object) -> None: ...

    plugin = Snapshot()
    plugin.startup(Facade(), SnapshotConfig())  # type: ignore[arg-type]
    frame: Frame = make_frame()
    event: Event = make_event()
    references = sys.getrefcount(frame.pixels)
    plugin.on_event(event, frame)
    held = sys.getrefcount(frame.pixels)
    assert held == references
    assert len(_files(tmp_path / "pictures")) == 2
