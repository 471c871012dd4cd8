"""A better engine comes while the daemon works: ONNX Runtime infers until it is built, and wherever that fails.

The builder and the engine are stand-ins here, since there is no GPU; store, daemon, cameras and frames are real.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from waiting import wait_until

import agent.app
from agent.app import App
from agent.config import parse
from agent.data import Frame
from agent.detection import batch_size, plans
from agent.detection.detector import Detector
from agent.detection.engine_set import EngineSet, Offer
from agent.detection.manifest import Variant
from agent.detection.model import ModelPackage, find_package, load_package, update_package
from agent.detection.plans import Place, TensorRT
from agent.engines.build_request import BuildRequest
from agent.engines.flavour import Flavour
from agent.engines.onnx import OnnxEngine
from agent.engines.plan_store import PlanStore, slot_name
from agent.errors import EngineError

FLAVOUR = Flavour("tensorrt-rtx", "1.7.1.116")
HEADER = b"vtrt" + bytes(20) + bytes([1, 7, 1, 116])
PLACE = Place(FLAVOUR, "Stand-in GPU", (8, 6))
CONFIG = """
[agent]
name = "node"
state_dir = "{state}"
[model]
path = "{model}"
threads = 1
{model_keys}
[[camera]]
name = "cam"
source = "synthetic://desk?fps=30"
{more}
"""


class StandIn:
    """A builder that takes until ``go`` is set, and engines that are ONNX Runtime under another name."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.requests: list[BuildRequest] = []
        self.opened: list[OnnxEngine] = []
        self.fault = ""
        self.load_fault = ""

    def build(
        self,
        request: BuildRequest,
        plan: Path,
        progress: Callable[[str, float], None] = lambda phase, share: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.requests.append(request)
        progress("Building engine", 0.4)
        while not self.go.wait(0.02):
            if stop():
                raise EngineError("building was given up")
        if self.fault:
            raise EngineError(self.fault)
        plan.write_bytes(HEADER + request.onnx.encode())

    def open_plan(self, plan: bytes, flavour: Flavour) -> OnnxEngine:
        assert flavour == FLAVOUR
        if self.load_fault:
            raise EngineError(self.load_fault)
        engine = OnnxEngine(plan[len(HEADER) :].decode(), threads=1)
        engine.backend = FLAVOUR.backend
        engine.max_batch = 2
        self.opened.append(engine)
        return engine


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> StandIn:
    made = StandIn()
    monkeypatch.setenv("EDGEWARDEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(batch_size, "TRIAL_SECONDS", 0.02)
    monkeypatch.setattr(agent.app, "find_tensorrt", lambda: TensorRT(PLACE, made.build, made.open_plan))
    return made


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The bundled model with three precisions, whose files are the same: int8 loses too much."""
    folder = Path(shutil.copytree(find_package("desk").folder, tmp_path / "models" / "desk"))
    found = load_package(folder)
    update_package(found, [(_variant("fp16", 0.001), _file(found)), (_variant("int8", 0.3), _file(found))])
    return folder


def _file(package: ModelPackage) -> Path:
    copy = package.folder.parent / "copy.onnx"
    shutil.copy(package.file_of(package.choose()), copy)
    return copy


def _variant(precision: Any, loss: float) -> Variant:
    return Variant(precision=precision, file="x.onnx", sha256="0" * 64, accuracy={"loss": loss, "max_loss": 0.02})


def app(tmp_path: Path, *, model: str | Path = "desk", model_keys: str = "", more: str = "") -> App:
    text = CONFIG.format(state=tmp_path / "state", model=model, model_keys=model_keys, more=more)
    return App(parse(text), entry_points=[])


def inferred(running: App) -> int:
    return running.pipeline.counts.inferred


def health(running: App) -> Any:
    return running.health(running.monitor.latest)


def test_onnx_runtime_works_while_an_engine_is_built_and_the_finished_one_is_swapped_in(
    stand_in: StandIn, tmp_path: Path
) -> None:
    with app(tmp_path) as running:
        wait_until(lambda: stand_in.requests, 20)
        before = inferred(running)
        wait_until(lambda: inferred(running) > before + 10, 30, "frames go on while it is built")
        assert running.detector.backend.startswith("onnxruntime")
        assert "building for Stand-in GPU: Building engine 40%" in health(running).precisions["fp32"]
        assert health(running).choice == "ONNX Runtime, until a TensorRT engine is ready"
        stand_in.go.set()
        wait_until(lambda: running.detector.backend == FLAVOUR.backend, 30)
        after = inferred(running)
        wait_until(lambda: inferred(running) > after + 10, 30, "and with the new engine")
        told = health(running)
        assert told.backend == FLAVOUR.backend
        assert "tensorrt-rtx 1.7.1.116 on Stand-in GPU" in told.precisions["fp32"]
        assert "pictures a second by batch 1: " in told.precisions["fp32"]
        assert "fp32 is the only one measured here" in told.choice
        assert running.problem() is None
    assert running.problem() is None


def test_a_plan_that_is_there_is_used_at_the_next_start_and_not_built_again(stand_in: StandIn, tmp_path: Path) -> None:
    stand_in.go.set()
    for _ in range(2):
        with app(tmp_path) as running:
            wait_until(lambda: running.detector.backend == FLAVOUR.backend, 30)
    assert len(stand_in.requests) == 1
    assert stand_in.requests[0].target is None
    assert str(stand_in.requests[0].profile) == "images 1x3x256x320..1x3x256x320..4x3x256x320"


def test_of_several_precisions_the_fastest_that_passes_the_gate_works_and_health_says_why(
    stand_in: StandIn, tmp_path: Path, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in.go.set()
    seconds = {"fp32": 0.010, "fp16": 0.004}
    monkeypatch.setattr("agent.precision.upgrade.seconds_alone", lambda detector: seconds[detector.precision])
    with app(tmp_path, model=package) as running:
        wait_until(lambda: len(stand_in.opened) == 2, 30)
        wait_until(lambda: "the fastest measured" in health(running).choice, 30)
        told = health(running)
        assert told.precision == "fp16"
        assert "fp16 is the fastest measured here: 4.00 ms an inference, 2.50 x as fast as fp32" in told.choice
        assert "int8: loses 0.3000 of accuracy, more than 0.02" in told.choice
        assert "refused" in told.precisions["int8"]
    assert {Path(request.onnx).name.split("-")[1] for request in stand_in.requests if "fp16" in request.onnx} == {
        "fp16"
    }


def test_a_precision_that_the_configuration_names_is_the_only_one_built(
    stand_in: StandIn, tmp_path: Path, package: Path
) -> None:
    stand_in.go.set()
    with app(tmp_path, model=package, model_keys='precision = "fp32"') as running:
        wait_until(lambda: running.detector.backend == FLAVOUR.backend, 30)
    assert [request.precision for request in stand_in.requests] == ["fp32"]


def test_a_ladder_may_name_what_only_tensorrt_will_run(stand_in: StandIn, tmp_path: Path, package: Path) -> None:
    stand_in.go.set()
    more = '[governor]\nladder = [{ precision = "fp32" }, { precision = "fp16", rate = 20.0 }]'
    with app(tmp_path, model=package, more=more) as running:
        wait_until(lambda: len(stand_in.opened) == 2, 30)
        wait_until(lambda: running.detector.backend == FLAVOUR.backend, 30)
        assert running.detector.precision == "fp32", "the ladder decides, not the match"
    assert {request.precision for request in stand_in.requests} == {"fp32", "fp16"}


def test_a_build_that_fails_leaves_onnx_runtime_at_work_and_is_told(stand_in: StandIn, tmp_path: Path) -> None:
    stand_in.fault = "the builder was killed, as the system does when memory runs out"
    stand_in.go.set()
    with app(tmp_path) as running:
        wait_until(lambda: "no TensorRT: the builder was killed" in health(running).precisions["fp32"], 30)
        before = inferred(running)
        wait_until(lambda: inferred(running) > before + 5, 30)
        assert running.detector.backend.startswith("onnxruntime")


def test_a_plan_that_cannot_be_loaded_leaves_onnx_runtime_at_work_and_is_told(
    stand_in: StandIn, tmp_path: Path
) -> None:
    stand_in.load_fault = "the GPU is out of memory"
    stand_in.go.set()
    with app(tmp_path) as running:
        wait_until(lambda: "out of memory" in health(running).precisions["fp32"], 30)
        assert "cannot be loaded: the GPU is out of memory" in health(running).choice
        before = inferred(running)
        wait_until(lambda: inferred(running) > before + 5, 30)
        assert running.detector.backend.startswith("onnxruntime")
        assert running.problem() is None


def test_with_building_off_a_missing_plan_is_told_and_nothing_is_built(stand_in: StandIn, tmp_path: Path) -> None:
    with app(tmp_path, model_keys="build = false") as running:
        wait_until(lambda: "not built yet (building is off)" in health(running).precisions["fp32"], 30)
        assert running.detector.backend.startswith("onnxruntime")
        wait_until(lambda: "no TensorRT engine could be had" in health(running).choice, 30)
    assert stand_in.requests == []


def test_a_stop_while_an_engine_is_built_does_not_wait_for_it(stand_in: StandIn, tmp_path: Path) -> None:
    with app(tmp_path) as running:
        wait_until(lambda: stand_in.requests, 20)
    assert not [thread for thread in threading.enumerate() if thread.name == "plans"]
    assert not list(PlanStore().folder.glob(".*.part"))
    assert running.problem() is None


def test_the_engine_that_was_replaced_is_closed_when_its_last_frame_came_back(
    stand_in: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[str] = []
    close = Detector.close

    def closing(self: Detector) -> None:
        closed.append(self.backend)
        close(self)

    monkeypatch.setattr(Detector, "close", closing)
    with app(tmp_path) as running:
        wait_until(lambda: stand_in.requests, 20)
        assert closed == []
        stand_in.go.set()
        wait_until(lambda: closed, 30)
        assert closed[0].startswith("onnxruntime")
        assert running.detector.backend == FLAVOUR.backend


def test_a_precision_that_was_asked_for_before_it_was_there_is_used_when_it_comes(tmp_path: Path) -> None:
    package = find_package("desk")

    def detector(precision: str) -> Detector:
        return Detector(package, OnnxEngine(package.file_of(package.choose()), threads=1), precision=precision)

    engines = EngineSet({"fp32": detector("fp32")})
    engines.expected = frozenset({"fp16"})
    frame = Frame("cam", 0, np.zeros((48, 64, 3), np.uint8), 0.0, 0.0)
    try:
        with pytest.raises(EngineError, match="fp16 is not loaded yet, only fp32"):
            engines.use("fp16")
        with pytest.raises(EngineError, match="int8 is not loaded, only fp32"):
            engines.use("int8")
        engines.offer(Offer("fp16", lambda: detector("fp16"), lambda made: "here"))
        assert engines.detect(frame).precision == "fp32", "int8 was the last wish"
        with pytest.raises(EngineError):
            engines.use("mixed")
        engines.use("fp16")
        assert engines.detect(frame).precision == "fp16"
        under_way = engines.submit([frame])
        engines.offer(Offer("fp16", lambda: detector("fp16"), lambda made: "again"))
        (found,) = engines.collect(under_way)
        assert found.precision == "fp16"
        assert engines.told == {"fp16": "here"}
        engines.detect(frame)
        assert engines.told == {"fp16": "again"}
    finally:
        engines.close()


def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def find() -> TensorRT:
        raise EngineError("TensorRT cannot run here: no CUDA device; `edgewarden doctor` says more")

    monkeypatch.setattr(agent.app, "find_tensorrt", find)


def test_without_a_gpu_auto_says_so_and_works_with_onnx_runtime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_gpu(monkeypatch)
    with app(tmp_path) as running:
        wait_until(lambda: inferred(running) > 3, 30)
        assert health(running).choice.startswith("ONNX Runtime, since TensorRT cannot run here: no CUDA device")


def test_without_a_gpu_tensorrt_by_name_is_an_error_of_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_gpu(monkeypatch)
    with pytest.raises(EngineError) as error:
        app(tmp_path, model_keys='backend = "tensorrt"').start()
    assert str(error.value) == (
        'TensorRT cannot run here: no CUDA device; `edgewarden doctor` says more; or set [model] backend = "auto"'
    )


def test_onnx_runtime_by_name_and_the_cpu_by_name_look_for_no_gpu(stand_in: StandIn, tmp_path: Path) -> None:
    for keys in ('backend = "onnxruntime"', 'device = "cpu"'):
        running = app(tmp_path, model_keys=keys)
        with running:
            wait_until(partial(_has_inferred, running), 30)
            assert health(running).choice == ""
    assert stand_in.requests == []


def _has_inferred(running: App) -> bool:
    return inferred(running) > 3


def test_the_order_of_a_plan_follows_from_package_gpu_and_library(tmp_path: Path, package: Path) -> None:
    found = load_package(package)
    store = PlanStore(tmp_path / "plans")
    wanted = plans.wanted_plan(found, found.choose("fp16"), PLACE, store, None)
    identity = wanted.order.identity
    assert (identity.backend, identity.gpu, identity.capability) == (FLAVOUR.backend, "Stand-in GPU", "8.6")
    assert Path(wanted.request.onnx) == found.file_of(found.choose("fp16"))
    old = PLACE._replace(flavour=Flavour("tensorrt", "8.6.1"), strongly_typed=False)
    by_flag = plans.wanted_plan(found, found.choose("fp16"), old, store, None)
    assert Path(by_flag.request.onnx) == found.file_of(found.choose("fp32")), "8.6 makes fp16 of the fp32 graph"
    assert by_flag.order.identity != identity
    small = plans.wanted_plan(found, found.choose("fp16"), PLACE._replace(memory=1 << 30), store, None)
    assert small.request.workspace == 256 << 20, "a quarter of the GPU's memory at most"
    sparse = msgspec.structs.replace(found.choose("fp16"), sparse=True)
    assert plans.wanted_plan(found, sparse, PLACE, store, None).request.options.sparse
    other = msgspec.structs.replace(found, folder=tmp_path)
    assert slot_name(other.name, "fp16", None, other.folder) != wanted.order.slot
