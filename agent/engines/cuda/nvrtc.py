"""CUDA C++ to machine code inside this process, by NVRTC: the service may not start a compiler.

What was compiled is kept by source, options, capability and compiler; the cache is as trusted as the store it lies in.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agent.errors import EngineError

log = logging.getLogger(__name__)

NAMES = ("libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2", "libnvrtc.so")
CUDA = Path("/usr/local/cuda")
FOLDERS = ("lib64", "targets/aarch64-linux/lib", "targets/x86_64-linux/lib")


def cubin(source: str, capability: tuple[int, int], options: Sequence[str], cache: Path | None) -> bytes:
    """Machine code for a compute capability, from ``cache`` (a folder) where it was compiled before.

    Raises EngineError without NVRTC, or with the compiler's log.
    """
    arch = f"--gpu-architecture=sm_{capability[0]}{capability[1]}"
    key = hashlib.sha256("\0".join((source, arch, *options, version())).encode()).hexdigest()
    kept = _kept(cache, key)
    if kept is not None:
        return kept
    code = _compile(source, [arch, *options])
    if cache is not None:
        _keep(cache / f"{key}.cubin", code)
    return code


@functools.cache
def version() -> str:
    """Of the compiler, as ``13.0``. Raises EngineError without one."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    _check(_library().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)), "nvrtcVersion")
    return f"{major.value}.{minor.value}"


@functools.cache
def _library() -> Any:
    found = ctypes.util.find_library("nvrtc")
    places = [*NAMES, *(str(CUDA / folder / "libnvrtc.so") for folder in FOLDERS), *([found] if found else [])]
    for place in places:
        try:
            return ctypes.CDLL(place)
        except OSError:
            continue
    raise EngineError("CUDA's run-time compiler (libnvrtc.so) is not installed; it comes with the CUDA toolkit")


def _compile(source: str, options: Sequence[str]) -> bytes:
    library, program = _library(), ctypes.c_void_p()
    created = library.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernels.cu", 0, None, None)
    _check(created, "nvrtcCreateProgram")
    try:
        texts = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        if library.nvrtcCompileProgram(program, len(options), texts):
            raise EngineError(f"kernels.cu does not compile: {_text(library, program)}")
        size = ctypes.c_size_t()
        _check(library.nvrtcGetCUBINSize(program, ctypes.byref(size)), "nvrtcGetCUBINSize")
        code = ctypes.create_string_buffer(size.value)
        _check(library.nvrtcGetCUBIN(program, code), "nvrtcGetCUBIN")
        return code.raw
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def _text(library: Any, program: ctypes.c_void_p) -> str:
    size = ctypes.c_size_t()
    library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    text = ctypes.create_string_buffer(max(1, size.value))
    library.nvrtcGetProgramLog(program, text)
    return " ".join(text.value.decode("utf-8", "replace").split())[:600]


def _check(result: int, call: str) -> None:
    if result:
        raise EngineError(f"{call} failed with NVRTC's error {result}")


def _kept(cache: Path | None, key: str) -> bytes | None:
    """What the cache has, if it is whole: the file begins with the hash of the rest."""
    if cache is None:
        return None
    try:
        content = (cache / f"{key}.cubin").read_bytes()
    except OSError:
        return None
    digest, code = content[:32], content[32:]
    return code if hashlib.sha256(code).digest() == digest else None


def _keep(target: Path, code: bytes) -> None:
    part = target.with_suffix(f".{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        part.write_bytes(hashlib.sha256(code).digest() + code)
        part.replace(target)
    except OSError as error:
        log.warning("%s: compiled kernels cannot be kept: %s", target, error.strerror)
        part.unlink(missing_ok=True)
