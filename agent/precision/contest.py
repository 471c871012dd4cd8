"""Measures the engines of the processor on the daemon's model, once, and has the faster ones take over.

ONNX Runtime works meanwhile. What was measured is remembered under the engines' full identity: a known answer is used
at the next start, a changed graph, version, processor or number of threads is measured anew.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from agent.detection.engine_set import Offer
from agent.engines.on_processor import BF16, Backend, version_of, why_not
from agent.engines.store import Speed
from agent.errors import AgentError, EngineError
from agent.precision.contest_rules import Entry, Outcome, Request, Result, Standing, decide
from agent.precision.speed import identity_of

if TYPE_CHECKING:
    from agent.detection.detector import Detector
    from agent.detection.engine_set import EngineSet
    from agent.detection.model import ModelPackage
    from agent.engines.store import Identity, SpeedStore

log = logging.getLogger(__name__)

CHILD = "agent.precision.contest_child"
LOAD_AFTER = 1.0
"""The first events come first: seconds from the start until an engine that is known to be faster is loaded, …"""
MEASURE_AFTER = 10.0
"""… and until engines are measured of which nothing is known."""
WAITS = "waits until the engines were measured on this machine"
PATIENCE = 120.0
POLL = 0.2

Measure = Callable[[Request, Callable[[], bool]], list[Result]]


class ContestMeans(NamedTuple):
    """What a contest works with. ``standings``: of the precisions that take part; ``threads``: of an inference;
    ``load``: a warm detector of a precision on an engine, as configured; ``choosing``: the outcome says which precision
    is used, else each just gets the engine that is fastest; ``budget``: bytes that precisions which were not loaded may
    take, of what ``memory`` says that this process holds."""

    package: ModelPackage
    speeds: SpeedStore
    standings: Mapping[str, Standing]
    threads: int
    load: Callable[[str, Backend], Detector]
    choosing: bool
    memory: Callable[[], int]
    budget: int


class Contest:
    """Works on a thread of its own from ``start`` on; it does nothing to an engine set that is fastest already."""

    def __init__(self, engines: EngineSet, means: ContestMeans, measure: Measure | None = None) -> None:
        self._engines = engines
        self._means = means
        self._measure = measure or measured_apart
        self._taken = 0
        self._stopping = threading.Event()
        self.finished = threading.Event()
        self._thread = threading.Thread(target=self._run, name="contest", daemon=True)
        engines.expected |= set(means.standings) - set(engines.precisions)
        if BF16 in means.standings:
            engines.tell(BF16, WAITS)

    def start(self) -> None:
        """Begin, in the background."""
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """End what is being measured; it begins anew next time."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        try:
            outcome = self._outcome()
            if outcome is not None:
                self._apply(outcome)
        except (AgentError, ValueError) as error:
            if not self._stopping.is_set():
                self._give_up(str(error))
        except Exception:
            log.exception("%s: the engines are not compared", self._means.package.name)
        finally:
            self.finished.set()

    def _give_up(self, reason: str) -> None:
        self._engines.expected = frozenset()
        self._engines.why = f"ONNX Runtime, since the engines could not be compared: {reason}"
        log.warning("%s: %s", self._means.package.name, self._engines.why)

    def _outcome(self) -> Outcome | None:
        """None where it was stopped."""
        entries = self._entries()
        known = {entry: self._known(entry) for entry in entries}
        if self._stopping.wait(MEASURE_AFTER if None in known.values() else LOAD_AFTER):
            return None
        if None in known.values():
            known = {result.entry: result for result in self._measured_now(entries)}
            if self._stopping.is_set():
                return None
        return decide({entry: result for entry, result in known.items() if result}, self._means.standings)

    def _entries(self) -> tuple[Entry, ...]:
        """ONNX Runtime first, which works already."""
        backends: tuple[Backend, ...] = ("onnxruntime", "openvino")
        names = self._means.standings
        return tuple((name, backend) for backend in backends for name in names if not why_not(backend, name))

    def _measured_now(self, entries: tuple[Entry, ...]) -> list[Result]:
        means = self._means
        self._engines.why = "ONNX Runtime, while the installed engines are measured"
        results = self._measure(
            Request(folder=str(means.package.folder), threads=means.threads, entries=entries), self._stopping.is_set
        )
        base = next((one.seconds for one in results if one.entry == ("fp32", "onnxruntime")), None)
        for one in results:
            if one.seconds is not None:
                speedup = base / one.seconds if base else 1.0
                means.speeds.put(Speed(identity=self._identity(one.entry), seconds=one.seconds, speedup=speedup))
        return results

    def _known(self, entry: Entry) -> Result | None:
        speed = self._means.speeds.get(self._identity(entry))
        return None if speed is None else Result(entry=entry, seconds=speed.seconds)

    def _identity(self, entry: Entry) -> Identity:
        precision, backend = entry
        variant = self._means.package.choose(precision)
        level = variant.optimisation or "all"
        return identity_of(variant.sha256, version_of(backend), level, precision, self._means.threads)

    def _apply(self, outcome: Outcome) -> None:
        """Load what is faster, here, and hand it over; the set changes between two frames."""
        engines, loads = self._engines, self._means.load
        engines.expected = frozenset()
        better = {
            name: backend
            for name, backend in outcome.engines.items()
            if backend != "onnxruntime" or name not in engines.precisions
        }
        for name, words in outcome.told.items():
            engines.tell(name, words)
        log.info("%s: %s", self._means.package.name, outcome.why)
        if not better:
            engines.why = outcome.why
        # What works from now on comes last: then all is there.
        for name, backend in sorted(better.items(), key=lambda item: item[0] == outcome.top):
            words = outcome.told[name]
            try:
                detector = self._loaded(name, backend, needed=name == outcome.top or name in engines.precisions)
            except AgentError as error:
                engines.tell(name, f"{words} ({SHOWN_FAULT}: {error})")
                log.warning("%s: %s: %s: %s", self._means.package.name, name, SHOWN_FAULT, error)
                continue
            make = _Ready(detector, partial(loads, name, backend))
            engines.offer(Offer(name, make, _Words(words), partial(self._chosen, outcome), outcome.seconds))

    def _loaded(self, name: str, backend: Backend, *, needed: bool) -> Detector:
        """Warm. Raises AgentError, also for one that nobody waits for and that takes too much memory."""
        means = self._means
        before = means.memory()
        detector = means.load(name, backend)
        self._taken += 0 if needed else means.memory() - before
        if needed or self._taken <= means.budget:
            return detector
        detector.close()
        raise EngineError(f"{name}: does not fit into the memory budget of {means.budget >> 20} MB")

    def _chosen(self, outcome: Outcome) -> str | None:
        """On the thread that owns the engines, after each that came."""
        self._engines.why = outcome.why if self._means.choosing else "chosen by [model] precision or [governor] ladder"
        ready = self._means.choosing and outcome.top in self._engines.precisions
        return outcome.top if ready else None


SHOWN_FAULT = "the faster engine cannot be used"


class _Ready:
    """Gives what was loaded meanwhile, and loads anew after that."""

    def __init__(self, detector: Detector, load: Callable[[], Detector]) -> None:
        self._detector: Detector | None = detector
        self._load = load

    def __call__(self) -> Detector:
        detector, self._detector = self._detector, None
        return detector or self._load()


class _Words:
    """What is told of an engine that came."""

    def __init__(self, words: str) -> None:
        self._words = words

    def __call__(self, detector: Detector) -> str:
        return f"{self._words}; runs on {detector.backend}"


def measured_apart(request: Request, stop: Callable[[], bool]) -> list[Result]:
    """In a process of its own, with low priority. Raises EngineError: that it died, took too long, or ``stop()``."""
    command = [sys.executable, "-m", CHILD, str(os.getpid())]
    child = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, cwd=os.getcwd()
    )
    try:
        answer = _answer(child, msgspec.json.encode(request), stop)
    finally:
        child.kill()
        child.wait()
    try:
        return msgspec.json.decode(answer, type=list[Result])
    except msgspec.DecodeError:
        raise EngineError(f"{request.folder}: the process that measures ended with code {child.returncode}") from None


def _answer(child: subprocess.Popen[bytes], request: bytes, stop: Callable[[], bool]) -> bytes:
    ends = time.monotonic() + PATIENCE
    given: bytes | None = request
    while not stop():
        try:
            return child.communicate(given, timeout=POLL)[0]
        except subprocess.TimeoutExpired:
            given = None
        if time.monotonic() > ends:
            raise EngineError(f"measuring the engines took more than {PATIENCE:.0f} s")
    raise EngineError("measuring the engines was given up")
