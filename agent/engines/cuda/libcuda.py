"""The driver's own calls, by ctypes: those that pycuda has not (graphs), or not with every numpy (locking memory)."""

from __future__ import annotations

import ctypes
import functools
from typing import Any

from agent.errors import DeviceLostError, EngineError

MAPPED = 2
LOST = (
    "launch failure",
    "illegal memory access",
    "illegal instruction",
    "misaligned address",
    "invalid address space",
    "invalid program counter",
    "hardware stack error",
    "uncorrectable ECC",
    "context is destroyed",
    "launch timed out",
    "device-side assert",
    "GPU is lost",
)
"""In the driver's words: after these a context answers nothing any more."""


@functools.cache
def libcuda() -> Any:
    """The library. Raises EngineError without one."""
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError:
        raise EngineError("cuda: the driver (libcuda.so.1) is not installed") from None


def check(result: int, call: str) -> None:
    """Raises EngineError with the driver's words for a result other than success."""
    if result == 0:
        return
    text = ctypes.c_char_p()
    libcuda().cuGetErrorString(result, ctypes.byref(text))
    raise failure(f"cuda: {call}: {(text.value or b'unknown error').decode()} ({result})")


def failure(message: str) -> EngineError:
    """The error for it: DeviceLostError where the driver's words say that nothing works any more."""
    if any(words in message for words in LOST):
        return DeviceLostError(f"{message}; the device is lost until edgewarden is started anew")
    return EngineError(message)


def lock_memory(address: int, size: int) -> int:
    """Page-lock host memory where it lies; the device's address of it. Raises EngineError."""
    cuda, found = libcuda(), ctypes.c_void_p()
    check(cuda.cuMemHostRegister_v2(ctypes.c_void_p(address), ctypes.c_size_t(size), MAPPED), "cuMemHostRegister")
    try:
        got = cuda.cuMemHostGetDevicePointer_v2(ctypes.byref(found), ctypes.c_void_p(address), 0)
        check(got, "cuMemHostGetDevicePointer")
    except BaseException:
        unlock_memory(address)
        raise
    return int(found.value or 0)


def unlock_memory(address: int) -> None:
    """What was locked is ordinary memory again."""
    libcuda().cuMemHostUnregister(ctypes.c_void_p(address))
