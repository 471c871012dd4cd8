"""Real plans for tests: variants of real detectors, built once a session by TensorRT-RTX for GPUs that are not here."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

import pytest

from agent.engines.build_process import run_build
from agent.engines.build_request import BuildRequest, Options, Profile, Range, Sizes, picture_input, profile_of
from agent.engines.flavour import fault, installed
from agent.engines.identity import PlanIdentity, identity_of
from agent.engines.onnx_file import read_onnx
from agent.engines.plan_store import Order, slot_name
from agent.engines.plan_supply import Build
from agent.precision.activations import histograms
from agent.precision.graph import load_graph
from agent.precision.half import halved
from agent.precision.open_batch import open_batch
from agent.precision.quantise import quantised

SIZES = {"yolox_nano_416": 416, "nanodet_m_320": 320, "ultraface_rfb_320": 320}
WORKSPACE = 256 << 20


def need_tensorrt() -> None:
    """Skip, saying why, where there is no TensorRT that builds for other GPUs."""
    if reason := fault():
        pytest.skip(reason)
    if installed().name != "tensorrt-rtx":
        pytest.skip(f"{installed().backend} builds for the GPU of this machine alone")


@cache
def workshop() -> Path:
    """A folder for what is made once; gone at the end."""
    folder = Path(tempfile.mkdtemp(prefix="edgewarden-plans-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def variant(material: Path, model: str, precision: str) -> Path:
    """The detector's graph in that precision, its batch open."""
    path = workshop() / f"{model}-{precision}.onnx"
    if precision == "fp32":
        open_batch(material / "models" / f"{model}.onnx", path)
        return path
    graph = load_graph(variant(material, model, "fp32"), (1, 3, SIZES[model], SIZES[model]))
    if precision == "fp16":
        proto = halved(graph)
    else:
        proto = quantised(graph, [node.name for node in graph.weighted], _thresholds(graph, SIZES[model]))
    path.write_bytes(proto.SerializeToString())
    return path


def request_for(onnx: Path, precision: str, target: tuple[int, int] = (8, 6), most: int = 4) -> BuildRequest:
    """As the command line would ask for it: any batch from 1 to ``most``."""
    return BuildRequest(
        onnx=str(onnx),
        backend=installed().backend,
        precision=precision,
        profile=profile(onnx, most),
        target=target,
        workspace=WORKSPACE,
    )


def profile(onnx: Path, most: int = 4) -> Profile:
    """Any batch from 1 to ``most``, tuned for 1."""
    side = Range(320, 320, 320)
    return profile_of(picture_input(onnx, read_onnx(onnx).inputs), Sizes(Range(1, 1, most), side, side))


def identity_for(request: BuildRequest) -> PlanIdentity:
    """What the plan of that request is."""
    assert request.target is not None
    return identity_of(
        Path(request.onnx),
        backend=request.backend,
        gpu="",
        capability="{}.{}".format(*request.target),
        precision=request.precision,
        calibration=None,
        shapes=str(request.profile),
        options=str(Options()),
    )


def order_for(request: BuildRequest) -> Order:
    """The same as an order to the store."""
    path = Path(request.onnx)
    target = "sm{}{}".format(*(request.target or (0, 0)))
    slot = slot_name(path.stem, request.precision, target, path.parent)
    return Order(slot, path.stem, path, identity_for(request))


@cache
def plan_bytes(material: Path, model: str, precision: str, target: tuple[int, int] = (8, 6)) -> bytes:
    """The plan, really built."""
    need_tensorrt()
    onnx = variant(material, model, precision)
    path = workshop() / f"{onnx.stem}-{target[0]}{target[1]}.built"
    run_build(request_for(onnx, precision, target), path)
    return path.read_bytes()


def copying(content: bytes) -> Build:
    """A builder that has built already."""

    def build(part: Path) -> None:
        part.write_bytes(content)

    return build


def _thresholds(graph: object, side: int) -> dict[str, float]:
    import numpy as np

    from agent.precision.graph import Graph

    assert isinstance(graph, Graph)
    tensors = sorted({node.data for node in graph.weighted})
    picture = (np.random.default_rng(3).random((1, 3, side, side)) * 255).astype(np.float32)
    return {
        name: found.threshold("minmax") for name, found in histograms(graph.proto, tensors, lambda: [picture]).items()
    }
