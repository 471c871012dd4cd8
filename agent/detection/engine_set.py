"""Detectors of one model in several precisions, all loaded and warm: which of them works is changed between two frames.

Which precisions those are, and when to change, is the caller's choice. One thread calls all of it, but ``offer``: that
brings a better engine, built meanwhile, from any thread.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from agent.detection.batch_size import best_batch, largest
from agent.errors import AgentError, DeviceLostError, EngineError, ModelError

if TYPE_CHECKING:
    from agent.data import Detections, Frame
    from agent.detection.detector import Detector, Pending
    from agent.detection.model import ModelPackage
    from agent.detection.nms import Method
    from agent.engines.base import Outputs


log = logging.getLogger(__name__)
BATCH_TRIAL_SECONDS = 0.1
TRIALS = 5
TRIAL_SECONDS = 0.02
"""No further trial after that: the first frame waits for them."""


class Open(NamedTuple):
    """Frames under way, and the detector that has them."""

    detector: Detector
    pending: Pending


class LeftOut(NamedTuple):
    """A precision that was not loaded, and why."""

    precision: str
    reason: str


class Offer(NamedTuple):
    """A better engine for a precision: ``make`` loads it, on the thread that will use it; ``told``: what to say of it,
    and ``then`` which precision to use from now on, None for the one in use. ``seconds``: of an inference by precision,
    where they were measured side by side; else the engine is timed when it comes."""

    precision: str
    make: Callable[[], Detector]
    told: Callable[[Detector], str]
    then: Callable[[], str | None] = lambda: None
    seconds: Mapping[str, float] = {}


class EngineSet:
    """Does what a Detector does, with the detector of the precision in use; owns all of them.

    ``detectors``: by precision, in the order of preference; the first one is in use. ``left_out``: what was not loaded.
    ``told``: what whoever chose them has to say of each precision of the model; ``why``: of the engine in use.
    ``expected``: precisions that are not loaded yet, but may be offered. ``weights``: their accuracy against fp32's, 1
    where it is not known. ``package``: where they come from. ``load``: makes the detector of a precision anew.
    ``chosen``: the precision to use where nothing is in its way; ``swaps`` counts the engines that came later.
    """

    def __init__(
        self,
        detectors: Mapping[str, Detector],
        left_out: Sequence[LeftOut] = (),
        load: Callable[[str], Detector] | None = None,
    ) -> None:
        if not detectors:
            raise ModelError("no precision of this model can be used; " + "; ".join(one.reason for one in left_out))
        self._detectors = dict(detectors)
        self.left_out = tuple(left_out)
        self.told: dict[str, str] = {}
        self.package: ModelPackage | None = None
        self.why = ""
        self.expected: frozenset[str] = frozenset()
        self.weights: dict[str, float] = {}
        self._tuning: dict[str, Any] = {}
        self.swaps = 0
        self._seconds: dict[str, float] = {}
        self._used = next(iter(self._detectors.values()))
        self.chosen = self._used.precision
        self._wished = ""
        self._offers: deque[Offer] = deque()
        self._under_way: Counter[int] = Counter()
        self._retired: list[Detector] = []
        self._load = load
        self._spread = (1, 0)
        self._tell_ready: Callable[[], None] = lambda: None
        self._accepted: dict[str, Callable[[], Detector]] = {}

    @property
    def precisions(self) -> tuple[str, ...]:
        """What ``use`` takes."""
        return tuple(self._detectors)

    @property
    def precision(self) -> str:
        """The one in use: the next frame is inferred with it."""
        return self._used.precision

    @property
    def name(self) -> str:
        """The model's name."""
        return self._used.name

    @property
    def labels(self) -> tuple[str, ...]:
        """The model's labels, by class index."""
        return self._used.labels

    @property
    def backend(self) -> str:
        """Name and version of the engine in use."""
        return self._used.backend

    @property
    def slots(self) -> int:
        """How many submits may be open, those of an engine that was in use before counted in."""
        return self._used.slots

    @property
    def workers(self) -> int:
        """How many inferences go on at a time; 1 on a device, however many slots it has."""
        return self._used.workers

    @property
    def threads(self) -> int | None:
        """The threads that one inference uses; None on a device."""
        return self._used.threads

    @property
    def batch(self) -> int:
        """How many frames at once are fastest, as far as it was measured: 1 where it was not."""
        return self._used.batch

    def measure_batches(self, most: int, clock: Callable[[], float] = time.perf_counter) -> bool:
        """Find out how many pictures at once, at most ``most``, are fastest, of graphs that take any number, as far as
        that is not known. Whether anything was measured. Not while frames are under way. Raises EngineError."""
        done = False
        for detector in self._detectors.values():
            enough = largest(most if detector.max_batch is None else min(most, detector.max_batch))
            if enough > 1 and detector.fixed_batch is None and enough not in detector.batch_rates:
                detector.batch, detector.batch_rates = best_batch(
                    detector, most=enough, seconds=BATCH_TRIAL_SECONDS, clock=clock
                )
                done = True
        return done

    def spread(self, workers: int, ahead: int) -> None:
        """Work on so many frames at a time, and let ``ahead`` more wait, with every engine that can. Not while frames
        are under way. Raises EngineError."""
        self._spread = (workers, ahead)
        for detector in self._detectors.values():
            detector.spread(workers, ahead)

    def ready(self, started: Open) -> bool:
        """Whether ``collect`` would not wait for the engine, or the engine cannot tell."""
        return started.detector.ready(started.pending)

    def when_ready(self, tell: Callable[[], None]) -> None:
        """Call ``tell``, on any thread, when frames are ready that were not at once."""
        self._tell_ready = tell
        for detector in self._detectors.values():
            detector.when_ready(tell)

    def replace(self, old: Detector, new: Detector) -> bool:
        """The same precision on another engine, with nothing under way; False, and ``new`` closed, where ``old`` is
        not there any more. Costs are taken to be the same."""
        if self._detectors.get(old.precision) is not old:
            new.close()
            return False
        self._detectors[old.precision] = self._prepared(new)
        _keep_batch(old, new)
        if self._used is old:
            self._used = new
        old.close()
        return True

    @property
    def used(self) -> Detector:
        """The detector of the precision in use."""
        return self._used

    def _prepared(self, detector: Detector) -> Detector:
        """A new one, with all that was said to the others."""
        if self._tuning:
            detector.retune(**self._tuning)
        detector.spread(*self._spread)
        detector.when_ready(self._tell_ready)
        return detector

    def use(self, precision: str) -> None:
        """From the next ``submit`` on. What is under way is finished by the engine that has it.

        Raises EngineError for a precision that is not loaded, and goes on with the one in use; one that is expected is
        used when it comes.
        """
        self._wished = precision if precision in self.expected else ""
        if precision not in self._detectors:
            waiting = " yet" if self._wished else ""
            raise EngineError(f"{self.name}: {precision} is not loaded{waiting}, only {', '.join(self._detectors)}")
        self._used = self._detectors[precision]

    def retune(self, *, score: float, iou: float, max_detections: int, nms: Method) -> None:
        """Other thresholds for the detectors of all precisions, those to come too, from the next ``collect`` on."""
        self._tuning = {"score": score, "iou": iou, "max_detections": max_detections, "nms": nms}
        for detector in self._detectors.values():
            detector.retune(**self._tuning)

    def tell(self, precision: str, what: str) -> None:
        """Say this of a precision from now on. Safe from any thread: who reads ``told`` has a whole one."""
        self.told = {**self.told, precision: what}

    def offer(self, offer: Offer) -> None:
        """Load this engine before the next ``submit``, in place of the one that its precision has. Safe from any
        thread."""
        self._offers.append(offer)

    def take_offers(self) -> None:
        """Load what was offered. That may take seconds: before a frame is chosen, which would grow old meanwhile."""
        while self._offers:
            self._accept(self._offers.popleft())

    def submit(self, frames: Sequence[Frame]) -> Open:
        """Start the inference of frames. Raises EngineError."""
        self.take_offers()
        started = Open(self._used, self._used.submit(frames))
        self._under_way[id(started.detector)] += 1
        return started

    def collect(self, started: Open) -> list[Detections]:
        """Wait for the oldest submitted frames; one entry a frame. Raises EngineError."""
        try:
            return started.detector.collect(started.pending)
        finally:
            self._under_way[id(started.detector)] -= 1
            self._let_go()

    def seconds(self) -> dict[str, float]:
        """How long an inference takes alone, by precision: the quickest of a few.

        Measured at the first call, which is not to be made while frames are under way; of an engine that comes later
        when it comes. After that safe from any thread."""
        if not self._seconds:
            self._seconds = {precision: _quickest(detector) for precision, detector in self._detectors.items()}
        return self._seconds

    def engine_alone(self, frame: Frame | None = None) -> Outputs:
        """See Detector."""
        return self._used.engine_alone(frame)

    def detect(self, frame: Frame) -> Detections:
        """One frame, waited for."""
        (detections,) = self.collect(self.submit([frame]))
        return detections

    def revive(self, error: EngineError) -> None:
        """After a failure: close the engine in use (of a lost device: all) and load it anew, as it was or, where that
        fails, as the package's own. What was under way is lost. Raises EngineError where nothing can be loaded."""
        lost = isinstance(error, DeviceLostError)
        for precision, detector in list(self._detectors.items()):
            if lost or detector is self._used:
                self._revive(precision, detector, error)
        self._under_way.clear()
        self._let_go()

    def _revive(self, precision: str, detector: Detector, error: EngineError) -> None:
        detector.close()
        fresh = self._prepared(self._loaded_anew(precision, error))
        _keep_batch(detector, fresh)
        self._detectors[precision] = fresh
        if detector is self._used:
            self._used = fresh
        if fresh.backend != detector.backend:
            self._tell_fall(precision, fresh, error)

    def _tell_fall(self, precision: str, fresh: Detector, error: EngineError) -> None:
        """What it had ran elsewhere: people learn it, and whoever counts on its speed."""
        self.why = f"{fresh.backend}, since {error}"
        self.tell(precision, f"{self.told.get(precision, '')} (fell back: {self.why})".strip())
        if self._seconds:
            self._seconds = {**self._seconds, precision: _quickest(fresh)}
            self.swaps += 1

    def _loaded_anew(self, precision: str, error: EngineError) -> Detector:
        faults = [str(error)]
        for make in (self._accepted.get(precision), partial(self._load, precision) if self._load else None):
            if make is None:
                continue
            try:
                return make()
            except AgentError as fault:
                self._accepted.pop(precision, None)
                faults.append(str(fault))
        raise EngineError("; ".join(faults))

    def close(self) -> None:
        """Close every engine. Safe to call twice."""
        for detector in (*self._detectors.values(), *self._retired):
            detector.close()

    def _accept(self, offer: Offer) -> None:
        """What cannot be loaded changes nothing, and is told."""
        try:
            detector = offer.make()
        except AgentError as error:
            self.told[offer.precision] = (
                f"{self.told.get(offer.precision, '')} (a better engine cannot be used: {error})"
            )
            log.warning("%s: %s: the new engine cannot be used: %s", self.name, offer.precision, error)
            return
        self._prepared(detector)
        self._accepted[offer.precision] = offer.make
        old = self._detectors.get(offer.precision)
        self._detectors[offer.precision] = detector
        self.tell(offer.precision, offer.told(detector))
        if old is self._used or self._wished == offer.precision:
            self._used = detector
        if old is not None:
            self._retired.append(old)
            self._let_go()
        log.info("%s: %s runs on %s from now on", self.name, offer.precision, detector.backend)
        chosen = offer.then()
        if chosen in self._detectors:
            self.chosen = chosen
            self._used = self._detectors[chosen]
        if self._seconds:
            self._seconds = {**self._seconds, **(offer.seconds or {offer.precision: _quickest(detector)})}
            self.swaps += 1

    def _let_go(self) -> None:
        """Close replaced engines that have nothing under way any more."""
        for detector in [one for one in self._retired if not self._under_way[id(one)]]:
            self._retired.remove(detector)
            self._under_way.pop(id(detector), None)
            detector.close()


def _keep_batch(old: Detector, new: Detector) -> None:
    """What was measured holds for the same graph on another engine of its kind."""
    if old.backend == new.backend:
        new.batch, new.batch_rates = old.batch, old.batch_rates


def _quickest(detector: Detector) -> float:
    took: list[float] = []
    while len(took) < TRIALS and sum(took) < TRIAL_SECONDS:
        started = time.perf_counter()
        detector.engine_alone()
        took.append(time.perf_counter() - started)
    return max(1e-6, min(took))


def load_within(
    precisions: Iterable[str], load: Callable[[str], Detector], budget: int, memory: Callable[[], int]
) -> EngineSet:
    """Load detectors in order of preference as long as they fit into ``budget`` bytes; the first one always is loaded.

    ``memory``: bytes that this process holds now. What does not fit, and what fails to load after the first, is left
    out with the reason. Raises what the first one raises.
    """
    detectors: dict[str, Detector] = {}
    left_out = []
    before = memory()
    for precision in precisions:
        if detectors and memory() - before >= budget:
            left_out.append(LeftOut(precision, f"{precision}: the memory budget of {budget >> 20} MB is used up"))
            continue
        try:
            detector = load(precision)
        except (EngineError, ModelError) as error:
            if not detectors:
                raise
            left_out.append(LeftOut(precision, f"{precision}: {error}"))
            continue
        if detectors and memory() - before > budget:
            detector.close()
            left_out.append(
                LeftOut(precision, f"{precision}: does not fit into the memory budget of {budget >> 20} MB")
            )
            continue
        detectors[precision] = detector
    return EngineSet(detectors, left_out, load)
