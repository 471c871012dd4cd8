"""Precision changes while a clip runs through the daemon: every frame is told once, in order."""

from __future__ import annotations

import shutil
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest
from daemon import edgewarden, write_config

from agent.app import App, build_detector
from agent.config import ModelConfig, load
from agent.data import Detections, Frame
from agent.detection.model import find_package
from agent.host.manager import Host

LADDER = '[governor]\nladder = [{ precision = "fp32" }, { precision = "int8" }]\n'


@pytest.fixture
def forced(tmp_path: Path, material: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The bundled package with an int8 variant that the gate refuses, and that is used all the same."""
    monkeypatch.setenv("EDGEWARDEN_CACHE", str(tmp_path / "cache"))
    package = Path(shutil.copytree(find_package("desk").folder, tmp_path / "desk"))
    done = edgewarden(
        "model", "prepare", package, "--naive", "--force", "--precisions", "int8", "--pictures", "4",
        "--calibrate", material / "images" / "coco" / "val",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "FORCED" in done.stderr
    return package


def test_no_frame_of_a_clip_is_lost_to_a_change_of_precision_and_health_tells_that_it_was_forced(
    forced: Path, material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, str]] = []
    told_of = threading.Event()
    whole = Host.offer_detections

    def offer(self: Host, detections: Detections, frame: Frame) -> None:
        whole(self, detections, frame)
        told.append((frame.seq, detections.precision))
        told_of.set()

    monkeypatch.setattr(Host, "offer_detections", offer)
    clip = material / "video" / "car-detection.mp4"
    config = load(
        write_config(tmp_path / "agent.toml", source=clip, model=forced, camera="realtime = false", more=LADDER)
    )
    with App(config) as app:
        arguments, limit = app.control.commands()["limit"]
        rung = asked = 0
        # From another thread, whenever a frame was told, as the governor and a command over MQTT do.
        deadline = time.monotonic() + 60
        while not app.lanes[0].capture.ended and time.monotonic() < deadline:
            if told_of.wait(0.1):
                told_of.clear()
                rung = 1 - rung
                limit(arguments(rung=rung))
                asked += 1
        app.wait(60)
        assert app.problem() is None
        health = app.health(app.monitor.latest)
        counts = app.summary()["cameras"]["cam"]
    assert [seq for seq, _ in told] == list(range(377)), "each frame once, in order"
    assert counts == {"captured": 377, "inferred": 377, "dropped": 0}
    changes = sum(one != two for (_, one), (_, two) in pairwise(told))
    assert changes >= 100, f"{changes} changes of {asked} asked for"
    assert health.precisions["int8"].startswith("FORCED although it ")
    assert "as fast as fp32" in health.precisions["int8"]


def test_a_precision_that_the_configuration_insists_on_is_used_and_a_refused_one_is_told_of(
    tmp_path: Path, material: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("EDGEWARDEN_CACHE", str(tmp_path / "cache"))
    package = Path(shutil.copytree(find_package("desk").folder, tmp_path / "desk"))
    naive = ["--naive", "--precisions", "int8", "--pictures", "4", "--max-loss", "0", "--calibrator", "minmax"]
    done = edgewarden("model", "prepare", package, *naive, "--calibrate", material / "images" / "coco" / "val")
    assert done.returncode == 0, done.stderr
    whole = build_detector(ModelConfig(path=str(package), threads=1), {})
    whole.close()
    assert whole.precisions == ("fp32",), "what the gate refuses is not loaded"
    assert whole.told["int8"].startswith("refused: ")
    chosen = build_detector(ModelConfig(path=str(package), threads=1, precision="int8"), {})
    chosen.close()
    assert chosen.precisions == ("int8",)
    assert chosen.told["int8"].startswith("FORCED by [model] precision although it ")
    assert "FORCED by [model] precision" in caplog.text
    plain = build_detector(ModelConfig(path=str(package), threads=1, precision="fp32"), {})
    plain.close()
    assert plain.told == {"fp32": "chosen by [model] precision: the measure of the others"}
