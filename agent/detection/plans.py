"""Which TensorRT plan a model's variant needs on which GPU: the order to the store, the request to the builder.

It brings together the model package, the GPU and the library. Keeping and building plans is the engines' business,
choosing a precision match.py's.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

from agent.board.cuda_driver import Driver, Gpu, ask_driver
from agent.engines import flavour
from agent.engines.build_process import run_build
from agent.engines.build_request import BuildRequest, Range, Sizes, Wish, picture_input, profile_of
from agent.engines.build_room import free_memory, workspace
from agent.engines.flavour import Flavour
from agent.engines.identity import identity_of
from agent.engines.onnx_file import read_onnx
from agent.engines.plan_store import Found, Order, PlanStore, Record, slot_name
from agent.errors import EngineError

if TYPE_CHECKING:
    from agent.detection.manifest import Variant
    from agent.detection.model import ModelPackage
    from agent.engines.base import Engine

RUNNER = "agent.engines.tensorrt"
"""The module that runs plans: ``open_plan(plan: bytes, flavour: Flavour) -> Engine``. Imported when one is there."""
USUAL_BATCH = Range(1, 1, 4)
"""For a graph of open batch, where nothing was measured or asked for: the daemon gives one picture at a time."""


class Place(NamedTuple):
    """For which GPU, with which library. ``gpu`` is empty, and ``target`` set, for one that is not in this machine.

    ``memory``: the GPU's, in bytes, 0 where that is not known.
    """

    flavour: Flavour
    gpu: str
    capability: tuple[int, int]
    target: str | None = None
    strongly_typed: bool = True
    memory: int = 0

    @property
    def where(self) -> str:
        """For people: the GPU's name, or ``sm86``."""
        return self.target or self.gpu


class Builder(Protocol):
    """What ``run_build`` is."""

    def __call__(
        self,
        request: BuildRequest,
        plan: Path,
        progress: Callable[[str, float], None] = ...,
        stop: Callable[[], bool] = ...,
    ) -> None:
        """Build into the file ``plan``. Raises EngineError."""


class TensorRT(NamedTuple):
    """All that is needed to use it here."""

    place: Place
    build: Builder
    open_plan: Callable[[bytes, Flavour], Engine]


class Wanted(NamedTuple):
    """A plan as the store knows it, and as the builder is asked for it."""

    order: Order
    request: BuildRequest


class Standing(NamedTuple):
    """A plan of a model and what it is worth now."""

    precision: str
    place: Place | None
    found: Found


def find_tensorrt() -> TensorRT:
    """TensorRT on this machine's GPU. Raises EngineError, one line, with what is missing and the way out."""
    place = place_here()
    return TensorRT(place, run_build, _runner())


def place_here(driver: Callable[[], Driver] = ask_driver) -> Place:
    """This machine's first GPU. Raises EngineError without one, or without TensorRT."""
    found = driver()
    if not found.gpus:
        raise EngineError(f"TensorRT cannot run here: {found.fault}; `edgewarden doctor` says more")
    return _place(found.gpus[0])


def place_for(target: str) -> Place:
    """A GPU that is not in this machine, by its compute capability: ``sm86`` or ``8.6``. Raises EngineError."""
    match = re.fullmatch(r"(?:sm_?(\d+)(\d)|(\d+)\.(\d))", target.strip().lower())
    if match is None:
        raise EngineError(f"{target}: not a compute capability such as sm87 or 8.7")
    here = flavour.installed()
    if not flavour.can_build_for_others():
        raise EngineError(f"{target}: {here.backend} builds for the GPU of this machine alone; TensorRT-RTX can")
    major, minor = (int(part) for part in match.groups() if part is not None)
    return Place(here, "", (major, minor), f"sm{major}{minor}", flavour.strongly_typed())


def wanted_plan(package: ModelPackage, variant: Variant, place: Place, store: PlanStore, wish: Wish | None) -> Wanted:
    """The plan of a variant. ``wish`` None: as it was asked for when it was last built. Raises EngineError."""
    slot = slot_name(package.name, variant.precision, place.target, package.folder)
    if wish is None:
        known = store.record(slot)
        wish = known.wish if known is not None else Wish()
    options = msgspec.structs.replace(wish.options, sparse=wish.options.sparse or bool(variant.sparse))
    source = _source(package, variant, place)
    onnx = package.file_of(source)
    picture = picture_input(onnx, read_onnx(onnx).inputs)
    profile = profile_of(picture, _sizes(package, wish), package.input.layout, strict=wish.batch is not None)
    backend = place.flavour.backend
    identity = identity_of(
        onnx,
        backend=backend,
        gpu=place.gpu,
        capability="{}.{}".format(*place.capability),
        precision=variant.precision,
        calibration=variant.calibration if variant.precision in ("int8", "mixed") else None,
        shapes=str(profile),
        options=str(options),
    )
    free = free_memory()
    request = BuildRequest(
        onnx=str(onnx),
        backend=backend,
        precision=variant.precision,
        profile=profile,
        options=options,
        target=place.capability if place.target else None,
        workspace=workspace(min(free, place.memory or free)),
        timing_cache=str(_timing_cache(store, place)),
    )
    return Wanted(Order(slot, package.name, onnx, identity, wish), request)


def standings(package: ModelPackage, store: PlanStore) -> list[Standing]:
    """Every plan of the package, for this machine's GPU and for others, and why one is stale. Never raises."""
    found = []
    for variant in package.variant:
        for record in store.records():
            for target in (None, _target_of(record)):
                if record.slot == slot_name(package.name, variant.precision, target, package.folder):
                    found.append(_standing(package, variant, store, record, target))
                    break
    return found


def _standing(
    package: ModelPackage, variant: Variant, store: PlanStore, record: Record, target: str | None
) -> Standing:
    try:
        place = place_for(target) if target else place_here()
        order = wanted_plan(package, variant, place, store, None).order
    except EngineError as error:
        return Standing(variant.precision, None, Found("stale", str(error), record))
    return Standing(variant.precision, place, store.look(order.slot, order.identity))


def _target_of(record: Record) -> str:
    return "sm" + record.identity.capability.replace(".", "")


def _place(gpu: Gpu) -> Place:
    name = f"{gpu.name} with {gpu.multiprocessors} multiprocessors"
    return Place(flavour.installed(), name, gpu.capability, None, flavour.strongly_typed(), gpu.memory)


def _source(package: ModelPackage, variant: Variant, place: Place) -> Variant:
    """TensorRT 8.6 makes fp16 of the fp32 graph; later ones compute what the graph says."""
    return package.choose("fp32") if variant.precision == "fp16" and not place.strongly_typed else variant


def _sizes(package: ModelPackage, wish: Wish) -> Sizes:
    width, height = package.input.size
    return Sizes(
        wish.batch or USUAL_BATCH,
        wish.height or Range(height, height, height),
        wish.width or Range(width, width, width),
    )


def _timing_cache(store: PlanStore, place: Place) -> Path:
    """Timings are worth something for one library on one GPU."""
    words = re.sub(r"[^A-Za-z0-9.]+", "-", f"{place.flavour.backend} {place.where}").lower()
    return store.folder / f".timing-{words}"


def _runner() -> Callable[[bytes, Flavour], Engine]:
    """What runs plans, known to be importable: better now than in an hour, when the plan is built."""
    try:
        importlib.import_module("pycuda.driver")
        runner: Callable[[bytes, Flavour], Engine] = importlib.import_module(RUNNER).open_plan
    except (ImportError, OSError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise EngineError(f"TensorRT plans cannot run here: {reason}; `edgewarden doctor` says more") from None
    return runner
