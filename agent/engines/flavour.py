"""Which TensorRT is here: ``tensorrt`` (JetPack's, or from the registry) or TensorRT-RTX, its version and abilities.

``from agent.engines.flavour import trt`` is the only import of it in the program: it loads the library on first use,
and raises EngineError with the way out where there is none. What versions differ in is asked with ``hasattr``.
"""

from __future__ import annotations

import importlib
import os
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from agent.errors import EngineError

if TYPE_CHECKING:
    import tensorrt as trt

__all__ = ["Flavour", "can_build_for_others", "fault", "installed", "strongly_typed", "trt"]

MODULES = {
    "tensorrt": ("tensorrt", "tensorrt_bindings"),
    "tensorrt-rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings"),
}
CHOICE_VARIABLE = "EDGEWARDEN_TENSORRT"


class Flavour(NamedTuple):
    """``name``: ``tensorrt`` or ``tensorrt-rtx``. ``version``: in full, as the library says it."""

    name: str
    version: str

    @property
    def backend(self) -> str:
        """Name and version, as plans and speeds are known by."""
        return f"{self.name} {self.version}"


class _Loaded(NamedTuple):
    flavour: Flavour
    module: Any


def installed() -> Flavour:
    """The TensorRT of this machine: TensorRT before TensorRT-RTX, or the one that $EDGEWARDEN_TENSORRT names.

    Raises EngineError, one line, when there is none or it cannot be loaded.
    """
    return _load().flavour


def fault() -> str:
    """Why there is no TensorRT here; empty where there is one."""
    try:
        installed()
    except EngineError as error:
        return str(error)
    return ""


def strongly_typed() -> bool:
    """Whether precision is what the ONNX file says (TensorRT 10 and later), instead of a flag of the builder."""
    return "STRONGLY_TYPED" in _load().module.NetworkDefinitionCreationFlag.__members__


def can_build_for_others() -> bool:
    """Whether plans can be built for GPUs that are not in this machine."""
    return hasattr(_load().module, "ComputeCapability")


@cache
def _load() -> _Loaded:
    wanted = os.environ.get(CHOICE_VARIABLE, "")
    if wanted and wanted not in MODULES:
        raise EngineError(f"{CHOICE_VARIABLE}={wanted}: expected {' or '.join(MODULES)}")
    broken = []
    for name in [wanted] if wanted else MODULES:
        for module_name in MODULES[name]:
            try:
                module = importlib.import_module(module_name)
            except ModuleNotFoundError as error:
                if error.name != module_name:
                    broken.append(f"{module_name}: {error}")
                continue
            except (ImportError, OSError, RuntimeError, AttributeError) as error:
                broken.append(f"{module_name}: {' '.join(str(error).split())[:200]}")
                continue
            # A folder of type stubs imports as an empty package.
            if hasattr(module, "Builder"):
                return _Loaded(Flavour(name, str(module.__version__)), module)
    reason = f"cannot be loaded ({'; '.join(broken)})" if broken else "is not installed"
    raise EngineError(f"{wanted or 'TensorRT'} {reason}; `edgewarden doctor` says how to install it")


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name == "trt":
            return _load().module
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
