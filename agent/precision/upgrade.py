"""Better engines for a detector that is at work already: TensorRT plans, fetched or built in the background.

One thread gets the plans, in a process of their own each; what they become is loaded and measured by the thread that
owns the engines, between two frames. Which is used then, match.py says.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from agent.detection.batch_size import best_batch
from agent.detection.engine_set import Offer
from agent.detection.plans import Wanted, wanted_plan
from agent.engines.build_room import free_memory
from agent.engines.plan_supply import supply
from agent.engines.store import Identity, Speed
from agent.errors import AgentError
from agent.precision.match import Option, choose, choose_batch, not_native
from agent.precision.speed import seconds_alone
from agent.precision.usable import Judged, loss_of

if TYPE_CHECKING:
    from pathlib import Path

    from agent.detection.detector import Detector
    from agent.detection.engine_set import EngineSet
    from agent.detection.manifest import Variant
    from agent.detection.model import ModelPackage
    from agent.detection.plans import TensorRT
    from agent.engines.base import Engine
    from agent.engines.plan_store import Plan, PlanStore
    from agent.engines.store import SpeedStore

log = logging.getLogger(__name__)

ORDER = ("fp16", "int8", "mixed", "fp32")
"""What is most likely to be best is built first."""
TOLD_STEP = 0.1


class Measured(NamedTuple):
    """A plan that is loaded: ``rates`` are pictures a second by batch, empty where it takes one at a time."""

    wanted: Wanted
    rates: Mapping[int, float]


class Means(NamedTuple):
    """What an upgrade works with. ``open_detector`` makes a warm detector of an engine; ``build``: whether plans that
    are missing or stale may be built; ``mode``: the board's power mode, since speeds belong to it."""

    package: ModelPackage
    tensorrt: TensorRT
    plans: PlanStore
    speeds: SpeedStore
    open_detector: Callable[[Engine, Variant], Detector]
    build: bool = True
    mode: str = ""
    memory: Callable[[], int] = free_memory


class Upgrade:
    """Works through ``variants`` on a thread of its own from ``start`` on. ``choosing``: the match chooses among them,
    else each just replaces the engine of its precision."""

    def __init__(self, engines: EngineSet, means: Means, variants: Sequence[Judged], *, choosing: bool) -> None:
        self._engines = engines
        self._means = means
        place = means.tensorrt.place
        self._options: dict[str, Option] = {}
        self._measured: dict[str, Measured] = {}
        self._left: list[Variant] = []
        for one in sorted(variants, key=lambda one: ORDER.index(one.variant.precision)):
            precision = one.variant.precision
            barred = "" if one.verdict.usable else one.verdict.reason
            if choosing:
                barred = barred or not_native(precision, place.capability)
            self._options[precision] = Option(precision, None, loss_of(one.variant), barred)
            if not barred:
                self._left.append(one.variant)
        self._choosing = choosing
        self._stopping = threading.Event()
        self.finished = threading.Event()
        self._thread = threading.Thread(target=self._run, name="plans", daemon=True)
        engines.expected = frozenset(variant.precision for variant in self._left)

    def start(self) -> None:
        """Begin, in the background."""
        for precision, option in self._options.items():
            if option.barred and precision not in self._engines.told:
                self._engines.tell(precision, f"refused: {option.barred}")
        self._engines.why = "ONNX Runtime, until a TensorRT engine is ready"
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """End what is being built; it begins anew next time."""
        self._stopping.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        offered = False
        try:
            for variant in self._left:
                if self._stopping.is_set():
                    return
                offered = self._bring(variant) or offered
            if not offered:
                self._engines.why = "ONNX Runtime, since no TensorRT engine could be had; precisions say why"
        except Exception:
            log.exception("TensorRT plans are given up; ONNX Runtime goes on")
        finally:
            self.finished.set()

    def _bring(self, variant: Variant) -> bool:
        """Get one plan and offer what it becomes; what is in the way is told, and ONNX Runtime goes on."""
        means = self._means
        try:
            wanted = wanted_plan(means.package, variant, means.tensorrt.place, means.plans, None)
            build = self._builder(variant, wanted) if means.build else None
            plan = supply(means.plans, wanted.order, build, memory=means.memory, stop=self._stopping.is_set)
        except AgentError as error:
            if not self._stopping.is_set():
                self._engines.tell(variant.precision, f"{self._so_far(variant)}; no TensorRT: {error}")
                log.warning("%s: %s: no TensorRT engine: %s", means.package.name, variant.precision, error)
            return False
        offer = Offer(variant.precision, partial(self._open, variant, wanted, plan), self._told, then=self._choice)
        self._engines.offer(offer)
        return True

    def _builder(self, variant: Variant, wanted: Wanted) -> Callable[[Path], None]:
        so_far = self._so_far(variant)
        step = -1.0

        def progress(phase: str, share: float) -> None:
            nonlocal step
            if share >= step + TOLD_STEP or share < step:
                step = share
                where = self._means.tensorrt.place.where
                self._engines.tell(variant.precision, f"{so_far}; building for {where}: {phase} {share:.0%}")

        def build(part: Path) -> None:
            progress("Starting", 0.0)
            self._means.tensorrt.build(wanted.request, part, progress, self._stopping.is_set)

        return build

    def _so_far(self, variant: Variant) -> str:
        return self._engines.told.get(variant.precision, "not loaded").partition("; ")[0]

    # on the thread that owns the engines

    def _open(self, variant: Variant, wanted: Wanted, plan: Plan) -> Detector:
        try:
            return self._opened(variant, wanted, plan)
        except AgentError as error:
            if not self._measured:
                self._engines.why = f"ONNX Runtime, since a TensorRT engine cannot be loaded: {error}"
            raise

    def _opened(self, variant: Variant, wanted: Wanted, plan: Plan) -> Detector:
        """Loaded, warm and measured."""
        means = self._means
        engine = means.tensorrt.open_plan(plan.content, means.tensorrt.place.flavour)
        try:
            detector = means.open_detector(engine, variant)
            seconds = seconds_alone(detector)
            batched = (detector.max_batch or 0) > 1 and detector.fixed_batch is None
            best, rates = best_batch(detector) if batched else (1, {})
            detector.batch, detector.batch_rates = best, rates
        except BaseException:
            engine.close()
            raise
        self._options[variant.precision] = self._options[variant.precision]._replace(seconds=seconds)
        self._measured[variant.precision] = Measured(wanted, rates)
        return detector

    def _told(self, detector: Detector) -> str:
        option = self._options[detector.precision]
        assert option.seconds is not None
        loss = "" if option.loss is None else f", loses {max(0.0, option.loss):.4f}"
        where = "" if " on " in detector.backend else f" on {self._means.tensorrt.place.where}"
        return f"{detector.backend}{where}: {option.seconds * 1e3:.2f} ms{loss}{self._batch(detector.precision)}"

    def _batch(self, precision: str) -> str:
        """Which batch would be best, for whoever has more pictures than one at a time."""
        measured = self._measured[precision]
        if len(measured.rates) < 2:
            return ""
        width, height = self._means.package.input.size
        best, why = choose_batch(measured.rates, width * height * 3 * 4, self._means.memory())
        return f", best batch {best} ({why})"

    def _choice(self) -> str | None:
        """After each engine that came: which precision from now on."""
        self._remember()
        if not self._choosing:
            self._engines.why = "chosen by [model] precision or [governor] ladder"
            return None
        ready = [option for option in self._options.values() if option.seconds is not None or option.barred]
        choice = choose(ready, self._means.tensorrt.place.capability)
        others = "; ".join(f"{name}: {why}" for name, why in choice.others.items())
        self._engines.why = f"{choice.precision} is {choice.why}" + (f" ({others})" if others else "")
        return choice.precision

    def _remember(self) -> None:
        """Once fp32 is there, which is what speedups are measured against."""
        base = self._options["fp32"].seconds if "fp32" in self._options else None
        if base is None:
            return
        for precision, measured in self._measured.items():
            seconds = self._options[precision].seconds
            assert seconds is not None
            identity = plan_speed_identity(measured.wanted, self._means.mode)
            try:
                self._means.speeds.put(
                    Speed(identity=identity, seconds=seconds, speedup=base / seconds, rates=dict(measured.rates))
                )
            except AgentError as error:
                log.warning("%s", error)


def plan_speed_identity(wanted: Wanted, mode: str) -> Identity:
    """Under which a plan's speed is remembered: everything that the plan is, and the board's power mode."""
    plan = wanted.order.identity
    options = f"{plan.precision}; {plan.shapes}; {plan.options}; {mode or 'no power mode'}"
    return Identity(onnx=plan.onnx, backend=plan.backend, device=f"{plan.gpu} {plan.capability}", options=options)
