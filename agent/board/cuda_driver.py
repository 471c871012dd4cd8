"""The GPUs as NVIDIA's driver knows them, asked through libcuda alone: no CUDA context is made, no memory is taken.

Whoever computes on them (the TensorRT engine) makes contexts of its own.
"""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

LIBRARY = "libcuda.so.1"
CAPABILITY_MAJOR, CAPABILITY_MINOR, MULTIPROCESSORS, INTEGRATED = 75, 76, 16, 18
NAME_BYTES = 256
_ERRORS = {
    35: "the driver is older than this CUDA needs",
    100: "no CUDA device",
    101: "no such CUDA device",
    802: "the GPU is not ready yet",
    803: "driver and library are of different versions: restart the machine",
    804: "this driver does not run this CUDA on this GPU",
    999: "the driver failed: dmesg may say more",
}


class Gpu(NamedTuple):
    """``capability``: CUDA's compute capability. ``memory``: bytes in all; ``integrated``: shared with the CPU.

    ``multiprocessors`` tell boards apart whose GPUs have one name, as all Orins have.
    """

    name: str
    capability: tuple[int, int]
    memory: int
    integrated: bool
    multiprocessors: int


class Driver(NamedTuple):
    """What the driver says. ``cuda``: the newest CUDA it runs, ``13.0``. ``fault``: why there are no GPUs."""

    cuda: str
    gpus: tuple[Gpu, ...]
    fault: str


def ask_driver(library: str = LIBRARY) -> Driver:
    """Ask it. Never raises: a machine without a GPU, without a driver, or with a broken one has a ``fault``."""
    try:
        cuda = ctypes.CDLL(library)
    except OSError:
        return Driver("", (), f"no NVIDIA driver ({library} is not there)")
    try:
        return _asked(cuda)
    except (AttributeError, OSError) as error:
        return Driver("", (), f"{library} is not what it should be: {error}")


def _asked(cuda: Any) -> Driver:
    if fault := _fault(cuda.cuInit(0)):
        return Driver(_version(cuda), (), fault)
    count = ctypes.c_int()
    if fault := _fault(cuda.cuDeviceGetCount(ctypes.byref(count))):
        return Driver(_version(cuda), (), fault)
    gpus = tuple(gpu for index in range(count.value) if (gpu := _gpu(cuda, index)) is not None)
    return Driver(_version(cuda), gpus, "" if gpus else "no CUDA device")


def _gpu(cuda: Any, index: int) -> Gpu | None:
    device, memory = ctypes.c_int(), ctypes.c_size_t()
    name = ctypes.create_string_buffer(NAME_BYTES)
    failed = (
        cuda.cuDeviceGet(ctypes.byref(device), index)
        or cuda.cuDeviceGetName(name, NAME_BYTES, device)
        or cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    )
    if failed:
        return None
    capability = _attribute(cuda, CAPABILITY_MAJOR, device), _attribute(cuda, CAPABILITY_MINOR, device)
    named = name.value.decode("utf-8", "replace")
    integrated = bool(_attribute(cuda, INTEGRATED, device))
    return Gpu(named, capability, int(memory.value), integrated, _attribute(cuda, MULTIPROCESSORS, device))


def _attribute(cuda: Any, which: int, device: ctypes.c_int) -> int:
    value = ctypes.c_int()
    cuda.cuDeviceGetAttribute(ctypes.byref(value), which, device)
    return int(value.value)


def _version(cuda: Any) -> str:
    version = ctypes.c_int()
    if cuda.cuDriverGetVersion(ctypes.byref(version)):
        return ""
    return f"{version.value // 1000}.{version.value % 1000 // 10}"


def _fault(code: int) -> str:
    return "" if code == 0 else _ERRORS.get(code, f"CUDA error {code}")
