"""Which variants of a package may be used on this machine: the gate, asked of what is recorded in package and store."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from agent.errors import AgentError
from agent.precision.gate import MAX_LOSS, Verdict, judge
from agent.precision.speed import identity_of, measure

if TYPE_CHECKING:
    from agent.detection.manifest import Variant
    from agent.detection.model import ModelPackage
    from agent.engines.store import SpeedStore


log = logging.getLogger(__name__)


class Judged(NamedTuple):
    """A variant and the gate's word on it."""

    variant: Variant
    verdict: Verdict


def judged(package: ModelPackage, store: SpeedStore, backend: str) -> Mapping[str, Judged]:
    """Every variant by precision, fp32 first. A speed that was never measured here is measured now (under a second)
    where the accuracy would pass, and remembered."""
    found: dict[str, Judged] = {}
    for variant in sorted(package.variant, key=lambda one: one.precision != "fp32"):
        if variant.precision == "fp32" or len(package.variant) == 1:
            verdict = Verdict(True, "the measure of the others")
        else:
            verdict = _verdict(package, variant, store, backend)
        found[variant.precision] = Judged(variant, verdict)
    return found


def _verdict(package: ModelPackage, variant: Variant, store: SpeedStore, backend: str) -> Verdict:
    loss, max_loss = variant.accuracy.get("loss"), variant.accuracy.get("max_loss", MAX_LOSS)
    if not isinstance(loss, int | float) or not isinstance(max_loss, int | float):
        loss, max_loss = None, MAX_LOSS
    speedup = None
    if variant.forced or (loss is not None and loss <= max_loss):
        speedup = _speedup(package, variant, store, backend)
    return judge(loss, speedup, max_loss, forced=bool(variant.forced))


def _speedup(package: ModelPackage, variant: Variant, store: SpeedStore, backend: str) -> float | None:
    known = store.get(identity_of(variant.sha256, backend, variant.optimisation or "all"))
    if known is not None:
        return known.speedup
    base = package.choose()
    files = [(package.file_of(one), one.optimisation or "all") for one in (base, variant)]
    try:
        speeds = measure(package, files)
        for speed in speeds:
            store.put(speed)
    except AgentError as error:
        log.warning("%s: the speed of %s could not be measured: %s", package.name, variant.precision, error)
        return None
    return speeds[-1].speedup
