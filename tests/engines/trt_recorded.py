"""A TensorRT made of its recorded bindings: what a version lacks raises AttributeError, what it has is written down.

It builds nothing. It shows which calls our builder makes with each version, on machines that have none of them.
"""

from __future__ import annotations

import enum
import types
from collections.abc import Callable
from typing import Any

from trt_surface import Surface

PLAN_HEADER = b"ftrt" + bytes(20)
SEVERITIES = ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE")


class Named(enum.IntEnum):
    """An enum that shows itself as TensorRT's do: ``ErrorCode.UNSUPPORTED_NODE``."""

    def __str__(self) -> str:
        return f"{type(self).__name__}.{self.name}"


class Recorded:
    """The module and what was done with it: ``calls`` (class, method, arguments) and ``values`` (class, name, value).

    ``shape``: of the network's only input, named ``images``. ``faults``: what the parser says, as (code, text, node).
    """

    def __init__(
        self, surface: Surface, shape: tuple[int, ...] = (-1, 3, 64, 64), faults: tuple[tuple[str, str, int], ...] = ()
    ) -> None:
        self.surface, self.shape, self.faults = surface, shape, faults
        self.calls: list[tuple[str, str, tuple[Any, ...]]] = []
        self.values: list[tuple[str, str, Any]] = []
        self.timings_fit = True
        self.module = types.ModuleType("tensorrt")
        numbers = [int(part) for part in surface.version.split(".")]
        self.header = PLAN_HEADER + bytes([*numbers, 0, 0][:4])
        vars(self.module)["__version__"] = surface.version
        for name in surface.classes:
            setattr(self.module, name, self._enum(name) if surface.members(name) else self._class(name))
        severity: Any = enum.IntEnum("Severity", {name: number for number, name in enumerate(SEVERITIES)})  # type: ignore[misc]
        for one in SEVERITIES:
            setattr(self.module.ILogger, one, severity[one])
        vars(self.module)["Dims"] = list

    def called(self, name: str) -> list[tuple[Any, ...]]:
        """The arguments of each call of a method."""
        return [arguments for _, method, arguments in self.calls if method == name]

    def flags(self) -> set[str]:
        """Names of the builder flags that were set."""
        return {flag.name for (flag,) in self.called("set_flag")}

    def _enum(self, name: str) -> Any:
        functional: Any = Named  # mypy takes the call for a look-up of a member
        return functional(name, dict(self.surface.members(name)))

    def _class(self, name: str) -> type:
        attributes = self.surface.attributes(name)
        recorded = self

        def get(_self: Any, attribute: str) -> Any:
            if attribute not in attributes:
                raise AttributeError(f"TensorRT {recorded.surface.version}: {name} has no {attribute}")
            if attributes[attribute] in ("ro", "rw"):
                return recorded._property(name, attribute)
            return recorded._method(name, attribute)

        def put(self: Any, attribute: str, value: Any) -> None:
            subclass = type(self).__name__ != name  # ours: it has attributes of its own
            if not subclass and attributes.get(attribute) != "rw":
                raise AttributeError(f"TensorRT {recorded.surface.version}: {name}.{attribute} cannot be set")
            if not subclass:
                recorded.values.append((name, attribute, value))
            object.__setattr__(self, attribute, value)

        def start(_self: Any, *arguments: Any) -> None:
            recorded.calls.append((name, "__init__", arguments))

        return type(
            name,
            (),
            {"__init__": start, "__getattr__": get, "__setattr__": put, "__bytes__": lambda _self: recorded._plan()},
        )

    def _plan(self) -> bytes:
        return self.header + b"plan"

    def _make(self, name: str) -> Any:
        made: Any = getattr(self.module, name)
        return made.__new__(made)

    def _property(self, name: str, attribute: str) -> Any:
        known = {
            ("INetworkDefinition", "num_inputs"): 1,
            ("ITensor", "name"): "images",
            ("ITensor", "shape"): list(self.shape),
            ("OnnxParser", "num_errors"): len(self.faults),
            ("Builder", "num_DLA_cores"): 2,
        }
        return known[name, attribute]

    def _method(self, name: str, method: str) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            self.calls.append((name, method, (*arguments, *named.values())))
            return self._result(method, arguments)

        return call

    def _result(self, method: str, arguments: tuple[Any, ...]) -> Any:
        made = {
            "create_network": "INetworkDefinition",
            "create_builder_config": "IBuilderConfig",
            "create_optimization_profile": "IOptimizationProfile",
            "build_serialized_network": "IHostMemory",
            "create_timing_cache": "ITimingCache",
            "get_timing_cache": "ITimingCache",
            "serialize": "IHostMemory",
            "get_input": "ITensor",
            "get_error": "ParserError",
        }
        if method in made:
            self._fault = self.faults[arguments[0]] if method == "get_error" else ("SUCCESS", "", -1)
            return self._make(made[method])
        code = getattr(self.module.ErrorCode, self._fault[0]) if method == "code" else None
        plain = {
            "parse_from_file": not self.faults,
            "set_timing_cache": self.timings_fit,
            "add_optimization_profile": 0,
            "code": code,
            "desc": self._fault[1] if method == "desc" else "",
            "node": self._fault[2] if method == "node" else -1,
            "node_name": "the_node",
            "node_operator": "TheOperator",
        }
        return plain.get(method)
