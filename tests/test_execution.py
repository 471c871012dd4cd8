"""Changing modes while a clip runs through the daemon: every frame is told once, in order, and nothing stays behind."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from daemon import write_config
from waiting import wait_until

from agent.app import App, mode_policy
from agent.config import ModelConfig, load
from agent.data import Detections, Execution, Frame
from agent.detection.detector import Detector
from agent.detection.engine_set import EngineSet
from agent.detection.model import find_package
from agent.engines.onnx import OnnxEngine
from agent.errors import EngineError
from agent.execution import Executor
from agent.governor.modes import Demand, Mode, ModePolicy
from agent.host.manager import Host

MODES = [Mode(1, 1), Mode(2, 1), Mode(1, 2, 1), Mode(2, 2), Mode(1, 2)]


class Round(ModePolicy):
    """One mode after the other, whatever the load."""

    def __init__(self) -> None:
        super().__init__([Mode(1, 1)])
        self._modes_to_come = itertools.cycle(MODES)
        self._now = Mode(1, 1)

    @property
    def mode(self) -> Mode:
        return self._now

    def decide(self, demand: Demand, now: float) -> Mode:
        self._now = next(self._modes_to_come)
        return self._now


class Quiet:
    """In the place of the daemon's own executor."""

    def tick(self, *_: object) -> None:
        """Nothing changes by itself."""

    def told(self) -> Execution:
        return Execution()


def detector(threads: int) -> Detector:
    package = find_package("desk")
    return Detector(package, OnnxEngine(package.file_of(package.choose()), threads=threads))


def test_no_frame_of_a_clip_is_lost_or_out_of_order_while_modes_change(
    tmp_path: Path, material: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    made: list[Detector] = []
    used: set[tuple[int | None, int]] = set()
    whole = Host.offer_detections

    def offer(self: Host, detections: Detections, frame: Frame) -> None:
        whole(self, detections, frame)
        assert detections.seq == frame.seq
        told.append(frame.seq)

    def make(_precision: str, threads: int) -> Detector:
        made.append(detector(threads))
        return made[-1]

    monkeypatch.setattr(Host, "offer_detections", offer)
    clip = material / "video" / "car-detection.mp4"
    with App(load(write_config(tmp_path / "agent.toml", source=clip, camera="realtime = false"))) as app:
        app._executor = Quiet()  # type: ignore[assignment]
        executor = Executor(app.detector, Round(), make)
        for now in itertools.count(1):
            if app.lanes[0].capture.ended:
                break
            executor.tick(app.pipeline, None, float(now))
            used.add((app.detector.threads, app.detector.workers))
            loading = executor._loading
            if loading is not None:
                loading.join(60)
        app.wait(60)
        assert app.problem() is None
    assert told == list(range(377)), "each frame once, in order"
    assert len(used) >= 3, used
    for one in made:
        with pytest.raises(EngineError, match="closed"):
            one.engine_alone()


class Loop:
    """A pipeline that does at once what it is asked for."""

    def __init__(self) -> None:
        self.lanes: list[Any] = []
        self.counts: Any = None

    def between_frames(self, action: Callable[[], Any]) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(action())
        return done


class Counts:
    inferred = 0
    busy_seconds = 0.0


@pytest.fixture
def engines() -> Iterator[EngineSet]:
    engines = EngineSet({"fp32": detector(1)})
    yield engines
    engines.close()


def test_an_engine_that_cannot_be_had_with_more_threads_leaves_the_one_that_works(
    engines: EngineSet, caplog: pytest.LogCaptureFixture
) -> None:
    asked = threading.Event()

    def refuse(_precision: str, threads: int) -> Detector:
        asked.set()
        raise EngineError("no memory")

    loop = Loop()
    loop.counts = Counts()
    executor = Executor(engines, ModePolicy([Mode(2, 1)]), refuse)
    executor.tick(loop, None, 1.0)
    executor.tick(loop, None, 2.0)
    assert asked.wait(10)
    wait_until(lambda: "no engine with 2 thread(s): no memory" in caplog.text)
    assert (engines.threads, executor.told().mode, executor.told().threads) == (1, "latency", 1)
    engines.engine_alone()


def test_a_detector_that_was_replaced_meanwhile_is_not_replaced_again(engines: EngineSet) -> None:
    first, second, third = engines.used, detector(2), detector(1)
    assert engines.replace(first, second)
    assert not engines.replace(first, third), "what it was to replace is gone"
    assert engines.used is second
    for gone in (first, third):
        with pytest.raises(EngineError, match="closed"):
            gone.engine_alone()


def test_a_recording_frame_by_frame_begins_with_every_core_and_a_paced_one_with_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.app.cores", lambda: 2)
    engines = EngineSet({"fp32": detector(1)})
    executor = Executor(engines, mode_policy(ModelConfig()), lambda _precision, threads: detector(threads))
    executor.begin(every_frame=False)
    assert (engines.workers, engines.slots, executor.told().mode) == (1, 1, "latency")
    executor.begin(every_frame=True)
    assert (engines.workers, engines.slots, executor.told().mode) == (2, 3, "throughput")
    assert executor.told().reason == "recordings are read frame by frame"
    engines.close()


def test_health_tells_the_mode_that_the_configuration_asks_for(tmp_path: Path) -> None:
    path = write_config(tmp_path / "agent.toml", source="synthetic://desk?fps=30&size=320x240")
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("threads = 1", 'mode = "throughput"\nthreads = 1\nslots = 3'), encoding="utf-8")
    with App(load(path), max_frames=5) as app:
        app.wait(60)
        execution = app.health(app.monitor.latest).execution
    assert (execution.mode, execution.threads, execution.workers) == ("throughput", 1, 3)
    assert execution.reason == "as configured"
