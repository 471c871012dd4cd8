"""How fast a package is as TensorRT plans on this machine's GPU: built where they are missing, loaded, run and timed.

Which plan the daemon then uses, upgrade.py measures again and match.py says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from agent.detection.detector import Detector
from agent.detection.plans import wanted_plan
from agent.engines.on_processor import BF16
from agent.engines.plan_supply import supply
from agent.errors import AgentError, EngineError
from agent.host.extensions import extensions
from agent.precision.speed import seconds_alone
from agent.precision.usable import buildable

if TYPE_CHECKING:
    from agent.detection.manifest import Variant
    from agent.detection.model import ModelPackage
    from agent.detection.plans import TensorRT, Wanted
    from agent.engines.base import Engine
    from agent.engines.onnx import Optimisation
    from agent.engines.plan_store import PlanStore
    from agent.precision.trial import OpenEngine

Tell = Callable[[str, float], None]
"""Hears the phase of a build and how far it is, 0..1."""


class OnGpu(NamedTuple):
    """Seconds an inference by precision, and what is in the way of the others."""

    seconds: Mapping[str, float]
    faults: Mapping[str, str]

    @property
    def best(self) -> float | None:
        """Of the fastest; None where nothing runs."""
        return min(self.seconds.values(), default=None)


def plan_opener(package: ModelPackage, tensorrt: TensorRT, plans: PlanStore, tell: Tell | None) -> OpenEngine:
    """Loads a precision as a plan. What is missing is built, unless ``tell`` is None. Raises AgentError."""

    def opened(_file: Path, _level: Optimisation, precision: str) -> Engine:
        if precision == BF16:
            raise EngineError(f"{package.name}: bf16 runs on OpenVINO alone, not on TensorRT")
        wanted = wanted_plan(package, package.choose(precision), tensorrt.place, plans, None)
        plan = supply(plans, wanted.order, None if tell is None else _builder(tensorrt, wanted, tell))
        return tensorrt.open_plan(plan.content, tensorrt.place.flavour)

    return opened


def on_gpu(package: ModelPackage, tensorrt: TensorRT, plans: PlanStore, tell: Tell | None) -> OnGpu:
    """Every variant that loses little enough, as a plan. What is missing is built, unless ``tell`` is None."""
    opened = plan_opener(package, tensorrt, plans, tell)
    seconds: dict[str, float] = {}
    faults: dict[str, str] = {}
    for one in buildable(package).values():
        precision = one.variant.precision
        if not one.verdict.usable:
            continue
        try:
            engine = opened(package.file_of(one.variant), "all", precision)
            seconds[precision] = _seconds(package, one.variant, engine)
        except AgentError as error:
            faults[precision] = str(error)
    return OnGpu(seconds, faults)


def _builder(tensorrt: TensorRT, wanted: Wanted, tell: Tell) -> Callable[[Path], None]:
    def build(part: Path) -> None:
        tensorrt.build(wanted.request, part, tell)

    return build


def _seconds(package: ModelPackage, variant: Variant, engine: Engine) -> float:
    try:
        detector = Detector(package, engine, precision=variant.precision, decoders=extensions().decoders)
        detector.warm_up()
        return seconds_alone(detector)
    finally:
        engine.close()
