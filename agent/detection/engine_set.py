"""Detectors of one model in several precisions, all loaded and warm: which of them works is changed between two frames.

Which precisions those are, and when to change, is the caller's choice. One thread calls all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from agent.errors import EngineError, ModelError

if TYPE_CHECKING:
    from agent.data import Detections, Frame
    from agent.detection.detector import Detector, Pending
    from agent.engines.base import Outputs


class Open(NamedTuple):
    """Frames under way, and the detector that has them."""

    detector: Detector
    pending: Pending


class LeftOut(NamedTuple):
    """A precision that was not loaded, and why."""

    precision: str
    reason: str


class EngineSet:
    """Does what a Detector does, with the detector of the precision in use; owns all of them.

    ``detectors``: by precision, in the order of preference; the first one is in use. ``left_out``: what was not loaded.
    ``told``: what whoever chose them has to say of each precision of the model.
    """

    def __init__(self, detectors: Mapping[str, Detector], left_out: Sequence[LeftOut] = ()) -> None:
        if not detectors:
            raise ModelError("no precision of this model can be used; " + "; ".join(one.reason for one in left_out))
        self._detectors = dict(detectors)
        self.left_out = tuple(left_out)
        self.told: dict[str, str] = {}
        self._used = next(iter(self._detectors.values()))

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
        """How many submits may be open."""
        return min(detector.slots for detector in self._detectors.values())

    def use(self, precision: str) -> None:
        """From the next ``submit`` on. What is under way is finished by the engine that has it.

        Raises EngineError for a precision that is not loaded, and goes on with the one in use.
        """
        if precision not in self._detectors:
            raise EngineError(f"{self.name}: {precision} is not loaded, only {', '.join(self._detectors)}")
        self._used = self._detectors[precision]

    def submit(self, frames: Sequence[Frame]) -> Open:
        """Start the inference of frames. Raises EngineError."""
        return Open(self._used, self._used.submit(frames))

    def collect(self, started: Open) -> list[Detections]:
        """Wait for the oldest submitted frames; one entry a frame. Raises EngineError."""
        return started.detector.collect(started.pending)

    def engine_alone(self, frame: Frame | None = None) -> Outputs:
        """See Detector."""
        return self._used.engine_alone(frame)

    def detect(self, frame: Frame) -> Detections:
        """One frame, waited for."""
        (detections,) = self.collect(self.submit([frame]))
        return detections

    def close(self) -> None:
        """Close every engine. Safe to call twice."""
        for detector in self._detectors.values():
            detector.close()


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
    return EngineSet(detectors, left_out)
