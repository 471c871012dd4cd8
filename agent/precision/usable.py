"""Which variants of a package may be used on this machine: the gate, asked of what is recorded in package and store."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from agent.engines.on_processor import BF16, version_of, why_not
from agent.errors import AgentError
from agent.precision.gate import MAX_LOSS, Verdict, judge, judge_accuracy
from agent.precision.speed import Contestant, identity_of, measure
from agent.precision.trial import on_backend

if TYPE_CHECKING:
    from agent.detection.manifest import Variant
    from agent.detection.model import ModelPackage
    from agent.engines.on_processor import Backend
    from agent.engines.store import SpeedStore


log = logging.getLogger(__name__)


MEASURE = Verdict(True, "the measure of the others")
"""Of fp32, and of what stands alone."""


class Judged(NamedTuple):
    """A variant and the gate's word on it."""

    variant: Variant
    verdict: Verdict


def judged(package: ModelPackage, store: SpeedStore, backend: Backend = "onnxruntime") -> Mapping[str, Judged]:
    """Every variant by precision, fp32 first. A speed that was never measured here is measured now (under a second)
    where the accuracy would pass, and remembered."""
    order = sorted(package.variant, key=lambda one: one.precision != "fp32")
    return {variant.precision: Judged(variant, _verdict(package, variant, store, backend)) for variant in order}


def insisted(
    package: ModelPackage, precision: str, store: SpeedStore, backend: Backend = "onnxruntime"
) -> Mapping[str, Judged]:
    """The one variant that the configuration names: usable, and where the gate refuses it, told so. Raises ModelError
    where there is none."""
    variant = package.choose(precision)
    return {precision: as_named(Judged(variant, _verdict(package, variant, store, backend)))}


def as_named(one: Judged) -> Judged:
    """A variant that ``[model] precision`` names: who names one has decided, and hears of it where the gate says no."""
    chosen = "chosen by [model] precision: " if one.verdict.usable else "FORCED by [model] precision although it "
    return one._replace(verdict=Verdict(True, chosen + one.verdict.reason))


def weight_of(variant: Variant, base: Variant) -> float:
    """Its accuracy against fp32's, 0..1: the ratio of the mAPs, or one less what it lost; 1 where nothing is known."""
    own, best = variant.accuracy.get("map50_95"), base.accuracy.get("map50_95")
    if isinstance(own, int | float) and isinstance(best, int | float) and best > 0:
        return min(1.0, max(0.0, own / best))
    loss = variant.accuracy.get("loss")
    return min(1.0, max(0.0, 1.0 - loss)) if isinstance(loss, int | float) else 1.0


def limit_of(variant: Variant) -> float:
    """How much it may lose, as was said when it was made."""
    limit = variant.accuracy.get("max_loss")
    return limit if isinstance(limit, int | float) else MAX_LOSS


def accurate(package: ModelPackage) -> Mapping[str, Judged]:
    """Every variant by precision, judged by accuracy alone: for engines that are yet to be built and measured."""
    return {variant.precision: Judged(variant, _accuracy_verdict(package, variant)) for variant in package.variant}


def buildable(package: ModelPackage) -> Mapping[str, Judged]:
    """Those of ``accurate`` that TensorRT builds: bf16 is of the processor."""
    return {name: one for name, one in accurate(package).items() if name != BF16}


def graph_of(package: ModelPackage, variant: Variant) -> Contestant:
    """What is measured of a variant."""
    return Contestant(package.file_of(variant), variant.optimisation or "all", variant.precision)


def loss_of(variant: Variant) -> float | None:
    """Accuracy lost against fp32, as measured when the variant was made."""
    loss = variant.accuracy.get("loss")
    return float(loss) if isinstance(loss, int | float) else None


def _accuracy_verdict(package: ModelPackage, variant: Variant) -> Verdict:
    if variant.precision == "fp32" or len(package.variant) == 1:
        return MEASURE
    return judge_accuracy(loss_of(variant), limit_of(variant), forced=bool(variant.forced))


def _verdict(package: ModelPackage, variant: Variant, store: SpeedStore, backend: Backend) -> Verdict:
    if variant.precision == "fp32" or len(package.variant) == 1:
        return MEASURE
    if reason := why_not(backend, variant.precision):
        return Verdict(False, reason)
    loss, max_loss = loss_of(variant), limit_of(variant)
    level = variant.optimisation or "all"
    known = store.get(identity_of(variant.sha256, version_of(backend), level, variant.precision))
    speedup = None if known is None else known.speedup
    if speedup is None and (variant.forced or (loss is not None and loss <= max_loss)):
        speedup = _speedup(package, variant, store, backend)
    return judge(loss, speedup, max_loss, forced=bool(variant.forced))


def _speedup(package: ModelPackage, variant: Variant, store: SpeedStore, backend: Backend) -> float | None:
    graphs = [graph_of(package, one) for one in (package.choose(), variant)]
    try:
        speeds = measure(package, graphs, on_backend(backend))
        for speed in speeds:
            store.put(speed)
    except AgentError as error:
        log.warning("%s: the speed of %s could not be measured: %s", package.name, variant.precision, error)
        return None
    return speeds[-1].speedup
