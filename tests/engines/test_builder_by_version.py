"""Which calls the builder makes with each version of TensorRT, on stand-ins made of their recorded bindings."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
import pytest
from graphs import brightness_graph
from trt_recorded import Recorded
from trt_surface import Surface

from agent.engines import flavour
from agent.engines.build_request import BuildRequest, Options, Profile
from agent.engines.plan_header import header_fault
from agent.errors import EngineError

VERSIONS = ["8.6.1", "10.3.0", "10.13.3", "11.4.0"]
STRONG = VERSIONS[1:]
OURS = ("agent.engines.tensorrt_log", "agent.engines.tensorrt_build")
Play = Callable[..., tuple[Recorded, ModuleType]]


@pytest.fixture
def play(material: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Play]:
    """Puts a version's stand-in in TensorRT's place and loads our builder against it."""

    def begin(version: str, **more: Any) -> tuple[Recorded, ModuleType]:
        path = material.parent / "trt_api" / f"{version}.json"
        if not path.is_file():
            pytest.skip(f"no record of TensorRT's bindings in {path.parent}")
        recorded = Recorded(Surface(path), **more)
        monkeypatch.setitem(sys.modules, "tensorrt", recorded.module)
        forget()
        return recorded, importlib.import_module("agent.engines.tensorrt_build")

    def forget() -> None:
        flavour._load.cache_clear()
        for name in OURS:
            sys.modules.pop(name, None)

    yield begin
    monkeypatch.undo()
    forget()


@pytest.fixture
def request_of(tmp_path: Path) -> Callable[..., BuildRequest]:
    path = brightness_graph(tmp_path / "m.onnx", np.ones(3, np.float32), size=(64, 64), batch="batch")

    def make(version: str, **more: Any) -> BuildRequest:
        profile = Profile(input="images", least=(1, 3, 64, 64), typical=(2, 3, 64, 64), most=(8, 3, 64, 64))
        request = BuildRequest(
            onnx=str(path),
            backend=f"tensorrt {version}",
            precision="fp32",
            profile=profile,
            workspace=1 << 28,
            timing_cache=str(tmp_path / "timing"),
        )
        return msgspec.structs.replace(request, **more)

    return make


def build(recorded: Recorded, builder: ModuleType, request: BuildRequest) -> bytes:
    plan: bytes = builder.build_plan(request, lambda said: None, lambda phase, share: None)
    assert header_fault(plan, f"tensorrt {recorded.surface.version}") == ""
    return plan


@pytest.mark.parametrize("version", VERSIONS)
def test_a_build_asks_only_for_what_the_version_has(
    play: Play, request_of: Callable[..., BuildRequest], version: str
) -> None:
    recorded, builder = play(version)
    build(recorded, builder, request_of(recorded.surface.version))
    assert recorded.called("set_shape") == [("images", [1, 3, 64, 64], [2, 3, 64, 64], [8, 3, 64, 64])]
    assert recorded.called("set_memory_pool_limit")[0][1] == 1 << 28
    watched = [name for _, name, _ in recorded.values if name == "progress_monitor"]
    assert bool(watched) == (version != "8.6.1")


@pytest.mark.parametrize("version", STRONG)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "mixed"])
def test_since_10_networks_are_strongly_typed_and_no_precision_is_flagged(
    play: Play, request_of: Callable[..., BuildRequest], version: str, precision: str
) -> None:
    recorded, builder = play(version)
    build(recorded, builder, request_of(recorded.surface.version, precision=precision))
    strong = recorded.module.NetworkDefinitionCreationFlag.STRONGLY_TYPED
    assert recorded.called("create_network") == [(1 << int(strong),)]
    assert recorded.flags() == set()


@pytest.mark.parametrize(
    ("precision", "flags"),
    [("fp32", set()), ("fp16", {"FP16"}), ("int8", {"FP16", "INT8"}), ("mixed", {"FP16", "INT8"})],
)
def test_8_6_takes_precision_by_flag(
    play: Play, request_of: Callable[..., BuildRequest], precision: str, flags: set[str]
) -> None:
    recorded, builder = play("8.6.1")
    build(recorded, builder, request_of("8.6.1", precision=precision))
    explicit = recorded.module.NetworkDefinitionCreationFlag.EXPLICIT_BATCH
    assert recorded.called("create_network") == [(1 << int(explicit),)]
    assert recorded.flags() == flags
    assert not flavour.strongly_typed()


@pytest.mark.parametrize("version", VERSIONS)
def test_options_are_off_unless_asked_for(play: Play, request_of: Callable[..., BuildRequest], version: str) -> None:
    recorded, builder = play(version)
    options = Options(dla=1, sparse=True, version_compatible=True, hardware_compatible=True, effort=5)
    build(recorded, builder, request_of(recorded.surface.version, precision="fp16", options=options))
    assert recorded.flags() - {"FP16"} == {"SPARSE_WEIGHTS", "VERSION_COMPATIBLE", "GPU_FALLBACK"}
    values = {name: value for _, name, value in recorded.values}
    assert values["builder_optimization_level"] == 5
    assert values["DLA_core"] == 1
    assert values["default_device_type"].name == "DLA"
    assert values["hardware_compatibility_level"].name == "AMPERE_PLUS"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"options": Options(dla=2), "precision": "fp16"}, "there is no DLA core 2 here, there are 2"),
        ({"options": Options(dla=0)}, "the DLA computes fp16 and int8, not fp32"),
        ({"target": (8, 7)}, "builds for the GPU of this machine alone"),
    ],
)
def test_what_cannot_be_is_refused_before_it_is_built(
    play: Play, request_of: Callable[..., BuildRequest], more: dict[str, Any], said: str
) -> None:
    recorded, builder = play("10.3.0")
    with pytest.raises(EngineError, match=said):
        build(recorded, builder, request_of("10.3.0", **more))
    assert recorded.called("build_serialized_network") == []


@pytest.mark.parametrize("version", VERSIONS)
def test_timings_are_kept_and_those_of_another_gpu_begun_anew(
    play: Play, request_of: Callable[..., BuildRequest], tmp_path: Path, version: str
) -> None:
    recorded, builder = play(version)
    request = request_of(recorded.surface.version)
    build(recorded, builder, request)
    assert recorded.called("create_timing_cache") == [(b"",)]
    kept = (tmp_path / "timing").read_bytes()
    assert kept
    recorded.calls.clear()
    build(recorded, builder, request)
    assert recorded.called("create_timing_cache") == [(kept,)]
    recorded.calls.clear()
    recorded.timings_fit = False
    build(recorded, builder, request)
    assert recorded.called("create_timing_cache") == [(kept,), (b"",)]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_refused_graph_is_told_with_node_operator_and_opset(
    play: Play, request_of: Callable[..., BuildRequest], version: str
) -> None:
    recorded, builder = play(version, faults=(("UNSUPPORTED_NODE", "no such thing is known here", 1),))
    with pytest.raises(EngineError) as refused:
        build(recorded, builder, request_of(recorded.surface.version))
    told = str(refused.value)
    # 8.6 tells the node's number alone: name and operator come from the file.
    assert ("(Reshape)" if version == "8.6.1" else "node the_node (TheOperator)") in told
    assert "opset 17" in told


def test_a_fixed_graph_gets_no_profile(play: Play, request_of: Callable[..., BuildRequest]) -> None:
    recorded, builder = play("10.3.0", shape=(8, 3, 64, 64))
    build(recorded, builder, request_of("10.3.0"))
    assert recorded.called("add_optimization_profile") == []
    recorded, builder = play("10.3.0", shape=(1, 3, 32, 32))
    with pytest.raises(EngineError, match=r"the parser sees an input \[1, 3, 32, 32\]"):
        build(recorded, builder, request_of("10.3.0"))


@pytest.mark.parametrize(
    ("message", "place", "code", "text"),
    [
        (
            "[graphShapeAnalyzer.cpp::analyzeShapes::2084] Error Code 4: Miscellaneous (IShuffleLayer X: reshape)",
            "graphShapeAnalyzer.cpp::analyzeShapes",
            "4",
            "Miscellaneous (IShuffleLayer X: reshape)",
        ),
        (
            "IRuntime::deserializeCudaEngine: Error Code 1: Cuda Runtime (35)",
            "IRuntime::deserializeCudaEngine",
            "1",
            "Cuda Runtime (35)",
        ),
        ("WeightsContext.cpp:525: Empty initializer 894", "WeightsContext.cpp", "", "Empty initializer 894"),
        ("Detected layernorm\nnodes in FP16", "", "", "Detected layernorm nodes in FP16"),
    ],
)
def test_the_librarys_messages_are_taken_apart(play: Play, message: str, place: str, code: str, text: str) -> None:
    play("10.3.0")
    log = importlib.import_module("agent.engines.tensorrt_log")
    said = log.parsed(logging.ERROR, message)
    assert (said.place, said.code, said.text) == (place, code, text)


def test_the_last_error_is_kept_for_the_one_line_that_is_told(play: Play) -> None:
    recorded, _ = play("10.3.0")
    log = importlib.import_module("agent.engines.tensorrt_log")
    heard: list[Any] = []
    logger = log.BuilderLog(heard.append)
    severities = recorded.module.ILogger
    for severity, text in ((severities.INFO, "a"), (severities.ERROR, "b"), (severities.WARNING, "c")):
        logger.log(severity, text)
    assert [said.level for said in heard] == [logging.DEBUG, logging.ERROR, logging.WARNING]
    assert list(logger.errors) == ["b"]
    logger.hushed = True
    logger.log(severities.ERROR, "d")
    assert heard[-1].level == logging.DEBUG
    assert list(logger.errors) == ["b", "d"]


def test_tensorrt_goes_before_tensorrt_rtx_unless_asked_otherwise(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    play("10.3.0")
    assert flavour.installed().backend == "tensorrt 10.3.0"
    assert not flavour.can_build_for_others()
    ask = partial(monkeypatch.setenv, flavour.CHOICE_VARIABLE)
    ask("tensorrt-rtx")
    flavour._load.cache_clear()
    assert flavour.installed().name == "tensorrt-rtx"
    ask("cuda")
    flavour._load.cache_clear()
    assert flavour.fault() == "EDGEWARDEN_TENSORRT=cuda: expected tensorrt or tensorrt-rtx"


def test_a_library_that_cannot_be_loaded_and_a_folder_of_stubs_are_no_tensorrt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(flavour.CHOICE_VARIABLE, "tensorrt")
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "tensorrt").mkdir()
    for text, said in (("", "tensorrt is not installed"), ("raise ImportError('libnvinfer.so.10: no')", "libnvinfer")):
        (tmp_path / "tensorrt" / "__init__.py").write_text(text)
        importlib.invalidate_caches()
        sys.modules.pop("tensorrt", None)
        flavour._load.cache_clear()
        assert said in flavour.fault()
        assert "edgewarden doctor" in flavour.fault()
    sys.modules.pop("tensorrt", None)
    flavour._load.cache_clear()
