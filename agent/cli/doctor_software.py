"""The facts that ``doctor`` gathers of what is installed: asked of the libraries themselves, by importing them."""

from __future__ import annotations

import contextlib
import functools
import io
import platform
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.board.finding import Finding
    from agent.board.findings import Software
    from agent.board.packages import Packages

PRECISIONS = ("fp16", "int8")
SYSTEM_TENSORRT = ("usr/lib/python3/dist-packages/tensorrt", "usr/lib/python3.*/dist-packages/tensorrt")


def software_findings(root: Path, *, container: bool) -> Iterator[Finding]:
    """The board, its GPU and the libraries for it."""
    from agent.board import findings
    from agent.board.cuda_driver import ask_driver
    from agent.board.jetson import read_jetson
    from agent.engines.openvino import computes_bf16

    jetson, driver, software = read_jetson(root), ask_driver(), read_software(root)
    has_gpu = bool(driver.gpus)
    yield findings.machine(jetson, f"{platform.system().lower()} {platform.machine()}", platform.python_version())
    yield findings.gpu(driver, jetson, _native(driver.gpus[0].capability) if has_gpu else "", container=container)
    yield findings.cuda_driver(driver)
    yield findings.tensorrt(software, jetson, has_gpu)
    yield findings.pycuda(software, jetson, has_gpu)
    yield findings.onnxruntime(software)
    yield findings.openvino(_versions().get("openvino", ""), bf16=computes_bf16())
    yield findings.opencv(software, jetson)


def python_findings(root: Path, *, jetson: bool) -> Iterator[Finding]:
    """The interpreter and whether the packages in it fit together."""
    from agent.board import packages

    known = read_packages(root)
    yield packages.python(known)
    yield packages.numpy(known, jetson=jetson)
    yield packages.wheels(known, jetson=jetson)


def read_software(root: Path) -> Software:
    """What is installed of what computes."""
    from agent.board.findings import Software
    from agent.engines.flavour import fault, installed

    tensorrt_fault = fault()
    opencv, gstreamer, opencv_fault, _ = _opencv()
    onnxruntime, providers = _onnxruntime()
    return Software(
        tensorrt="" if tensorrt_fault else installed().backend,
        tensorrt_fault=tensorrt_fault,
        in_system=any(any(root.glob(pattern)) for pattern in SYSTEM_TENSORRT),
        venv=sys.prefix != sys.base_prefix,
        pycuda=_versions().get("pycuda", ""),
        onnxruntime=onnxruntime,
        providers=providers,
        opencv=opencv,
        gstreamer=gstreamer,
        opencv_fault=opencv_fault,
    )


def read_packages(root: Path) -> Packages:
    """What is installed of what the rest rests on."""
    from agent.board.packages import Packages, has_system_opencv

    _, _, fault, file = _opencv()
    return Packages(sys.version_info[:3], _versions(), fault, has_system_opencv(root), file)


def _versions() -> Mapping[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    from agent.board.packages import WHEELS

    known: dict[str, str] = {}
    for package in ("numpy", "pycuda", "openvino", *WHEELS):
        try:
            known[package] = version(package)
        except PackageNotFoundError:
            continue
    return known


@functools.cache
def _opencv() -> tuple[str, bool, str, str]:
    """Version, whether it has GStreamer, why it cannot be imported, and where it lies."""
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # numpy writes a page about what is told here in a line
            import cv2
    except ModuleNotFoundError:
        return "", False, "", ""
    except Exception as error:  # noqa: BLE001 - built for another numpy it fails in more ways than one
        return "", False, (str(error).splitlines() or [type(error).__name__])[0], ""
    line = next((line for line in cv2.getBuildInformation().splitlines() if "GStreamer" in line), "")
    return cv2.__version__, "YES" in line, "", str(cv2.__file__)


def _onnxruntime() -> tuple[str, tuple[str, ...]]:
    try:
        import onnxruntime
    except ImportError:
        return "", ()
    return onnxruntime.__version__, tuple(onnxruntime.get_available_providers())


def _native(capability: tuple[int, int]) -> str:
    from agent.precision.match import not_native

    return ", ".join(["fp32", *(name for name in PRECISIONS if not not_native(name, capability))])
