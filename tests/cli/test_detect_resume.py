"""`edgewarden detect` interrupted: what it leaves in the end is what it would have left otherwise, byte for byte."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from daemon import edgewarden
from waiting import wait_until

from agent.detection.batch import Batch, Read, batches
from agent.detection.batch_items import expand
from agent.detection.batch_journal import NAME
from agent.errors import MissingSourceError
from agent.sources.base import Picture

FORMATS = "jsonl,coco,annotated"


def start(pictures: Path, out: Path, *words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "agent", "detect", str(pictures), "--out", str(out), "--format", FORMATS, *words]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def done(out: Path) -> int:
    """How many items the journal knows as done."""
    try:
        lines = (out / NAME).read_bytes().split(b"\n")[1:-1]
    except FileNotFoundError:
        return 0
    return int(json.loads(lines[-1])["done"]) if lines else 0


def kill_after(pictures: Path, out: Path, items: int, how: signal.Signals = signal.SIGKILL, *words: str) -> str:
    """Start, wait until so many items are done, and end it; what it said."""
    process = start(pictures, out, *words)
    wait_until(lambda: done(out) >= items or process.poll() is not None, 60, f"{items} items are done")
    process.send_signal(how)
    _, said = process.communicate(timeout=30)
    assert process.returncode != 0
    return said.decode()


def files(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def differing(one: Path, other: Path) -> list[str]:
    """Names of the files that only one has, or that are not the same byte for byte."""
    ours, theirs = files(one), files(other)
    return sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))


@pytest.fixture(scope="module")
def thousand(material: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A thousand pictures: the 64 of the material again and again, under names of their own; one is no picture."""
    folder = tmp_path_factory.mktemp("thousand")
    photos = sorted((material / "images" / "coco" / "val").glob("*.jpg"))
    for number in range(999):
        (folder / f"{number:04d}.jpg").write_bytes(photos[number % len(photos)].read_bytes())
    (folder / "0500-broken.jpg").write_bytes(b"no picture")
    return folder


def test_a_thousand_pictures_killed_three_times_end_as_if_never_interrupted(thousand: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert start(thousand, whole, "--batch", "4").wait(240) == 1, "one picture is broken"
    for items in (100, 300, 600):
        kill_after(thousand, parts, items, signal.SIGKILL, "--batch", "4")
    before = done(parts)
    finished = edgewarden("detect", thousand, "--out", parts, "--format", FORMATS, "--json")
    assert finished.returncode == 1, "the broken picture is remembered"
    summary = json.loads(finished.stdout)
    assert (summary["pictures"], len(summary["errors"]), summary["batch"]) == (999, 1, 4)
    assert f"going on with an interrupted job: {before} item(s) are done" in finished.stderr
    assert differing(parts, whole) == []
    assert len(files(whole)) == 999 + 2


@pytest.fixture
def hundreds(thousand: Path, tmp_path: Path) -> Path:
    """The first three hundred of them."""
    folder = tmp_path / "hundreds"
    folder.mkdir()
    for path in sorted(thousand.iterdir())[:300]:
        (folder / path.name).hardlink_to(path)
    return folder


@pytest.fixture
def endless(thousand: Path, tmp_path: Path) -> Path:
    """Ten thousand of them, a minute's work: whoever ends this job ends it in its middle, however late he comes."""
    folder = tmp_path / "endless"
    folder.mkdir()
    photos = sorted(thousand.iterdir())[:250]
    for number in range(10_000):
        (folder / f"{number:05d}.jpg").hardlink_to(photos[number % len(photos)])
    return folder


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """Sixty small pictures and a clip."""
    folder = tmp_path / "few"
    folder.mkdir()
    rng = np.random.default_rng(3)
    for number in range(60):
        cv2.imwrite(str(folder / f"{number:02d}.png"), rng.integers(0, 255, (240, 320, 3), dtype=np.uint8))
    return folder


def test_ctrl_c_ends_it_cleanly_and_says_how_to_go_on(endless: Path, tmp_path: Path) -> None:
    said = kill_after(endless, tmp_path / "out", 1, signal.SIGINT)
    assert said.splitlines()[-1] == "edgewarden: interrupted; the same command goes on where this one was"
    assert done(tmp_path / "out") >= 1
    assert not (tmp_path / "out" / "detections.jsonl").exists(), "half a result has no name"


def test_another_job_in_the_same_folder_is_refused_by_what_differs(endless: Path, few: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    kill_after(endless, out, 20)
    refused = edgewarden("detect", endless, "--out", out, "--score", "0.7", "--format", FORMATS)
    assert refused.returncode == 1
    assert "a job with other score (0.4 then, 0.7 now) was interrupted here" in refused.stderr
    assert "--restart to begin anew" in refused.stderr
    refused = edgewarden("detect", endless, "--out", out, "--format", FORMATS, "--batch", "77")
    assert "was interrupted here, not 77; leave --batch out to finish it" in refused.stderr
    refused = edgewarden("detect", few, "--out", out, "--format", FORMATS)
    assert "a job with other pictures was interrupted here" in refused.stderr
    anew = edgewarden("detect", few, "--out", out, "--format", "jsonl", "--restart")
    assert anew.returncode == 0
    assert len((out / "detections.jsonl").read_text().splitlines()) == 60
    assert not (out / NAME).exists()


def test_a_changed_picture_is_another_job(few: Path, tmp_path: Path, endless: Path) -> None:
    out = tmp_path / "out"
    kill_after(endless, out, 20)
    one = endless / "09998.jpg"
    status = one.stat()
    os.utime(one, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    refused = edgewarden("detect", endless, "--out", out, "--format", FORMATS)
    assert "a job with other pictures was interrupted here" in refused.stderr


def test_a_damaged_journal_is_named(few: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / NAME).write_bytes(b"rubbish\n")
    refused = edgewarden("detect", few, "--out", out)
    assert refused.returncode == 1
    assert "damaged; --restart begins anew" in refused.stderr


def test_results_shorter_than_the_journal_says_are_made_again_from_where_they_are_whole(
    hundreds: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    kill_after(hundreds, out, 20)
    part = out / "detections.jsonl.part"
    os.truncate(part, part.stat().st_size // 2)
    assert edgewarden("detect", hundreds, "--out", out, "--format", FORMATS).returncode == 0
    lines = (out / "detections.jsonl").read_bytes().splitlines()
    assert [json.loads(line)["file_name"] for line in lines] == sorted(path.name for path in hundreds.iterdir())


def test_results_below_the_source_are_no_sources(few: Path) -> None:
    out = few / "out"
    for _ in range(2):
        done = edgewarden("detect", few, "-r", "--out", out, "--format", "annotated", "--json")
        assert json.loads(done.stdout)["pictures"] == 60


def test_a_full_disk_is_told_and_the_job_goes_on_when_there_is_room(few: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "none", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no file system of our own here: {mounted.stderr.decode().strip()}")
    try:
        full = edgewarden("detect", few, "--out", disk / "out", "--format", FORMATS)
        assert full.returncode == 1
        assert "No space left on device; make room and give the same command again" in full.stderr
        assert len(full.stderr.splitlines()) <= 3
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        assert edgewarden("detect", few, "--out", disk / "out", "--format", FORMATS).returncode == 0
        assert edgewarden("detect", few, "--out", tmp_path / "whole", "--format", FORMATS).returncode == 0
        assert differing(disk / "out", tmp_path / "whole") == []
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_clip_is_one_item_and_is_done_again_from_its_start(material: Path, tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    for name in ("classroom.mjpg.avi", "rf_example_video.mp4"):
        (folder / name).write_bytes((material / "video" / name).read_bytes())
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert start(folder, whole).wait(120) == 0
    kill_after(folder, parts, 1)
    assert edgewarden("detect", folder, "--out", parts, "--format", FORMATS).returncode == 0
    assert differing(parts, whole) == []


def test_globs_and_folders_below_are_looked_into_and_names_that_are_alike_stay_apart(few: Path) -> None:
    below = few / "more"
    below.mkdir()
    (below / "00.png").write_bytes((few / "00.png").read_bytes())
    assert len(expand([str(few)])) == 60
    found = expand([str(few)], recursive=True)
    assert len(found) == 61
    assert {item.stem for item in found} >= {"00", "00-2"}
    assert [item.name for item in expand([f"{few}/0*.png"])] == [f"{number:02d}.png" for number in range(10)]
    assert len(expand([f"{few}/**/00.png"])) == 2
    with pytest.raises(MissingSourceError, match="no images or clips match"):
        expand([f"{few}/*.jpg"])


def test_results_may_stand_beside_the_pictures_that_they_are_of(few: Path) -> None:
    for _ in range(2):
        beside = edgewarden("detect", few, "--out", few, "--format", "jsonl,annotated", "--json")
        assert (beside.returncode, json.loads(beside.stdout)["pictures"]) == (0, 60)
    refused = edgewarden("detect", few / "annotated", "--out", few)
    assert (refused.returncode, "give another --out" in refused.stderr) == (69, True)


def test_a_running_job_cannot_be_disturbed_by_another_one_even_with_restart(endless: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    running = start(endless, out)
    try:
        wait_until(lambda: done(out) >= 20, 60, "it is at work")
        refused = edgewarden("detect", endless, "--out", out, "--restart")
        assert "another detect writes here" in refused.stderr
        assert done(out) >= 20
    finally:
        running.kill()
        running.communicate(timeout=30)


def test_a_job_that_failed_before_it_did_anything_does_not_stand_in_the_way(few: Path, tmp_path: Path) -> None:
    (tmp_path / "gt.json").write_text("no json")
    arguments: list[str | Path] = ["detect", few, "--out", tmp_path / "out", "--format", "coco"]
    failed = edgewarden(*arguments, "--annotations", tmp_path / "gt.json")
    assert "not a COCO annotations file" in failed.stderr
    assert edgewarden(*arguments).returncode == 0


def test_a_result_that_cannot_get_its_name_is_told_in_one_line_and_kept(few: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "detections.jsonl").mkdir(parents=True)
    failed = edgewarden("detect", few, "--out", out)
    assert failed.returncode == 1
    assert "cannot be written: Is a directory; mend that and give the same command again" in failed.stderr
    (out / "detections.jsonl").rmdir()
    again = edgewarden("detect", few, "--out", out)
    assert "60 item(s) are done" in again.stderr
    assert len((out / "detections.jsonl").read_text().splitlines()) == 60


def test_on_a_terminal_a_bar_shows_the_rate(few: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "agent", "detect", str(few), "--out", str(tmp_path / "out")]
    drawing = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs, env=drawing) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                shown += os.read(ours, 65536)
            except OSError:  # the other side of the terminal is closed
                break
    os.close(ours)
    assert process.returncode == 0
    assert b"60/60" in shown
    assert b" a second" in shown


def reads(kinds: str) -> list[Read]:
    """``p`` a picture, ``x`` one that cannot be read, ``v`` a clip of five."""
    picture = Picture(np.zeros((1, 1, 3), np.uint8))
    told: list[Read] = []
    for item, kind in enumerate(kinds):
        if kind == "v":
            told += [Read(item, number, picture, last=False) for number in range(5)] + [Read(item, 5, None)]
        else:
            told.append(Read(item, 0, picture) if kind == "p" else Read(item, 0, None, "broken"))
    return told


def formed(kinds: str, size: int, first: int = 0, most: int = 1 << 20) -> list[Batch]:
    told = [read for read in reads(kinds) if read.item >= first]
    return list(batches(iter(told), size, lambda item: kinds[item] == "v", most))


def numbers(some: list[Batch]) -> list[object]:
    return [([read[:2] for read in one.reads], [read[:2] for read in one.failed], one.done) for one in some]


@pytest.mark.parametrize("kinds", ["ppppppp", "pxpppxxpp", "ppvpp", "vv", "xx", "pvxvp", ""])
@pytest.mark.parametrize(("size", "most"), [(1, 1 << 20), (2, 1 << 20), (4, 1 << 20), (4, 9)])
def test_batches_are_the_same_from_wherever_the_job_goes_on(kinds: str, size: int, most: int) -> None:
    whole = formed(kinds, size, 0, most)
    assert [read[:2] for batch in whole for read in batch.reads] == [read[:2] for read in reads(kinds) if read.picture]
    assert all(len(batch.reads) <= min(size, most // 3) for batch in whole)  # a picture has three bytes
    for place, batch in enumerate(whole):
        if batch.done is not None:
            assert numbers(formed(kinds, size, batch.done, most)) == numbers(whole[place + 1 :])
    if whole:
        assert whole[-1].done == len(kinds)


def test_a_folder_that_is_empty_says_where_else_to_look(tmp_path: Path) -> None:
    with pytest.raises(MissingSourceError, match="--recursive looks into those below it"):
        expand([str(tmp_path)])
