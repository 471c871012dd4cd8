"""The contracts of engines: tensors in, tensors out; and, where the device can do more, pictures in, candidates out.

What the tensors mean is the detection room's business; it tells an engine as much as the device needs to know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Outputs = Mapping[str, "NDArray[np.generic]"]


class TensorSpec(NamedTuple):
    """Name, shape (None where the graph leaves an axis open) and numpy dtype name of one input or output."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


@runtime_checkable
class Engine(Protocol):
    """One loaded graph with one picture input. The thread that made it calls it; it may own worker threads.

    ``backend``: name and version. ``slots``: how many tickets may be open. ``max_batch``: the most pictures a
    ``submit`` takes, None for no limit; with a fixed batch, ``submit`` takes just that many.
    """

    backend: str
    input: TensorSpec
    outputs: tuple[TensorSpec, ...]
    slots: int
    max_batch: int | None

    def submit(self, batch: NDArray[np.generic]) -> Any:
        """Start inference on ``batch`` (shape and dtype of ``input``), which stays untouched until collected.

        Returns a ticket. Raises EngineError, also when all slots are taken.
        """

    def collect(self, ticket: Any) -> Outputs:
        """Wait for the outputs by name; valid until the slot is used again. Raises EngineError."""

    def close(self) -> None:
        """Free what the engine holds. Safe to call twice."""


@runtime_checkable
class PooledEngine(Engine, Protocol):
    """An engine on the host's processors that works on several batches at a time, with one loaded graph.

    ``threads``: those that one inference uses; ``workers``: inferences at a time.
    """

    threads: int
    workers: int

    def spread(self, workers: int, ahead: int = 0) -> None:
        """Work on so many at a time from now on, and take ``ahead`` more that wait: ``slots`` is their sum. With one
        in all, the calling thread does it. Raises EngineError while a ticket is open."""

    def done(self, ticket: Any) -> bool:
        """Whether ``collect`` would not wait."""

    def when_done(self, tell: Callable[[], None]) -> None:
        """Call ``tell`` on the worker's thread whenever a ticket that was not finished by ``submit`` is done."""


class PixelFormat(NamedTuple):
    """How a picture's bytes become the input: ``(level - mean) * scale`` in the network's channel order.

    ``size``: width and height. ``pad``: level of what no picture covers, before mean and scale.
    """

    size: tuple[int, int]
    rgb: bool
    mean: tuple[float, float, float]
    scale: tuple[float, float, float]
    pad: int
    channels_last: bool


class Placement(NamedTuple):
    """Which rectangle of a picture is resized into which of the input; each ``x, y, width, height``."""

    source: tuple[int, int, int, int]
    target: tuple[int, int, int, int]


class Head(NamedTuple):
    """Where the candidates of one level are found in the outputs, which hold a number of values for each cell.

    ``scores``, ``boxes``: names of outputs, ``[B, N, values]``, or ``[B, values, N]`` with ``cells_last``.
    ``objectness``: which value it is, None without one; ``class_at``, ``box_at``: where the ``classes`` and the box
    begin. ``form`` of a box: ``cell`` (x, y, log w, log h in strides, from the cell), ``centre`` (x, y, w, h in network
    pixels) or ``sides`` (distances from the centre in strides, each the mean of a distribution over 8 bins). ``cells``:
    float32 ``[N, 3]``: centre x and y, stride.
    """

    scores: str
    boxes: str
    form: Literal["cell", "centre", "sides"]
    classes: int
    cells: NDArray[np.float32]
    objectness: int | None = None
    class_at: int = 0
    box_at: int = 0
    cells_last: bool = False


class FrameOutputs(NamedTuple):
    """What an engine makes of pictures. ``candidates``: float32 ``[N, 6]`` a picture, xyxy in network pixels, score and
    class, in the order of the cells; None where the engine was given no heads, or there were too many: then ``raw``
    has the outputs by name, valid until the slot is used again."""

    raw: Outputs
    candidates: tuple[NDArray[np.float32], ...] | None


@runtime_checkable
class FrameEngine(Engine, Protocol):
    """An engine that takes pictures as they come from a camera."""

    def output_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Of the smallest batch, by name, nothing left open."""

    def take_frames(self, layout: PixelFormat, heads: Sequence[Head], min_score: float) -> None:
        """Get ready for pictures. ``heads``: none where the family's outputs are to come back as they are."""

    def set_min_score(self, min_score: float) -> None:
        """Give candidates from that score on. Not while frames are under way. Raises EngineError."""

    def submit_frames(self, pixels: Sequence[NDArray[np.uint8]], placements: Sequence[Placement]) -> Any:
        """Start inference on BGR pictures, uint8 ``[H, W, 3]``, which stay untouched until collected.

        Returns a ticket. Raises EngineError, also when all slots are taken.
        """

    def collect_frames(self, ticket: Any) -> FrameOutputs:
        """Wait for what was found. Raises EngineError."""
