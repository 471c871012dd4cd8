"""The snapshot plugin: the right picture in the right place, never outside its folder, never above its limits."""

from __future__ import annotations

import json
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
from plugins.snapshot.config import Keep, SnapshotConfig
from plugins.snapshot.drawing import annotate, crop
from plugins.snapshot.paths import camera_and_label, is_leftover, parts_of, safe, short, stem_of
from plugins.snapshot.shelf import CLOCK_UNSET, Shelf
from plugins.snapshot.store import NoRoomError, Store

NAMES = st.text(st.characters(codec=None), max_size=200)
SMALL = SnapshotConfig(max_bytes=1 << 16, min_free=0)


def _harness(tmp_path: Path, **keys: Any) -> PluginHarness:
    table = {"folder": str(tmp_path / "pictures"), **keys}
    return PluginHarness(Snapshot, table, state_dir=tmp_path / "state")


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _names(event: Event) -> list[str]:
    return sorted(stem_of(event) + suffix for suffix in (".jpg", "-crop.jpg", ".json"))


def _read(path: Path) -> np.ndarray[Any, Any]:
    pixels = cv2.imread(str(path))
    assert pixels is not None
    return pixels


def test_an_event_becomes_an_annotated_picture_a_clean_crop_and_a_sidecar(tmp_path: Path) -> None:
    event = make_event(camera="door", best_box=(100.0, 80.0, 200.0, 280.0), label="person", zones=("yard",))
    ramp = np.linspace(0, 255, 480 * 640, dtype=np.uint8).reshape(480, 640)
    frame = make_frame(640, 480).with_pixels(np.dstack([ramp, ramp[::-1], ramp]))
    with _harness(tmp_path) as harness:
        harness.send(event, frame)
        assert harness.metrics["written"] == 1
    folder, stem = tmp_path / "pictures", stem_of(event)
    assert _files(folder) == _names(event)
    assert re.fullmatch(r"door/\d{4}-\d\d-\d\d/\d{6}-person-[0-9a-f]{8}", stem)
    annotated = _read(folder / f"{stem}.jpg")
    assert annotated.shape == (480, 640, 3)
    assert np.abs(annotated[180, 100].astype(int) - (0, 159, 230)).max() < 90
    cut = _read(folder / f"{stem}-crop.jpg")
    assert cut.shape == (241, 121, 3)
    difference = np.abs(cut.astype(int) - frame.pixels[60:301, 90:211].astype(int))
    assert difference.mean() < 3
    sidecar = json.loads((folder / f"{stem}.json").read_bytes())
    assert sidecar["event"]["id"] == event.id
    assert sidecar["files"] == {"picture": f"{Path(stem).name}.jpg", "crop": f"{Path(stem).name}-crop.jpg"}
    assert sidecar["crop_box"] == [90, 60, 211, 301]
    assert sidecar["captured_at"] == frame.captured_at


def test_zones_are_drawn_and_the_one_that_it_is_in_is_lit(tmp_path: Path) -> None:
    frame = make_frame(640, 480).with_pixels(np.full((480, 640, 3), 90, np.uint8))
    event = make_event(zones=("yard",), best_box=(10.0, 300.0, 60.0, 400.0))
    with _harness(tmp_path) as harness:
        harness.zones["cam"] = {"yard": [(0.5, 0.1), (0.9, 0.1), (0.9, 0.4), (0.5, 0.4)]}
        harness.send(event, frame)
    drawn = _read(tmp_path / "pictures" / f"{stem_of(event)}.jpg")
    assert drawn[120, 450].mean() > 110
    assert drawn[300, 450].mean() == pytest.approx(90, abs=4)


def test_a_better_picture_replaces_the_first_and_an_equal_one_is_not_written(tmp_path: Path) -> None:
    event = make_event()
    with _harness(tmp_path) as harness:
        harness.send(event, make_frame(seed=1))
        path = tmp_path / "pictures" / f"{stem_of(event)}.jpg"
        first = path.read_bytes()
        harness.send(msgspec.structs.replace(event, kind="update", seq=1, label="cat"), make_frame(seed=2))
        assert path.read_bytes() == first
        better = msgspec.structs.replace(event, kind="end", seq=2, label="cat", best_box=(2.0, 2.0, 20.0, 20.0))
        harness.send(better, make_frame(seed=2))
        assert path.read_bytes() != first
        assert harness.metrics["written"] == 2
    assert _files(tmp_path / "pictures") == _names(event)
    assert json.loads(path.with_suffix(".json").read_bytes())["event"]["label"] == "cat"


def test_the_sidecar_knows_the_end_also_of_what_began_before_a_restart(tmp_path: Path) -> None:
    event = make_event()
    path = tmp_path / "pictures" / f"{stem_of(event)}.json"
    with _harness(tmp_path) as harness:
        harness.send(event, make_frame())
        harness.restart()
        assert json.loads(path.read_bytes())["event"]["ended_at"] is None
        harness.send(msgspec.structs.replace(event, kind="end", seq=1, ended_at=5.0))
    assert json.loads(path.read_bytes())["event"]["ended_at"] == 5.0


def test_an_event_without_pixels_writes_nothing_and_is_counted(tmp_path: Path) -> None:
    with _harness(tmp_path) as harness:
        harness.send(make_event(), None)
        assert harness.metrics["without_frame"] == 1
        assert harness.health.failed == 0
    assert _files(tmp_path / "pictures") == []


def test_a_box_without_a_pixel_gives_no_crop_and_takes_away_an_older_one(tmp_path: Path) -> None:
    event = make_event()
    with _harness(tmp_path) as harness:
        harness.send(event, make_frame())
        outside = msgspec.structs.replace(event, kind="update", seq=1, best_box=(900.0, 900.0, 950.0, 950.0))
        harness.send(outside, make_frame())
    assert [name for name in _files(tmp_path / "pictures") if "crop" in name] == []
    assert "crop" not in json.loads((tmp_path / "pictures" / f"{stem_of(event)}.json").read_bytes())["files"]


@pytest.mark.parametrize("camera", ["../../etc/x", "/etc/x", "..", "a/../../b", "~root", "cam\0era", ".hidden"])
def test_a_hostile_camera_writes_nowhere_outside_the_folder(camera: str, tmp_path: Path) -> None:
    before = set(tmp_path.rglob("*"))
    with _harness(tmp_path, clip={"before": 0, "after": 0, "fps": 20}) as harness:
        harness.frames[camera] = make_frame(camera=camera)
        event = make_event(camera=camera, label="/../..\0")
        harness.send(event, make_frame(camera=camera))
        harness.send(msgspec.structs.replace(event, kind="end", seq=1), make_frame(camera=camera))
    new = [path for path in set(tmp_path.rglob("*")) - before if path.is_file()]
    pictures = [path for path in new if path.suffix in (".jpg", ".json") and "state" not in path.parts]
    assert len(pictures) == 3
    for picture in pictures:
        assert picture.resolve().parent.parent.parent == (tmp_path / "pictures").resolve()
    assert all(path.is_relative_to(tmp_path / "pictures") or path.is_relative_to(tmp_path / "state") for path in new)


@given(NAMES, NAMES, NAMES)
def test_no_name_leads_out_of_the_folder_or_is_not_known_again(camera: str, label: str, event_id: str) -> None:
    stem = stem_of(make_event(camera=camera, label=label, id=event_id))
    assert camera_and_label(stem) == (safe(camera), safe(label))
    for suffix in (".jpg", "-crop.jpg", ".json", ".mp4", ".webm", ".avi"):
        path = PurePosixPath(stem + suffix)
        assert len(path.parts) == 3
        assert not path.is_absolute()
        for part in path.parts:
            assert part not in ("", ".", "..")
            assert not part.startswith(".")
            assert not set("/\\\0\n") & set(part)
            assert len(os.fsencode(f".{part}.tmp")) <= 255
        assert parts_of(path) is not None
        assert is_leftover(path.with_name(f".{path.name}.tmp"))
        assert is_leftover(path.with_name(f".{PurePosixPath(stem).name}.tmp{suffix}")) or "crop" in suffix


def test_a_files_name_tells_its_event_and_what_it_is() -> None:
    assert parts_of(PurePosixPath("c/2024-05-05/101010-a-crop-12345678-crop.jpg")) == (
        "c/2024-05-05/101010-a-crop-12345678",
        "-crop.jpg",
    )
    assert parts_of(PurePosixPath("holiday/2024-05-05/IMG_2031.jpg")) is None
    assert parts_of(PurePosixPath("c/2024-05-05/101010-a-12345678.txt")) is None


@given(NAMES, NAMES)
def test_two_names_do_not_share_a_folder(one: str, other: str) -> None:
    assert (safe(one) == safe(other)) == (one == other)


def test_ordinary_names_stay_and_the_id_is_told_by_its_end() -> None:
    assert safe("Einfahrt-Süd_2.b") == "Einfahrt-Süd_2.b"
    assert safe("..") != ".."
    assert short("0197c2a4-1b2c-7def-8123-456789abcdef") == "89abcdef"


def _stem(number: int, camera: str = "cam", label: str = "car") -> str:
    return f"{camera}/2024-05-05/{number:06}-{label}-abcd{number:04}"


LIMITS = (Keep(max_bytes=200, max_count=6), Keep(camera="gate", max_bytes=60), Keep(label="cat", max_count=2))
WRITE = st.tuples(
    st.integers(0, 30),
    st.sampled_from(["cam", "gate"]),
    st.sampled_from(["car", "cat"]),
    st.sampled_from([".jpg", "-crop.jpg"]),
    st.integers(0, 120),
    st.booleans(),
)


@settings(max_examples=150)
@given(st.lists(WRITE, max_size=60))
def test_every_limit_holds_the_oldest_go_first_and_what_is_held_stays(
    writes: list[tuple[int, str, str, str, int, bool]],
) -> None:
    shelf, there, held = Shelf(LIMITS), dict[str, dict[str, int]](), set[str]()
    for number, camera, label, suffix, size, hold in writes:
        stem = _stem(number, camera, label)
        victims = list(shelf.crowded_out(stem, suffix, size, held) or ()) if shelf.fits(stem, size) else None
        refused = victims is None or shelf.crowded_out(stem, suffix, size, held) is None
        if refused:
            continue
        assert victims is not None
        assert not set(victims) & held
        for victim in victims:
            older = list(there)[: list(there).index(victim)]
            alike = [other for other in older if _same_limits(other, victim)]
            assert all(other in victims or other in held or other == stem for other in alike)
            shelf.drop(victim)
            del there[victim]
        shelf.put(stem, suffix, size, 0.0)
        there.setdefault(stem, {})[suffix] = size
        held = (held | {stem}) if hold else (held - {stem})
        _check_limits(there)
        assert shelf.total == sum(sum(files.values()) for files in there.values())


def _same_limits(one: str, other: str) -> bool:
    return camera_and_label(one) == camera_and_label(other)


def _check_limits(there: dict[str, dict[str, int]]) -> None:
    sizes = {stem: sum(files.values()) for stem, files in there.items()}
    assert sum(sizes.values()) <= 200
    assert len(sizes) <= 6
    assert sum(size for stem, size in sizes.items() if camera_and_label(stem)[0] == "gate") <= 60
    assert sum(1 for stem in sizes if camera_and_label(stem)[1] == "cat") <= 2


def test_what_is_too_old_goes_unless_it_is_held_or_its_clock_was_never_set() -> None:
    shelf = Shelf([Keep(max_age=100.0), Keep(label="cat", max_age=10.0)])
    start = CLOCK_UNSET + 1e8
    for number, (label, at) in enumerate([("car", start), ("car", start + 50), ("cat", start + 50), ("car", 5.0)]):
        shelf.put(_stem(number, label=label), ".jpg", 1, at)
    assert shelf.outlived(start + 70, ()) == [_stem(2, label="cat")]
    assert shelf.outlived(start + 101, ()) == [_stem(0), _stem(2, label="cat")]
    assert shelf.outlived(start + 101, {_stem(0)}) == [_stem(2, label="cat")]
    assert shelf.outlived(7.0, ()) == []


def test_the_folder_keeps_its_cap_and_only_our_files_are_ever_deleted(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    other = folder / "family" / "2024-05-05" / "wedding.jpg"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"x" * 200_000)
    events = [make_event(camera=f"cam{n % 3}", started_at=1.7e9 + n * 86400) for n in range(30)]
    with _harness(tmp_path, max_bytes=1 << 16) as harness:
        for n, event in enumerate(events):
            harness.send(event, make_frame(seed=n))
            harness.send(msgspec.structs.replace(event, kind="end", seq=1))
            ours = [path for path in folder.rglob("*.j*") if path != other]
            assert sum(path.stat().st_size for path in ours) <= 1 << 16
        harness.restart()
        last = make_event()
        harness.send(last, make_frame())
    assert other.exists()
    left = {name.split(".")[0].removesuffix("-crop") for name in _files(folder) if "family" not in name}
    newest = [stem_of(event) for event in [*events, last][-len(left) :]]
    assert left == set(newest)
    assert not any(day.is_dir() and not any(day.iterdir()) for day in folder.glob("*/*"))


def test_limits_of_a_camera_and_of_a_label_leave_the_others_alone(tmp_path: Path) -> None:
    keep = [{"camera": "street", "max_count": 2}, {"label": "cat", "max_count": 1}]
    events = [
        make_event(id=f"{n:08}", camera=camera, label=label)
        for n, (camera, label) in enumerate([("street", "car")] * 4 + [("door", "cat")] * 3 + [("door", "person")] * 3)
    ]
    with _harness(tmp_path, keep=keep) as harness:
        for event in events:
            harness.send(event, make_frame())
            harness.send(msgspec.structs.replace(event, kind="end", seq=1))
    kept = {name.split(".")[0] for name in _files(tmp_path / "pictures") if name.endswith(".json")}
    assert kept == {stem_of(events[n]) for n in (2, 3, 6, 7, 8, 9)}


def test_what_an_open_event_refers_to_is_never_deleted(tmp_path: Path) -> None:
    lasting = make_event(id="lasting-0")
    with _harness(tmp_path, max_count=2) as harness:
        harness.send(lasting, make_frame())
        for n in range(4):
            short_one = make_event(id=f"{n:08}")
            harness.send(short_one, make_frame())
            harness.send(msgspec.structs.replace(short_one, kind="end", seq=1))
        assert set(_names(lasting)) <= set(_files(tmp_path / "pictures"))
        also = make_event(id="lasting-1")
        harness.send(also, make_frame())
        harness.send(make_event(id="too-many"), make_frame())
        assert harness.health.state == "degraded"
        assert "belongs to events that last" in harness.health.reason
        assert set(_files(tmp_path / "pictures")) == {*_names(lasting), *_names(also)}
        harness.send(msgspec.structs.replace(lasting, kind="end", seq=1))
        harness.send(make_event(id="00000009"), make_frame())
        assert not set(_names(lasting)) & set(_files(tmp_path / "pictures"))
        assert harness.health.state == "running"


def test_what_an_earlier_run_left_counts_and_what_it_left_unfinished_goes(tmp_path: Path) -> None:
    stem = stem_of(make_event())
    store = Store(tmp_path, SMALL)
    store.open()
    store.write(stem, ".jpg", b"x" * 1000)
    for name in (".tmp", ".jpg.tmp", ".tmp.mp4"):
        (tmp_path / stem).with_name(f".{Path(stem).name}{name}").write_bytes(b"half")
    again = Store(tmp_path, SMALL)
    again.open()
    assert again.total == 1000
    assert _files(tmp_path) == [f"{stem}.jpg"]
    (tmp_path / f"{stem}-crop.jpg").write_bytes(b"x" * 65_000)
    smaller = Store(tmp_path, SMALL)
    smaller.open()
    assert smaller.total <= 1 << 16
    assert len(_files(tmp_path)) == 1


def test_a_folder_that_cannot_be_written_is_named_and_tried_again(tmp_path: Path) -> None:
    (tmp_path / "pictures").write_text("a file stands where the folder should be", encoding="utf-8")
    store = Store(tmp_path / "pictures", SMALL)
    with pytest.raises(PluginError, match=r"pictures cannot be written.*mount it.*plugins\.snapshot\.folder") as no:
        store.open()
    assert no.value.retry_after
    (tmp_path / "pictures").unlink()
    store.open()
    with _harness(tmp_path, folder="/proc/edgewarden") as harness:
        assert "/proc/edgewarden cannot be written" in harness.health.reason
        assert harness.health.state == "backing off"


def test_a_file_that_could_not_be_replaced_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, stem = Store(tmp_path, SMALL), stem_of(make_event())
    store.open()
    store.write(stem, ".jpg", b"first")

    def replace(*_args: Any) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(NoRoomError, match="Input/output error"):
        store.write(stem, ".jpg", b"second")
    assert (tmp_path / f"{stem}.jpg").read_bytes() == b"first"
    assert (store.total, _files(tmp_path)) == (5, [f"{stem}.jpg"])


@pytest.mark.parametrize("size", [(16, 16), (160, 120), (640, 480), (1920, 1080)])
def test_every_resolution_is_drawn_on(size: tuple[int, int]) -> None:
    width, height = size
    grey = np.full((height, width, 3), 90, np.uint8)
    drawn = annotate(grey, (width * 0.4, height * 0.4, width * 0.6, height * 0.6), "person", ("cam", "2024"))
    assert drawn.shape == (height, width, 3)
    assert (drawn != grey).any()


@settings(max_examples=40)
@given(st.tuples(*[st.floats(-1e4, 1e4)] * 4), st.text(max_size=40))
def test_any_box_and_any_text_can_be_drawn_and_cropped(box: tuple[float, float, float, float], text: str) -> None:
    pixels = np.zeros((90, 120, 3), np.uint8)
    assert annotate(pixels, box, text, (text, text)).shape == pixels.shape
    assert not pixels.any()
    cut = crop(pixels, box)
    assert cut is None or cut.size > 0


def test_a_frame_is_not_kept_after_it_was_written(tmp_path: Path) -> None:
    class Facade:
        state_dir = tmp_path

        class metrics:  # noqa: N801
            @staticmethod
            def count(*_: object) -> None: ...

            @staticmethod
            def gauge(*_: object) -> None: ...

        @staticmethod
        def zones(_camera: str) -> dict[str, Any]:
            return {}

        @staticmethod
        def trouble(_reason: str) -> None: ...

    plugin = Snapshot()
    plugin.startup(Facade(), SnapshotConfig())  # type: ignore[arg-type]
    frame: Frame = make_frame()
    event: Event = make_event()
    references = sys.getrefcount(frame.pixels)
    plugin.on_event(event, frame)
    held = sys.getrefcount(frame.pixels)
    assert held == references
    assert len(_files(tmp_path / "pictures")) == 3
