"""Obtaining a plan: from the store where it is right, else built into it, by one process at a time.

How it is built is the caller's function; what may be used is the store's decision.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from agent.engines.build_room import check_room, free_memory
from agent.engines.onnx_file import content_bytes, content_hash
from agent.engines.plan_store import Order, Plan, PlanRefusedError, PlanStore
from agent.errors import EngineError

log = logging.getLogger(__name__)


Build = Callable[[Path], None]
"""Builds the plan into the file of that name. Raises EngineError."""


def supply(
    store: PlanStore,
    order: Order,
    build: Build | None,
    *,
    rebuild: bool = False,
    memory: Callable[[], int] = free_memory,
    stop: Callable[[], bool] = lambda: False,
) -> Plan:
    """The plan, verified. One that is missing, stale or damaged is built in place; with ``build`` None it is refused.

    ``rebuild``: even where it is right. Raises PlanRefusedError with the reason, EngineError when building fails.
    """
    why = "asked for anew"
    if not rebuild:
        try:
            return store.read(order.slot, order.identity)
        except PlanRefusedError as error:
            why = str(error)
            if build is None:
                raise PlanRefusedError(f"{error} (building is off)", error.state) from None
    if build is None:
        raise PlanRefusedError(f"{order.slot}: building is off", "refused")
    with store.building(order.slot, stop):
        plan = None if rebuild else _built_meanwhile(store, order)
        if plan is not None:
            return plan
        log.info("%s: building the plan (%s)", order.slot, why)
        _build(store, order, build, memory)
    return store.read(order.slot, order.identity)


def _built_meanwhile(store: PlanStore, order: Order) -> Plan | None:
    """What another builder made while this one waited for the lock."""
    try:
        return store.read(order.slot, order.identity)
    except PlanRefusedError:
        return None


def _build(store: PlanStore, order: Order, build: Build, memory: Callable[[], int]) -> None:
    check_room(store.folder, content_bytes(order.onnx), memory(), order.slot)
    started = time.monotonic()
    with store.part_file(order.slot) as part:
        build(part)
        if content_hash(order.onnx) != order.identity.onnx:
            raise EngineError(f"{order.onnx}: changed while its plan was being built; start again")
        record = store.put(order, part, time.monotonic() - started)
    log.info("%s: built in %.1f s, %.1f MB", order.slot, record.seconds, record.bytes / 1e6)
