"""Frames in, detections out: preprocess, engine, decode, NMS, back to the picture's own pixels.

It leaves the graph to its engine, what outputs mean to the family's decoder, and which frame comes next to the
caller, whose thread does all of it.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from agent.data import Detections
from agent.detection.decoders.base import Candidates, Decoder
from agent.detection.decoders.registry import decoder_class
from agent.detection.fronts import Begun, front_of
from agent.detection.nms import Method, suppress
from agent.engines.base import PooledEngine
from agent.errors import EngineError, ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agent.data import Frame
    from agent.detection.model import ModelPackage
    from agent.detection.preprocess import Transform
    from agent.engines.base import Engine, Outputs

log = logging.getLogger(__name__)

SCORE = 0.4
IOU = 0.65
MAX_DETECTIONS = 300
NOTHING = Candidates(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int32))


class Pending(NamedTuple):
    """Frames whose inference was started, and what is needed to finish them."""

    begun: Begun
    frames: tuple[Frame, ...]
    started: float


class Detector:
    """One model on one engine, which it owns from now on: ``close`` closes both.

    ``score``: detections below it are not reported. ``iou``: boxes of one class that overlap by more are one object;
    ``nms``: how those are suppressed. ``precision``: of the variant that the engine has loaded. ``decoders``: families
    of plugins. Of each box the likeliest label counts, and at most ``max_detections`` a picture are kept. ``batch``:
    pictures at once that are fastest here, ``batch_rates``: a second by their number, where somebody has measured it.

    Raises ModelError when the family is unknown or the graph's input is not what the package says.
    """

    def __init__(
        self,
        package: ModelPackage,
        engine: Engine,
        *,
        score: float = SCORE,
        iou: float = IOU,
        max_detections: int = MAX_DETECTIONS,
        precision: str = "fp32",
        decoders: Mapping[str, type[Decoder]] | None = None,
        nms: Method = "exact",
    ) -> None:
        self.name = package.name
        self.labels = package.labels
        self.backend = engine.backend
        self.precision = precision
        self.max_batch = engine.max_batch
        self._engine = engine
        self._pooled = engine if isinstance(engine, PooledEngine) else None
        self._input = package.input
        self._score, self._iou, self._max_detections = score, iou, max_detections
        self._nms: Method = nms
        self._family = decoder_class(package.family, decoders)
        self._decoder = self._family(package.input.size, len(package.labels))
        self._fixed_batch = engine.input.shape[0] if engine.input.shape else None
        self._check_input()
        self._front = front_of(package.input, engine, self._decoder, score)
        self.batch = 1
        self.batch_rates: dict[int, float] = {}
        self._open: deque[Pending] = deque()
        self._strange: set[int] = set()

    @property
    def engine(self) -> Engine:
        """What it runs on, for who measures it."""
        return self._engine

    @property
    def slots(self) -> int:
        """How many submits may be open."""
        return self._engine.slots

    @property
    def workers(self) -> int:
        """How many inferences go on at a time; 1 on a device, however many slots it has."""
        return self._pooled.workers if self._pooled is not None else 1

    @property
    def threads(self) -> int | None:
        """The threads that one inference uses; None on a device."""
        return self._pooled.threads if self._pooled is not None else None

    def spread(self, workers: int, ahead: int) -> bool:
        """Have the engine work on so many frames at a time; False when it is not one that can. Not while frames are
        under way."""
        if self._pooled is None:
            return False
        self._pooled.spread(workers, ahead)
        return True

    def ready(self, pending: Pending) -> bool:
        """Whether ``collect`` would not wait for the engine, or the engine cannot tell."""
        return self._pooled is None or self._pooled.done(pending.begun.ticket)

    def when_ready(self, tell: Callable[[], None]) -> None:
        """Call ``tell`` on a thread of the engine's when frames are ready that were not at once."""
        if self._pooled is not None:
            self._pooled.when_done(tell)

    @property
    def fixed_batch(self) -> int | None:
        """How many pictures the graph always takes at once; None where it takes any number."""
        return self._fixed_batch

    def submit(self, frames: Sequence[Frame]) -> Pending:
        """Start the inference of frames, at most ``max_batch``. Raises EngineError, also when all slots are taken."""
        started = time.perf_counter()
        self._check_count(len(frames))
        pending = Pending(self._front.submit(frames), tuple(frames), started)
        self._open.append(pending)
        return pending

    def collect(self, pending: Pending) -> list[Detections]:
        """Wait for the oldest submitted frames; one entry a frame. Raises EngineError."""
        if not self._open or self._open[0] is not pending:
            raise EngineError(f"{self.name}: collect in the order of submit, each once")
        self._open.popleft()
        # What a broken graph makes overflow, or of numbers that are none, is left out and needs no warning.
        with np.errstate(invalid="ignore", over="ignore"):
            found = [_finite(some) for some in self._front.collect(pending.begun)]
        # A decoder of graphs that choose boxes for a whole batch cannot know of pictures behind the last box.
        found += [NOTHING] * (len(pending.frames) - len(found))
        results = zip(pending.frames, pending.begun.transforms, found, strict=False)
        with np.errstate(invalid="ignore", over="ignore"):
            return [self._finish(frame, transform, some, pending.started) for frame, transform, some in results]

    def detect(self, frame: Frame) -> Detections:
        """One frame, waited for."""
        (detections,) = self.collect(self.submit([frame]))
        return detections

    def engine_alone(self, _frame: Frame | None = None) -> Outputs:
        """Run the engine on whatever its next input buffer holds: the floor that benchmarks measure against."""
        return self._front.engine_alone()

    def warm_up(self) -> None:
        """Run the graph once, and check that its outputs are those of the family and labels. Raises ModelError."""
        outputs = self.engine_alone()
        shapes = {name: (1, *array.shape[1:]) for name, array in outputs.items()}
        classes = self._family.matches(shapes, self._input.size)
        if classes is None:
            shown = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
            raise ModelError(f"{self.name}: outputs {shown} are not those of family {self._family.family}")
        if classes not in (0, len(self.labels)):
            raise ModelError(
                f"{self.name}: the graph tells {classes} classes apart, model.toml names {len(self.labels)}"
            )
        self._decoder.decode(outputs, self._score)

    def retune(self, *, score: float, iou: float, max_detections: int, nms: Method) -> None:
        """Other thresholds, from the next frame on. Not while frames are under way."""
        self._score, self._iou, self._max_detections, self._nms = score, iou, max_detections, nms
        self._front.set_min_score(score)

    def close(self) -> None:
        """Close the engine. Safe to call twice."""
        self._open.clear()
        self._engine.close()

    def _check_count(self, count: int) -> None:
        limit = self._fixed_batch or self.max_batch
        if count < 1 or (limit is not None and count > limit):
            raise EngineError(f"{self.name}: takes 1 to {limit or 'any number of'} frames at once, not {count}")
        if len(self._open) >= self.slots:
            raise EngineError(f"{self.name}: all {self.slots} slots are taken, collect one first")

    def _check_input(self) -> None:
        width, height = self._input.size
        shape = self._engine.input.shape
        wanted = (None, height, width, 3) if self._input.layout == "nhwc" else (None, 3, height, width)
        fits = len(shape) == 4 and all(None in (a, b) or a == b for a, b in zip(wanted, shape, strict=True))
        if not fits or self._engine.input.dtype not in ("float32", "float16", "uint8"):
            shown = ["?" if side is None else side for side in shape]
            raise ModelError(
                f"{self.name}: the graph's input {self._engine.input.name} is {shown} {self._engine.input.dtype}, "
                f"model.toml says [N, {', '.join(map(str, wanted[1:]))}]"
            )

    def _finish(self, frame: Frame, transform: Transform, found: Candidates, started: float) -> Detections:
        chosen, scores = self._choose(found)
        landmarks = None if found.landmarks is None else found.landmarks[chosen]
        boxes, landmarks = transform.undo(found.boxes.take(chosen, axis=0), landmarks)
        scores, class_ids = scores[chosen], found.class_ids[chosen]
        # A box that lies in the padding is no box of this picture.
        extents = boxes[:, 2:] > boxes[:, :2]
        if not extents.all():
            inside = extents.all(axis=1)
            boxes, scores, class_ids = boxes[inside], scores[inside], class_ids[inside]
            landmarks = None if landmarks is None else landmarks[inside]
        return Detections(
            camera=frame.camera,
            seq=frame.seq,
            captured_at=frame.captured_at,
            boxes=boxes,
            scores=scores,
            class_ids=class_ids,
            labels=tuple(map(self._label, class_ids.tolist())),
            size=frame.size,
            precision=self.precision,
            landmarks=landmarks,
            latency_ms=(time.perf_counter() - started) * 1e3,
        )

    def _choose(self, found: Candidates) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """The detections' indices, best first, and the scores of all candidates."""
        if not self._decoder.needs_nms:
            return np.argsort(-found.scores, kind="stable")[: self._max_detections], found.scores
        chosen, scores = suppress(
            self._nms, found.boxes, found.scores, found.class_ids, self._iou, self._max_detections
        )
        # What matrix NMS lowered below the threshold is no detection any more.
        return chosen[scores[chosen] >= np.float32(self._score)], scores

    def _label(self, class_id: int) -> str:
        if 0 <= class_id < len(self.labels):
            return self.labels[class_id]
        if class_id not in self._strange:
            self._strange.add(class_id)
            log.warning("%s: the graph names class %d, model.toml has %d labels", self.name, class_id, len(self.labels))
        return f"class {class_id}"


def _finite(found: Candidates) -> Candidates:
    """Those whose score, box and landmarks are numbers: a broken graph gives others."""
    points = 0.0 if found.landmarks is None else found.landmarks.sum()
    if math.isfinite(found.scores.sum() + found.boxes.sum() + points):
        return found  # one that is no number would make the sum none
    good = np.isfinite(found.scores) & np.isfinite(found.boxes).all(axis=1)
    if found.landmarks is not None:
        good &= np.isfinite(found.landmarks).all(axis=(1, 2))
    landmarks = None if found.landmarks is None else found.landmarks[good]
    return Candidates(found.boxes[good], found.scores[good], found.class_ids[good], landmarks)
