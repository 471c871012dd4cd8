"""What ``doctor`` says of the board, its GPU and the libraries that compute on it. Pure: facts in, findings out.

Gathering the facts is the command's work; cameras, power, disks, clock and service have files of their own.
"""

from __future__ import annotations

from typing import NamedTuple

from agent.board.cuda_driver import Driver, Gpu
from agent.board.finding import Finding
from agent.board.jetpack import pycuda_command, release_of, tensorrt_command, too_old
from agent.board.jetson import Jetson
from agent.board.packages import about_numpy

OLDEST_TENSORRT = (8, 6)
GIB = 1 << 30


class Software(NamedTuple):
    """What is installed, each as a version, empty where it is not, and then why in ``…_fault``. ``in_system``: whether
    the system's Python has TensorRT; ``venv``: whether this one is an environment of its own."""

    tensorrt: str
    tensorrt_fault: str
    in_system: bool
    venv: bool
    pycuda: str
    onnxruntime: str
    providers: tuple[str, ...]
    opencv: str
    gstreamer: bool
    opencv_fault: str = ""


def machine(jetson: Jetson, system: str, python: str) -> Finding:
    """The board and its JetPack."""
    if not jetson.l4t:
        return Finding("machine", "ok", ", ".join(part for part in (jetson.model, system, f"Python {python}") if part))
    release = release_of(jetson.l4t)
    named = f"JetPack {release.jetpack} (L4T {jetson.l4t})" if release else f"L4T {jetson.l4t}"
    found = f"{jetson.model or 'Jetson'}, {named}, {system}, Python {python}"
    old = too_old(jetson.l4t)
    return Finding("machine", "warn" if old else "ok", found, old)


def gpu(driver: Driver, jetson: Jetson, native: str, *, container: bool) -> Finding:
    """The first GPU. ``native``: precisions that it computes natively, in words."""
    if not driver.gpus:
        return Finding("GPU", "missing" if jetson.l4t else "none", driver.fault, _gpu_advice(driver, jetson, container))
    one = driver.gpus[0]
    others = f", and {len(driver.gpus) - 1} more" if len(driver.gpus) > 1 else ""
    return Finding("GPU", "ok", f"{_gpu_words(one)}; natively {native}{others}")


def cuda_driver(driver: Driver) -> Finding:
    """The newest CUDA that the driver runs."""
    if not driver.cuda:
        return Finding("CUDA driver", "none", "none here")
    return Finding("CUDA driver", "ok", f"runs CUDA up to {driver.cuda}")


def tensorrt(software: Software, jetson: Jetson, has_gpu: bool) -> Finding:
    """The library, and whether its version is one that we know."""
    if not software.tensorrt:
        command = tensorrt_command(jetson, in_system=software.in_system, venv=software.venv)
        wanted = has_gpu or bool(jetson.l4t)
        fault = software.tensorrt_fault.partition("; `edgewarden doctor`")[0]
        return Finding("TensorRT", "missing" if wanted else "none", fault, command if wanted else "")
    name, _, version = software.tensorrt.partition(" ")
    if name == "tensorrt" and _numbers(version) < OLDEST_TENSORRT:
        return Finding("TensorRT", "warn", software.tensorrt, "TensorRT 8.6 or newer is needed")
    release = release_of(jetson.l4t)
    if release is not None and name == "tensorrt" and not version.startswith(f"{release.tensorrt}."):
        told = f"{software.tensorrt}; JetPack {release.jetpack} brings {release.tensorrt}"
        command = tensorrt_command(jetson, in_system=software.in_system, venv=software.venv)
        return Finding("TensorRT", "warn", told, f"pip uninstall -y tensorrt; {command}")
    return Finding("TensorRT", "ok", software.tensorrt)


def pycuda(software: Software, jetson: Jetson, has_gpu: bool) -> Finding:
    """Device memory and streams for TensorRT."""
    if software.pycuda:
        return Finding("pycuda", "ok", software.pycuda)
    wanted = has_gpu or bool(jetson.l4t)
    return Finding("pycuda", "missing" if wanted else "none", "not installed", pycuda_command(jetson) if wanted else "")


def onnxruntime(software: Software) -> Finding:
    """What works while plans are built, and everywhere else."""
    if not software.onnxruntime:
        return Finding("ONNX Runtime", "missing", "not installed", "pip install onnxruntime")
    return Finding("ONNX Runtime", "ok", f"{software.onnxruntime} ({', '.join(software.providers)})")


def openvino(installed: str, *, bf16: bool) -> Finding:
    """The other engine on the processor, which nobody needs. ``bf16``: whether the processor computes in bfloat16."""
    native = "this processor has bfloat16" if bf16 else "this processor has no bfloat16"
    if installed:
        return Finding("OpenVINO", "ok", f"{installed} ({native})")
    return Finding("OpenVINO", "none", f"not installed; may be faster than ONNX Runtime ({native})")


def opencv(software: Software, jetson: Jetson) -> Finding:
    """Pictures; with GStreamer on a Jetson, which a wheel from the registry has not."""
    if software.opencv_fault:
        libraries = (
            "sudo apt-get install -y libgl1 libglib2.0-0; or: pip install --force-reinstall opencv-python-headless"
        )
        advice = "pip install 'numpy<2'  # it was built for that" if about_numpy(software.opencv_fault) else libraries
        return Finding("OpenCV", "missing", f"cannot be imported: {software.opencv_fault}", advice)
    if not software.opencv:
        command = "sudo apt-get install -y libopencv-python" if jetson.l4t else "pip install opencv-python-headless"
        return Finding("OpenCV", "missing", "not installed", command)
    gstreamer = "with GStreamer" if software.gstreamer else "without GStreamer"
    if jetson.l4t and not software.gstreamer:
        advice = "pip uninstall opencv-python opencv-python-headless  # they hide JetPack's own, which CSI cameras need"
        return Finding("OpenCV", "warn", f"{software.opencv}, {gstreamer}", advice)
    return Finding("OpenCV", "ok", f"{software.opencv}, {gstreamer}")


def _gpu_words(one: Gpu) -> str:
    major, minor = one.capability
    shared = "shared with the CPU" if one.integrated else "of its own"
    memory = f"{one.memory / GIB:.1f} GiB {shared}"
    return f"{one.name}, compute capability {major}.{minor}, {one.multiprocessors} multiprocessors, {memory}"


def _gpu_advice(driver: Driver, jetson: Jetson, container: bool) -> str:
    if container:
        return "start the container with --runtime nvidia (Jetson) or --gpus all"
    if jetson.l4t:
        return "sudo usermod -aG video,render $USER  # then log in again"
    if driver.cuda:
        return "restart the machine if the driver was updated; nvidia-smi says more"
    return ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
