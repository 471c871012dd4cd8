"""Changes how the processor's cores are used while the loop runs: it sees the load, asks the policy, and applies.

Once a second on the monitor's thread. An engine with more threads is loaded beside the one that works, on a thread of
its own, and takes over between two frames. When which mode holds is governor/modes.py's to say.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple, Protocol

from agent.data import Execution
from agent.detection.detector import Detector
from agent.detection.engine_set import EngineSet
from agent.errors import AgentError, EngineError
from agent.governor.modes import Demand, Mode, ModePolicy
from agent.pipeline import Counts, Lane

log = logging.getLogger(__name__)

RETRY = 60.0


class Loop(Protocol):
    """The part of the pipeline that this needs."""

    @property
    def counts(self) -> Counts:
        """What was done so far."""

    @property
    def lanes(self) -> Sequence[Lane]:
        """The cameras."""

    def between_frames(self, action: Callable[[], Any]) -> Future[Any]:
        """Have the dispatcher do it."""


class Seen(NamedTuple):
    """Counts at a moment."""

    at: float
    captured: int
    inferred: int
    busy: float


class Executor:
    """Of one EngineSet. ``load``: the detector of a precision with so many threads. ``tick`` and ``told`` are called by
    one thread."""

    def __init__(self, engines: EngineSet, policy: ModePolicy, load: Callable[[str, int], Detector]) -> None:
        self._engines = engines
        self._policy = policy
        self._load = load
        self._applied = policy.mode
        self._seen: Seen | None = None
        self._loading: threading.Thread | None = None
        self._retry_at = 0.0

    def begin(self, every_frame: bool, cameras: int = 1) -> None:
        """Before the first frame; nothing is under way. Raises EngineError."""
        self._policy.decide(Demand(0.0, 0.0, 0.0, every_frame), 0.0)
        self._spread(self._policy.mode)
        self._measure_batches(cameras)

    def more_cameras(self, cameras: int) -> None:
        """There are so many now: larger batches may be worth it. By the dispatcher, between two frames."""
        try:
            self._measure_batches(cameras)
        except EngineError as error:
            log.warning("%s: batches were not measured anew: %s", self._engines.name, error)

    def _measure_batches(self, cameras: int) -> None:
        engines = self._engines
        if engines.measure_batches(cameras):
            shown = ", ".join(f"{count}: {rate:g}" for count, rate in engines.used.batch_rates.items())
            log.info("%s: pictures a second by batch: %s; batches of %d are used", engines.name, shown, engines.batch)

    def tick(self, loop: Loop, rate: float | None, now: float) -> None:
        """The next second. ``rate``: inferences a second that the governor allows."""
        demand = self._look(loop, rate, now)
        if demand is None or self._engines.threads is None:
            return
        mode = self._policy.decide(demand, now)
        if self._loading is not None and self._loading.is_alive():
            return
        if self._engines.threads != mode.threads:
            if now >= self._retry_at:
                self._bring(loop, mode, now)
        elif mode != self._applied:
            self._change(loop, mode, lambda: self._spread(mode))

    def told(self) -> Execution:
        """For ``health``."""
        engines = self._engines
        if engines.threads is None:
            return Execution(mode="device", workers=engines.slots, reason=engines.backend, **self._batches())
        workers = engines.workers
        name = "latency" if workers == 1 else "throughput"
        return Execution(
            mode=name,
            threads=engines.threads,
            workers=workers,
            share=round(self._policy.share, 4),
            reason=self._policy.reason,
            **self._batches(),
        )

    def _batches(self) -> dict[str, Any]:
        used = self._engines.used
        return {
            "batch": used.batch,
            "batch_rates": {str(count): rate for count, rate in used.batch_rates.items()},
        }

    def _look(self, loop: Loop, rate: float | None, now: float) -> Demand | None:
        """What the load was since the last look; None at the first."""
        captured = sum(lane.capture.status(now).captured for lane in loop.lanes)
        before = self._seen
        seen = self._seen = Seen(now, captured, loop.counts.inferred, loop.counts.busy_seconds)
        if before is None or now <= before.at or captured < before.captured:
            return None
        seconds = now - before.at
        offered = (captured - before.captured) / seconds
        return Demand(
            offered if rate is None else min(offered, rate),
            (seen.inferred - before.inferred) / seconds,
            min(1.0, (seen.busy - before.busy) / seconds),
            any(not (lane.realtime or lane.paused or lane.capture.ended) for lane in loop.lanes) and rate is None,
        )

    def _bring(self, loop: Loop, mode: Mode, now: float) -> None:
        """Load the engine in use with other threads, and have it take over."""
        self._retry_at = now + RETRY
        self._loading = threading.Thread(target=self._load_and_change, args=(loop, mode), name="execution", daemon=True)
        self._loading.start()

    def _load_and_change(self, loop: Loop, mode: Mode) -> None:
        old = self._engines.used
        try:
            new = self._load(old.precision, mode.threads)
        except AgentError as error:
            log.warning("%s: no engine with %d thread(s): %s", self._engines.name, mode.threads, error)
            return

        def change() -> None:
            if self._engines.replace(old, new):
                self._spread(mode)

        self._change(loop, mode, change, new)
        self._retry_at = 0.0

    def _change(self, loop: Loop, mode: Mode, change: Callable[[], None], new: Detector | None = None) -> None:
        try:
            loop.between_frames(change).result(30.0)
        except (AgentError, TimeoutError) as error:
            if new is not None and new is not self._engines.used:
                new.close()
            log.info("%s: %s mode was not reached: %s", self._engines.name, mode.name, error)
            return
        self._policy.restart()
        log.info(
            "%s: %s mode, %d thread(s), %d inference(s) at a time: %s",
            self._engines.name,
            mode.name,
            mode.threads,
            mode.workers,
            self._policy.reason,
        )

    def _spread(self, mode: Mode) -> None:
        self._engines.spread(mode.workers, mode.ahead)
        self._applied = mode
