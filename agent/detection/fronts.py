"""From frames to candidates, by either of two ways: through the host's memory, or all of it on the device.

The detector chooses among the candidates, and knows no difference. Which way it is follows from the engine.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from agent.detection.decoders.base import Candidates
from agent.detection.preprocess import Preprocessor, Transform, plan
from agent.engines.base import FrameEngine, PixelFormat, Placement
from agent.errors import EngineError

if TYPE_CHECKING:
    from agent.data import Frame
    from agent.detection.decoders.base import Decoder
    from agent.detection.manifest import InputSpec
    from agent.engines.base import Engine, Head, Outputs

Shapes = Mapping[str, Sequence[int]]


class Begun(NamedTuple):
    """Frames under way. ``transforms``: one a frame; ``held``: what must not be touched meanwhile."""

    ticket: Any
    transforms: tuple[Transform, ...]
    held: Any


class Front(Protocol):
    """``submit`` and ``collect`` in that order, at most the engine's slots open. Raise EngineError."""

    def submit(self, frames: Sequence[Frame]) -> Begun:
        """Start the inference of frames."""

    def collect(self, begun: Begun) -> list[Candidates]:
        """Wait for the candidates; an entry a frame, or fewer where the last frames have none."""

    def set_min_score(self, min_score: float) -> None:
        """Give candidates from that score on. Not while frames are under way."""

    def engine_alone(self) -> Outputs:
        """Run the network on whatever its next input holds."""


def front_of(spec: InputSpec, engine: Engine, decoder: Decoder, min_score: float) -> Front:
    """The device's way where the engine takes frames, else the host's."""
    if isinstance(engine, FrameEngine):
        return DeviceFront(spec, engine, decoder, min_score)
    return HostFront(spec, engine, decoder, min_score)


class HostFront:
    """Resized by OpenCV into buffers made once, decoded by numpy."""

    def __init__(self, spec: InputSpec, engine: Engine, decoder: Decoder, min_score: float) -> None:
        self._spec, self._engine, self._decoder, self._min_score = spec, engine, decoder, min_score
        self._fixed = engine.input.shape[0] if engine.input.shape else None
        self._free = deque([self._preprocessor(self._fixed or 1)])
        self._made = 1  # another one only for an engine that really has several frames under way

    def submit(self, frames: Sequence[Frame]) -> Begun:
        """See Front."""
        preprocessor = self._take(len(frames))
        try:
            transforms = tuple(preprocessor.fill(index, frame.pixels) for index, frame in enumerate(frames))
            # A graph of fixed batch gets all of it; what is left of earlier frames in the rest is not looked at.
            ticket = self._engine.submit(preprocessor.buffer[: self._fixed or len(frames)])
        except BaseException:
            self._put_back(preprocessor)
            raise
        return Begun(ticket, transforms, preprocessor)

    def collect(self, begun: Begun) -> list[Candidates]:
        """See Front."""
        try:
            return self._decoder.decode(self._engine.collect(begun.ticket), self._min_score)
        finally:
            self._put_back(begun.held)

    def set_min_score(self, min_score: float) -> None:
        """See Front."""
        self._min_score = min_score

    def engine_alone(self) -> Outputs:
        """See Front."""
        return self._engine.collect(self._engine.submit(self._free[0].buffer[: self._fixed or 1]))

    def _take(self, count: int) -> Preprocessor:
        if not self._free and self._made < self._engine.slots:
            self._made += 1
            return self._preprocessor(max(self._fixed or 1, count))
        if not self._free:
            raise EngineError(f"all {self._engine.slots} slots are taken, collect one first")
        preprocessor = self._free.popleft()
        return preprocessor if count <= len(preprocessor.buffer) else self._preprocessor(count)

    def _put_back(self, preprocessor: Preprocessor) -> None:
        """Those that the engine, with fewer slots now, would not use are let go."""
        if self._made > self._engine.slots:
            self._made -= 1
        else:
            self._free.append(preprocessor)

    def _preprocessor(self, batch: int) -> Preprocessor:
        return Preprocessor(self._spec, batch=batch, dtype=self._engine.input.dtype)


class DeviceFront:
    """The engine takes the camera's bytes, and gives candidates where the decoder can tell it where they are."""

    def __init__(self, spec: InputSpec, engine: FrameEngine, decoder: Decoder, min_score: float) -> None:
        self._spec, self._engine, self._decoder, self._min_score = spec, engine, decoder, min_score
        self._fixed = engine.input.shape[0] if engine.input.shape else None
        self._plans: dict[tuple[int, int], Transform] = {}
        layout = PixelFormat(spec.size, spec.colour == "rgb", spec.mean, spec.scale, spec.pad, spec.layout == "nhwc")
        engine.take_frames(layout, heads_of(decoder, engine.output_shapes()), min_score)

    def submit(self, frames: Sequence[Frame]) -> Begun:
        """See Front."""
        transforms = tuple(self._plan(frame.size) for frame in frames)
        padded = [*range(len(frames)), *[0] * ((self._fixed or 0) - len(frames))]  # a fixed batch is filled up
        pixels = [np.ascontiguousarray(frames[place].pixels) for place in padded]
        placements = [Placement(transforms[place].source, transforms[place].target) for place in padded]
        return Begun(self._engine.submit_frames(pixels, placements), transforms, pixels)

    def collect(self, begun: Begun) -> list[Candidates]:
        """See Front."""
        outputs = self._engine.collect_frames(begun.ticket)
        if outputs.candidates is None:
            return self._decoder.decode(outputs.raw, self._min_score)[: len(begun.transforms)]
        found = outputs.candidates[: len(begun.transforms)]
        return [Candidates(rows[:, :4], rows[:, 4], rows[:, 5].astype(np.int32)) for rows in found]

    def set_min_score(self, min_score: float) -> None:
        """See Front."""
        self._min_score = min_score
        self._engine.set_min_score(min_score)

    def engine_alone(self) -> Outputs:
        """See Front."""
        width, height = self._spec.size
        sides = (height, width, 3) if self._spec.layout == "nhwc" else (3, height, width)
        batch = np.zeros((self._fixed or 1, *sides), self._engine.input.dtype)
        return self._engine.collect(self._engine.submit(batch))

    def _plan(self, size: tuple[int, int]) -> Transform:
        if size not in self._plans:
            if len(self._plans) >= 64:
                self._plans.clear()
            self._plans[size] = plan(self._spec, size)
        return self._plans[size]


def heads_of(decoder: Decoder, shapes: Shapes) -> tuple[Head, ...]:
    """What a decoder tells a device of its family's outputs; nothing where it has not learned to."""
    tell = getattr(decoder, "heads", None)
    heads: tuple[Head, ...] = tell(shapes) if tell is not None else ()
    return heads
