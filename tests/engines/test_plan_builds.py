"""Real detectors become real plans, without a GPU; what TensorRT refuses is told with the way out."""

from __future__ import annotations

import logging
import os
import signal
import threading
from pathlib import Path

import msgspec
import pytest
from trt_plans import need_tensorrt, plan_bytes, request_for, variant, workshop

from agent.engines.build_process import run_build
from agent.engines.build_request import Options, Range, Sizes, picture_input, profile_of
from agent.engines.flavour import installed
from agent.engines.onnx_file import Input, read_onnx
from agent.engines.plan_header import read_header
from agent.errors import EngineError


@pytest.mark.parametrize("target", [(8, 6), (8, 9)], ids=["sm86", "sm89"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("model", ["yolox_nano_416", "nanodet_m_320"])
def test_every_precision_of_real_detectors_becomes_a_plan(
    material: Path, model: str, precision: str, target: tuple[int, int]
) -> None:
    plan = plan_bytes(material, model, precision, target)
    assert read_header(plan).backend == installed().backend
    assert len(plan) > 1 << 20


def test_plans_for_different_gpus_precisions_and_batches_differ(material: Path) -> None:
    model = "nanodet_m_320"
    plans = [plan_bytes(material, model, "fp32", (8, 6)), plan_bytes(material, model, "fp32", (8, 9))]
    plans += [plan_bytes(material, model, "fp16", (8, 6)), plan_bytes(material, model, "int8", (8, 6))]
    assert len({bytes(plan) for plan in plans}) == 4
    assert len(plans[2]) < len(plans[0]), "half the bytes a weight"


def test_the_batch_profile_reaches_the_builder(material: Path, tmp_path: Path) -> None:
    need_tensorrt()
    onnx = variant(material, "nanodet_m_320", "fp32")
    request = request_for(onnx, "fp32", most=8)
    assert str(request.profile) == "input.1 1x3x320x320..1x3x320x320..8x3x320x320"
    # What the builder makes of it shows where a profile cannot be: half-way through this graph.
    refused = msgspec.structs.replace(request.profile, least=(4, 3, 320, 320), most=(1, 3, 320, 320))
    with pytest.raises(EngineError, match=r"refuses the shapes input\.1 4x3x320x320\.\."):
        run_build(msgspec.structs.replace(request, profile=refused), tmp_path / "plan")


@pytest.mark.parametrize("batch", [Range(0, 1, 2), Range(4, 2, 8), Range(1, 9, 8)])
def test_sizes_that_do_not_grow_are_refused_before_anything_is_built(batch: Range) -> None:
    side = Range(320, 320, 320)
    with pytest.raises(EngineError, match="batch: least, typical and most must grow from 1"):
        profile_of(Input("images", (None, 3, 320, 320)), Sizes(batch, side, side))


def test_a_batch_that_a_fixed_graph_does_not_take_is_an_error_only_where_it_was_asked_for() -> None:
    picture, sizes = Input("images", (1, 3, 320, 320)), Sizes(Range(1, 1, 4), *[Range(320, 320, 320)] * 2)
    assert str(profile_of(picture, sizes)) == "images 1x3x320x320"
    with pytest.raises(EngineError, match="takes batches of 1, not up to 4"):
        profile_of(picture, sizes, strict=True)


def test_open_height_and_width_get_a_profile_too(material: Path, tmp_path: Path) -> None:
    need_tensorrt()
    onnx = material / "models" / "yunet_n_dynamic.onnx"
    picture = picture_input(onnx, read_onnx(onnx).inputs)
    assert picture.shape == (None, 3, None, None)
    profile = profile_of(picture, Sizes(Range(1, 1, 2), Range(160, 320, 320), Range(160, 320, 640)))
    assert str(profile) == "input 1x3x160x160..1x3x320x320..2x3x320x640"
    base = request_for(onnx, "fp32")
    request = msgspec.structs.replace(base, profile=profile, target=(8, 9))
    run_build(request, tmp_path / "plan")
    assert read_header((tmp_path / "plan").read_bytes()).flavour == "tensorrt-rtx"


@pytest.mark.parametrize("model", ["yolo11n_int8_agpl", "yolo26n_int8_agpl"])
def test_dynamic_int8_is_refused_with_the_node_and_the_way_out(
    material: Path, model: str, caplog: pytest.LogCaptureFixture
) -> None:
    need_tensorrt()
    onnx = material / "models" / f"{model}.onnx"
    with pytest.raises(EngineError) as refused:
        run_build(request_for(onnx, "int8"), workshop() / "never")
    told = str(refused.value)
    assert "cannot run node images_QuantizeLinear (DynamicQuantizeLinear)" in told
    assert "x ConvInteger" in told
    assert "edgewarden model prepare" in told
    assert "\n" not in told
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR], "told once, by the error"


def test_a_target_that_the_library_does_not_know_is_named_with_those_it_knows(material: Path, tmp_path: Path) -> None:
    need_tensorrt()
    onnx = variant(material, "nanodet_m_320", "fp32")
    with pytest.raises(EngineError, match=r"knows no target sm53, only .*sm86.*sm89"):
        run_build(request_for(onnx, "fp32", (5, 3)), tmp_path / "plan")


def test_options_that_this_machine_lacks_are_refused(material: Path, tmp_path: Path) -> None:
    need_tensorrt()
    onnx = variant(material, "nanodet_m_320", "fp32")
    base = request_for(onnx, "fp32")
    request = msgspec.structs.replace(base, precision="fp16", options=Options(dla=0))
    with pytest.raises(EngineError, match="there is no DLA core 0 here, there are 0"):
        run_build(request, tmp_path / "plan")


@pytest.mark.parametrize("option", ["version_compatible", "hardware_compatible"])
def test_what_tensorrt_rtx_only_warns_of_is_refused(material: Path, tmp_path: Path, option: str) -> None:
    need_tensorrt()
    base = request_for(variant(material, "nanodet_m_320", "fp32"), "fp32")
    with pytest.raises(EngineError, match="makes no compatible plans; name each GPU as a target"):
        run_build(msgspec.structs.replace(base, options=Options(**{option: True})), tmp_path / "plan")


def test_another_library_than_the_one_meant_builds_nothing(material: Path, tmp_path: Path) -> None:
    need_tensorrt()
    onnx = variant(material, "nanodet_m_320", "fp32")
    base = request_for(onnx, "fp32")
    request = msgspec.structs.replace(base, backend="tensorrt 10.3.0")
    with pytest.raises(EngineError, match=r"tensorrt 10\.3\.0 was meant, here is tensorrt-rtx"):
        run_build(request, tmp_path / "plan")


def test_progress_is_told_and_the_log_becomes_records(
    material: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    need_tensorrt()
    onnx = variant(material, "yolox_nano_416", "fp32")
    told: list[tuple[str, float]] = []
    with caplog.at_level(logging.DEBUG, "agent.engines.tensorrt"):
        run_build(request_for(onnx, "fp32"), tmp_path / "plan", lambda phase, share: told.append((phase, share)))
    shares = [share for _, share in told]
    assert shares
    assert all(0 <= share <= 1 for share in shares)
    assert shares[-1] == 1.0
    records = [record for record in caplog.records if record.name == "agent.engines.tensorrt"]
    assert any("Engine generation completed" in record.getMessage() for record in records)
    assert all(hasattr(record, "tensorrt_place") for record in records)
    warned = [record for record in records if record.levelno == logging.WARNING]
    assert all("\n" not in record.getMessage() for record in warned)


def test_a_builder_that_is_killed_is_an_error_that_says_so(material: Path, tmp_path: Path) -> None:
    need_tensorrt()
    onnx = variant(material, "yolox_nano_416", "fp32")

    def kill(_phase: str, _share: float) -> None:
        for child in _children(os.getpid()):
            os.kill(child, signal.SIGKILL)

    with pytest.raises(EngineError, match="the builder was killed, as the system does when memory runs out"):
        run_build(request_for(onnx, "fp32"), tmp_path / "plan", kill)


def test_a_build_that_is_no_longer_wanted_ends_at_once(material: Path, tmp_path: Path) -> None:
    need_tensorrt()
    onnx = variant(material, "yolox_nano_416", "fp32")
    stop = threading.Event()
    with pytest.raises(EngineError, match="building was given up"):
        run_build(request_for(onnx, "fp32"), tmp_path / "plan", lambda phase, share: stop.set(), stop.is_set)
    assert not (tmp_path / "plan").exists()
    assert not _children(os.getpid())


def _children(parent: int) -> list[int]:
    """Builders started by a process."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            after = (folder / "stat").read_text().rpartition(")")[2].split()
            words = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if int(after[1]) == parent and b"build_child" in words:
            found.append(int(folder.name))
    return found
