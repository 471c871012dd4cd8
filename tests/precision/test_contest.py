"""The engines on the processor are measured on the model, once, and the daemon changes over to the faster one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from waiting import wait_until

import agent.app
from agent.app import App
from agent.config import parse
from agent.data import Detections, Frame
from agent.detection.model import find_package, load_package, update_package
from agent.engines import openvino
from agent.errors import ConfigError, EngineError
from agent.host.manager import Host
from agent.precision import contest, speed, usable
from agent.precision.contest import WAITS, measured_apart
from agent.precision.contest_rules import Entry, Outcome, Request, Result, Standing, decide

ORT, VINO = "onnxruntime", "openvino"
MEASURE = Standing(None, 0.02)
CONFIG = """
[agent]
name = "node"
state_dir = "{state}"
[model]
path = "{model}"
threads = 1
{keys}
[[camera]]
name = "cam"
source = "synthetic://desk?fps=30"
"""


def outcome(standings: dict[str, Standing], **milliseconds: float | str) -> Outcome:
    """``fp32_openvino = 9.0``, or what was wrong."""
    results = {}
    for name, figure in milliseconds.items():
        precision, _, backend = name.partition("_")
        entry: Entry = (precision, backend)  # type: ignore[assignment]
        broken = isinstance(figure, str)
        results[entry] = Result(
            entry=entry, seconds=None if broken else float(figure) / 1e3, fault=str(figure) if broken else ""
        )
    return decide(results, standings)


def test_each_precision_gets_the_engine_that_is_fastest_and_what_is_there_stays_where_both_are_about_equal() -> None:
    assert outcome({"fp32": MEASURE}, fp32_onnxruntime=10, fp32_openvino=9).engines == {"fp32": VINO}
    assert outcome({"fp32": MEASURE}, fp32_onnxruntime=10, fp32_openvino=9.7).engines == {"fp32": ORT}
    found = outcome({"fp32": MEASURE}, fp32_onnxruntime=10, fp32_openvino=12.5)
    assert found.engines == {"fp32": ORT}
    assert found.told["fp32"] == "the measure of the others; ONNX Runtime 10.00 ms, OpenVINO 12.50 ms"
    assert found.why == "fp32 runs on ONNX Runtime, its fastest engine here (ONNX Runtime 10.00 ms, OpenVINO 12.50 ms)"


def test_bf16_works_where_the_gate_lets_it_through_and_it_is_faster_than_the_best_fp32() -> None:
    standings = {"fp32": MEASURE, "bf16": Standing(0.003, 0.02)}
    found = outcome(standings, fp32_onnxruntime=10, fp32_openvino=12, bf16_openvino=8)
    assert (found.top, dict(found.engines)) == ("bf16", {"fp32": ORT, "bf16": VINO})
    assert found.seconds == {"fp32": 0.010, "bf16": 0.008}
    assert found.why == (
        "bf16 runs on OpenVINO, its fastest engine here (OpenVINO 8.00 ms); bf16 is the fastest measured here: 8.00 ms "
        "an inference, 1.25 x as fast as fp32, loses 0.0030 (fp32: takes 1.25 x the time of bf16)"
    )
    slower = outcome(standings, fp32_onnxruntime=8, fp32_openvino=12, bf16_openvino=7.9)
    assert (slower.top, dict(slower.engines)) == ("fp32", {"fp32": ORT})
    assert slower.told["bf16"].startswith("refused: is 1.01 x as fast as fp32 here, less than 1.05 x; OpenVINO 7.90 ms")
    lossy = outcome(standings | {"bf16": Standing(0.3, 0.02)}, fp32_onnxruntime=10, bf16_openvino=5)
    assert lossy.top == "fp32"
    assert "loses 0.3000 of accuracy" in lossy.why


def test_int8_stays_what_the_governor_goes_down_to_also_where_it_is_the_fastest() -> None:
    standings = {"fp32": MEASURE, "int8": Standing(0.01, 0.02)}
    found = outcome(standings, fp32_onnxruntime=10, int8_onnxruntime=7, fp32_openvino=10, int8_openvino=4)
    assert (found.top, dict(found.engines)) == ("fp32", {"fp32": ORT, "int8": VINO})


def test_a_precision_that_the_user_named_gets_its_fastest_engine_whatever_the_gate_says() -> None:
    found = outcome({"int8": Standing(None, 0.02, named=True)}, int8_onnxruntime=10, int8_openvino=4)
    assert (found.top, dict(found.engines)) == ("int8", {"int8": VINO})


def test_an_engine_that_fails_loses_and_the_fault_is_told() -> None:
    found = outcome({"fp32": MEASURE}, fp32_onnxruntime=10, fp32_openvino="m.onnx: not for me")
    assert found.engines == {"fp32": ORT}
    assert "OpenVINO m.onnx: not for me" in found.told["fp32"]
    with pytest.raises(ValueError, match="not for me"):
        outcome({"fp32": MEASURE}, fp32_openvino="m.onnx: not for me")


def test_every_engine_is_timed_in_a_process_of_its_own_and_one_that_cannot_run_says_why(tmp_path: Path) -> None:
    folder = find_package("desk").folder
    entries: tuple[Entry, ...] = (("fp32", "onnxruntime"), ("fp32", "openvino"), ("int8", "openvino"))
    results = measured_apart(Request(folder=str(folder), threads=1, entries=entries), lambda: False)
    assert [one.entry for one in results] == list(entries)
    assert all(one.seconds is not None and 0 < one.seconds < 5 for one in results[:2])
    assert results[2].seconds is None
    assert "has no int8 variant" in results[2].fault


def test_a_process_that_dies_or_is_not_wanted_any_more_is_an_error_of_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    request = Request(folder=str(tmp_path), threads=1, entries=())
    with pytest.raises(EngineError, match="was given up"):
        measured_apart(request, lambda: True)
    monkeypatch.setattr(contest, "CHILD", "agent.nothing")
    with pytest.raises(EngineError, match="ended with code 1"):
        measured_apart(request, lambda: False)


class Figures:
    """Stands in for measuring: what it is told to say, and how often it was asked."""

    def __init__(self, **milliseconds: float) -> None:
        self.milliseconds = milliseconds
        self.asked: list[Request] = []

    def __call__(self, request: Request, stop: Callable[[], bool]) -> list[Result]:
        self.asked.append(request)
        return [
            Result(entry=(precision, backend), seconds=self.milliseconds[f"{precision}_{backend}"] / 1e3)
            for precision, backend in request.entries
        ]


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Figures], Figures]:
    monkeypatch.setenv("EDGEWARDEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(contest, "LOAD_AFTER", 0.0)
    monkeypatch.setattr(contest, "MEASURE_AFTER", 0.0)

    def use(figures: Figures) -> Figures:
        monkeypatch.setattr(contest, "measured_apart", figures)
        return figures

    return use


def app(tmp_path: Path, model: str | Path = "desk", keys: str = "") -> App:
    return App(parse(CONFIG.format(state=tmp_path / "state", model=model, keys=keys)), entry_points=[])


def inferred(running: App) -> int:
    return running.pipeline.counts.inferred


def health(running: App) -> Any:
    return running.health(running.monitor.latest)


def changed_over(running: App, backend: str) -> None:
    wait_until(lambda: running.detector.backend.startswith(backend), 30)
    before = inferred(running)
    wait_until(lambda: inferred(running) > before + 5, 30, "frames go on")


def test_the_daemon_changes_over_to_the_faster_engine_remembers_it_and_measures_anew_what_has_changed(
    at_once: Callable[[Figures], Figures], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = at_once(Figures(fp32_onnxruntime=10, fp32_openvino=5))
    with app(tmp_path) as running:
        changed_over(running, "openvino")
        told = health(running)
    assert told.choice.startswith("fp32 runs on OpenVINO, its fastest engine here (ONNX Runtime 10.00 ms")
    assert "ONNX Runtime 10.00 ms, OpenVINO 5.00 ms; runs on openvino" in told.precisions["fp32"]
    assert [one.threads for one in figures.asked] == [1]
    with app(tmp_path) as running:
        changed_over(running, "openvino")
        assert len(figures.asked) == 1, "the answer is known"
    monkeypatch.setattr(speed, "processor", lambda: "another processor")
    figures.milliseconds = {"fp32_onnxruntime": 5, "fp32_openvino": 10}
    with app(tmp_path) as running:
        better = running._better
        assert better is not None
        wait_until(better.finished.is_set, 30)
        assert len(figures.asked) == 2
        assert running.detector.backend.startswith("onnxruntime")
        assert "fp32 runs on ONNX Runtime, its fastest engine here" in health(running).choice


def test_bf16_comes_when_it_was_measured_and_the_camera_is_not_blind_meanwhile(
    at_once: Callable[[Figures], Figures], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not openvino.computes_bf16():
        # The change-over is what is tested here: float32 under that name does as well.
        monkeypatch.setattr(openvino, "computes_bf16", lambda: True)
        whole = openvino.OpenVinoEngine.__init__
        monkeypatch.setattr(openvino.OpenVinoEngine, "__init__", lambda *a, **k: whole(*a, **k | {"arithmetic": "f32"}))
    figures = at_once(Figures(fp32_onnxruntime=10, fp32_openvino=12, bf16_openvino=8))
    with app(tmp_path, with_bf16(tmp_path, 0.001)) as running:
        changed_over(running, "openvino")
        told = health(running)
        assert told.precision == "bf16"
        assert told.choice.startswith("bf16 runs on OpenVINO, its fastest engine here")
        assert set(running.detector.precisions) == {"fp32", "bf16"}
        assert running.detector.seconds()["bf16"] == 0.008, "the ladder is made of what was measured side by side"
    assert figures.asked[0].entries == (("fp32", "onnxruntime"), ("fp32", "openvino"), ("bf16", "openvino"))


def test_bf16_that_lost_too_much_takes_no_part(at_once: Callable[[Figures], Figures], tmp_path: Path) -> None:
    figures = at_once(Figures(fp32_onnxruntime=10, fp32_openvino=12))
    with app(tmp_path, with_bf16(tmp_path, 0.3)) as running:
        wait_until(lambda: figures.asked, 30)
        assert "loses 0.3000 of accuracy" in health(running).precisions["bf16"] or not openvino.computes_bf16()
    assert figures.asked[0].entries == (("fp32", "onnxruntime"), ("fp32", "openvino"))


@pytest.mark.parametrize(("budget", "loaded"), [(512 << 20, True), (0, False)])
def test_int8_that_is_slow_on_onnx_runtime_comes_on_openvino_as_far_as_memory_is_granted(
    at_once: Callable[[Figures], Figures], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, budget: int, loaded: bool
) -> None:
    monkeypatch.setattr(usable, "_speedup", lambda *_: 0.5)
    at_once(Figures(fp32_onnxruntime=10, fp32_openvino=10, int8_onnxruntime=20, int8_openvino=6))
    with app(tmp_path, with_variant(tmp_path, "int8", 0.01), f"memory = {budget}") as running:
        assert running.detector.precisions == ("fp32",)
        better = running._better
        assert better is not None
        wait_until(better.finished.is_set, 30)
        if loaded:
            wait_until(lambda: "int8" in running.detector.precisions, 30)
        told = health(running)
        assert ("int8" in running.detector.precisions) is loaded
    assert told.precision == "fp32"
    assert told.precisions["int8"].startswith(
        "loses 0.0100, 1.67 x as fast as fp32; ONNX Runtime 20.00 ms, OpenVINO 6.00"
    )
    assert ("does not fit into the memory budget of 0 MB" in told.precisions["int8"]) is not loaded


def with_bf16(tmp_path: Path, loss: float) -> Path:
    return with_variant(tmp_path, "bf16", loss)


def with_variant(tmp_path: Path, precision: str, loss: float) -> Path:
    folder = Path(shutil.copytree(find_package("desk").folder, tmp_path / "models" / "desk"))
    package = load_package(folder)
    from msgspec.structs import replace

    accuracy = {"loss": loss, "max_loss": 0.02}
    variant = replace(package.choose("fp32"), precision=precision, accuracy=accuracy)
    update_package(package, [(variant, package.file_of(variant))])
    return folder


@pytest.mark.parametrize(
    ("keys", "backend"), [('backend = "openvino"', "openvino"), ('backend = "onnxruntime"', "onn")]
)
def test_who_names_the_engine_has_it_from_the_first_frame_on_and_nothing_is_measured(
    at_once: Callable[[Figures], Figures], tmp_path: Path, keys: str, backend: str
) -> None:
    figures = at_once(Figures())
    with app(tmp_path, keys=keys) as running:
        assert running.detector.backend.startswith(backend)
        wait_until(lambda: inferred(running) > 3, 30)
        assert running._better is None
    assert not figures.asked


def test_on_openvino_a_recording_has_as_many_frames_under_way_as_there_are_cores_and_each_is_told_once_in_order(
    at_once: Callable[[Figures], Figures], tmp_path: Path, material: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent.app, "cores", lambda: 2)
    told: list[int] = []
    whole = Host.offer_detections

    def offer(self: Host, detections: Detections, frame: Frame) -> None:
        whole(self, detections, frame)
        told.append(frame.seq)

    monkeypatch.setattr(Host, "offer_detections", offer)
    clip = material / "video" / "person-bicycle-car-detection.mjpg.avi"
    text = CONFIG.format(state=tmp_path / "state", model="desk", keys='backend = "openvino"')
    text = text.replace("synthetic://desk?fps=30", str(clip)) + "realtime = false\n"
    with App(parse(text), entry_points=[]) as running:
        assert running.detector.workers == 2
        assert running.detector.backend.startswith("openvino")
        running.wait(60)
        assert running.problem() is None
        captured = running.summary()["cameras"]["cam"]["captured"]
    assert told == list(range(captured))
    assert captured == 41


def test_an_engine_that_cannot_be_measured_changes_nothing_and_is_told(
    at_once: Callable[[Figures], Figures], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once(Figures())
    monkeypatch.setattr(contest, "CHILD", "agent.nothing")
    monkeypatch.setattr(contest, "measured_apart", measured_apart)
    with app(tmp_path) as running:
        wait_until(lambda: "could not be compared" in health(running).choice, 30)
        before = inferred(running)
        wait_until(lambda: inferred(running) > before + 3, 30)


def test_openvino_on_a_gpu_and_bf16_without_a_variant_are_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r'set \[model\] device = "cpu"'):
        app(tmp_path, keys='backend = "openvino"\ndevice = "cuda"').start()
    with pytest.raises(Exception, match="has no bf16 variant, only fp32"):
        app(tmp_path, keys='precision = "bf16"').start()
    with pytest.raises(ConfigError, match="backend"):
        app(tmp_path, keys='backend = "openvinno"')


def test_what_waits_is_said_to_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEWARDEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(openvino, "computes_bf16", lambda: True)
    with app(tmp_path, with_bf16(tmp_path, 0.001)) as running:
        assert health(running).precisions["bf16"] == WAITS
