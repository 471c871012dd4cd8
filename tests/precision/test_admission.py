"""The gate where TensorRT runs: plans are built for the new model and compared with those of the old one.

The GPU and the builder are stand-ins; the store of plans, the packages and the measuring are real.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner
from model_updates import package

from agent.cli import cli
from agent.detection.model import ModelPackage
from agent.detection.plans import Place, TensorRT
from agent.engines.build_request import BuildRequest
from agent.engines.flavour import Flavour
from agent.engines.onnx import OnnxEngine
from agent.engines.plan_store import PlanStore
from agent.errors import EngineError, ModelError
from agent.precision.admission import admit
from agent.precision.on_gpu import OnGpu, on_gpu

FLAVOUR = Flavour("tensorrt-rtx", "1.7.1.116")
HEADER = b"vtrt" + bytes(20) + bytes([1, 7, 1, 116])


class StandIn:
    """A builder whose plans name their graph, and engines that are ONNX Runtime."""

    def __init__(self) -> None:
        self.built: list[str] = []
        self.fault = ""

    def build(
        self,
        request: BuildRequest,
        plan: Path,
        progress: Callable[[str, float], None] = lambda phase, share: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        progress("Building engine", 0.5)
        if self.fault:
            raise EngineError(self.fault)
        self.built.append(request.onnx)
        plan.write_bytes(HEADER + request.onnx.encode())

    def open_plan(self, plan: bytes, flavour: Flavour) -> OnnxEngine:
        assert flavour == FLAVOUR
        return OnnxEngine(plan[len(HEADER) :].decode(), threads=1)


@pytest.fixture
def stand_in() -> StandIn:
    return StandIn()


@pytest.fixture
def plans(tmp_path: Path) -> PlanStore:
    return PlanStore(tmp_path / "plans")


@pytest.fixture
def on_board(stand_in: StandIn, plans: PlanStore) -> Callable[[ModelPackage, bool], OnGpu]:
    tensorrt = TensorRT(Place(FLAVOUR, "Stand-in GPU", (8, 6)), stand_in.build, stand_in.open_plan)

    def timed(made: ModelPackage, build: bool) -> OnGpu:
        return on_gpu(made, tensorrt, plans, partial(_untold) if build else None)

    return timed


def _untold(_phase: str, _share: float) -> None:
    pass


def test_a_plan_is_measured_as_it_would_run_and_built_once(
    tmp_path: Path, stand_in: StandIn, plans: PlanStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = package(tmp_path / "bench")
    tensorrt = TensorRT(Place(FLAVOUR, "Stand-in GPU", (8, 6)), stand_in.build, stand_in.open_plan)
    monkeypatch.setattr("agent.detection.plans.find_tensorrt", lambda: tensorrt)
    monkeypatch.setenv("EDGEWARDEN_CACHE", str(tmp_path / "cache"))
    for _ in range(2):
        words = ["bench", "--model", str(made.folder), "--backend", "tensorrt", "--rounds", "3", "--frames", "5"]
        done = CliRunner().invoke(cli, [*words, "--json"])
        assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["contestants"]["engine"]["ratio"] == 1.0
    assert stand_in.built == [str(made.file_of(made.choose()))]


def test_the_plan_of_a_new_model_is_there_before_it_gets_the_name(
    tmp_path: Path, stand_in: StandIn, plans: PlanStore, on_board: Callable[[ModelPackage, bool], OnGpu]
) -> None:
    new = package(tmp_path / "new", version=2)
    first = admit(new, None, gpu=on_board)
    assert stand_in.built == [str(new.file_of(new.choose()))]
    assert admit(new, None, gpu=on_board).seconds > 0
    assert first.old_seconds is None
    assert len(stand_in.built) == 1, "one that is right is kept"
    plans.forget(new.folder)
    assert plans.records() == []
    assert not list(plans.folder.glob("*.plan"))


def test_the_speeds_that_count_are_those_of_the_plans(
    tmp_path: Path, stand_in: StandIn, on_board: Callable[[ModelPackage, bool], OnGpu]
) -> None:
    old, slow = package(tmp_path / "old"), package(tmp_path / "slow", version=2, size=(1600, 1200))
    fast = package(tmp_path / "fast", version=3)
    assert admit(old, None, gpu=on_board).seconds > 0
    assert admit(fast, old, gpu=on_board, slower=1000).old_seconds is not None
    with pytest.raises(ModelError, match="times the"):
        admit(slow, old, gpu=on_board)


def test_without_a_plan_of_the_old_one_nothing_is_built_for_it(
    tmp_path: Path, stand_in: StandIn, on_board: Callable[[ModelPackage, bool], OnGpu]
) -> None:
    old, new = package(tmp_path / "old"), package(tmp_path / "new", version=2)
    assert admit(new, old, gpu=on_board, slower=1000).old_seconds is None
    assert stand_in.built == [str(new.file_of(new.choose()))]


def test_a_plan_that_cannot_be_built_is_told_and_the_daemon_goes_on_without(
    tmp_path: Path, stand_in: StandIn, on_board: Callable[[ModelPackage, bool], OnGpu]
) -> None:
    stand_in.fault = "out of memory"
    told = admit(package(tmp_path / "new"), None, gpu=on_board)
    assert any("no TensorRT engine of fp32: out of memory" in note for note in told.notes)
    assert told.seconds > 0
