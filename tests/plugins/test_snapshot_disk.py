"""A disk that is full: a real one of 4 MB. Pictures stop, events do not, health says so, and it heals by itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from daemon import Daemon, write_config
from waiting import wait_until

from agent.testing import PluginHarness, make_event, make_frame
from plugins.snapshot import Snapshot
from plugins.snapshot.config import SnapshotConfig
from plugins.snapshot.store import NoRoomError, Store

SIZE = 4 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 4 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("a tmpfs of 4 MB needs root and mount")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def _harness(disk: Path, tmp_path: Path, **keys: Any) -> PluginHarness:
    table = {"folder": str(disk / "pictures"), **keys}
    return PluginHarness(Snapshot, table, state_dir=tmp_path / "state")


def _free(disk: Path) -> int:
    return shutil.disk_usage(disk).free


def _over(event: Any) -> Any:
    return msgspec.structs.replace(event, kind="end", seq=1)


def _pictures(disk: Path) -> list[Path]:
    return sorted(disk.rglob("*-????????.jpg"), key=lambda path: path.stat().st_mtime_ns)


def test_snapshots_fill_it_and_from_then_on_the_oldest_go_while_the_reserve_stays(disk: Path, tmp_path: Path) -> None:
    with _harness(disk, tmp_path) as harness:
        for n in range(60):
            event = make_event(id=f"{n:08}")
            harness.send(event, make_frame(320, 240, seed=n))
            harness.send(_over(event))
            assert _free(disk) >= SIZE // 20 - (64 << 10)
        assert harness.metrics["written"] == 60
        assert harness.health.state == "running"
    kept = [path.stem[-8:] for path in _pictures(disk)]
    assert 10 < len(kept) < 60
    assert kept == [f"{n:08}" for n in range(60 - len(kept), 60)]


def test_filled_by_somebody_else_it_stops_pictures_alone_says_so_and_heals(disk: Path, tmp_path: Path) -> None:
    foreign = disk / "core.dump"
    with _harness(disk, tmp_path) as harness:
        before = make_event(id="before00")
        harness.send(before, make_frame(320, 240))
        harness.send(_over(before))
        foreign.write_bytes(b"\0" * (_free(disk) - 4096))
        for n in range(20):
            harness.send(make_event(id=f"{n:08}"), make_frame(320, 240, seed=n))
        assert harness.health.handled == 22
        assert harness.health.failed == 0
        assert harness.health.state == "degraded"
        assert "min_free" in harness.health.reason
        assert "free space there" in harness.health.reason
        assert harness.metrics["lost"] == 20
        assert not list(disk.rglob("*.tmp"))
        harness.health_tick()
        assert harness.health.state == "degraded"
        foreign.unlink()
        harness.health_tick()
        assert harness.health.state == "running"
        harness.send(make_event(id="after000"), make_frame(320, 240))
        assert [path.stem[-8:] for path in _pictures(disk)][-1] == "after000"


def test_a_disk_that_says_no_in_the_middle_of_a_picture_leaves_nothing_half_written(disk: Path) -> None:
    store = Store(disk / "pictures", SnapshotConfig(min_free=0))
    store.open()
    for n in range(10):
        store.write(f"cam/2024-05-05/{n:06}-car-{n:08}", ".jpg", b"x" * 400_000)
    assert len(store) == 9 or len(store) == 10
    assert store.total <= SIZE
    (disk / "foreign").write_bytes(b"\0" * _free(disk))
    store.write("cam/2024-05-05/000010-car-00000010", ".jpg", b"x" * 400_000)
    for n in range(11):
        store.hold(f"cam/2024-05-05/{n:06}-car-{n:08}")
    with pytest.raises(NoRoomError, match="No space left on device"):
        store.write("cam/2024-05-05/000011-car-00000011", ".jpg", b"x" * 400_000)
    assert not list(disk.rglob(".*"))
    sizes = {path.stat().st_size for path in disk.rglob("*.jpg")}
    assert sizes == {400_000}
    assert sum(path.stat().st_size for path in disk.rglob("*.jpg")) == store.total


def test_what_is_too_much_for_the_disk_at_the_start_goes(disk: Path) -> None:
    store = Store(disk / "pictures", SnapshotConfig(min_free=0))
    store.open()
    for n in range(8):
        store.write(f"cam/2024-05-05/{n:06}-car-{n:08}", ".jpg", b"x" * 450_000)
    again = Store(disk / "pictures", SnapshotConfig(min_free=2 << 20))
    again.open()
    assert _free(disk) >= 2 << 20
    assert 1 <= len(again) <= 4


def test_a_daemon_whose_pictures_disk_is_full_goes_on_with_its_events(disk: Path, tmp_path: Path) -> None:
    """The whole of it: a drawn camera, the bundled model, events in the log, the disk full from the start."""
    foreign = disk / "core.dump"
    foreign.write_bytes(b"\0" * (_free(disk) - 8192))
    folder = disk / "pictures"
    config = write_config(
        tmp_path / "agent.toml",
        source="synthetic://desk?fps=10&seed=3",
        more=f'[plugins.snapshot]\nfolder = "{folder}"\n[plugins.alert]\nmqtt = false\n',
    )
    daemon = Daemon(config, "--seconds", "120")
    status = tmp_path / "state" / "status.json"

    def plugin() -> dict[str, Any]:
        try:
            return dict(json.loads(status.read_bytes())["health"]["plugins"]["snapshot"])
        except (OSError, ValueError, KeyError):
            return {}

    try:
        wait_until(lambda: plugin().get("state") == "degraded", timeout=60)
        assert "min_free" in plugin()["reason"]
        handled = plugin()["handled"]
        wait_until(lambda: plugin()["handled"] > handled, timeout=60)
        assert not list(disk.rglob("*.jpg"))
        foreign.unlink()
        wait_until(lambda: plugin().get("state") == "running", timeout=60)
        wait_until(lambda: list(disk.rglob("*.jpg")), timeout=60)
    finally:
        daemon.terminate()
        code, summary = daemon.finish()
    assert code == 0, daemon.stderr
    assert summary["plugins"]["snapshot"]["failed"] == 0
    assert summary["plugins"]["snapshot"]["dropped"] == 0
    assert summary["plugins"]["alert"]["handled"] == sum(summary["events"].values())
