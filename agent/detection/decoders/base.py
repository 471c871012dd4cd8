"""The contract of a decoder: a network's raw outputs to candidate boxes, in the network's own pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Candidates(NamedTuple):
    """Boxes of one picture before NMS: boxes float32 ``[N, 4]`` xyxy in network pixels, scores float32 ``[N]``,
    class_ids int32 ``[N]``, landmarks float32 ``[N, K, 2]`` or None."""

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int32]
    landmarks: NDArray[np.float32] | None = None


@runtime_checkable
class Decoder(Protocol):
    """One family of detectors. Made once a model with ``Decoder(input_size, classes)``.

    ``family``: the name in ``model.toml``. ``needs_nms``: False where the graph has already suppressed duplicates.
    """

    family: ClassVar[str]
    needs_nms: ClassVar[bool]

    def __init__(self, input_size: tuple[int, int], classes: int) -> None:
        """``input_size``: width and height of the network's input; ``classes``: how many labels there are."""

    @staticmethod
    def matches(shapes: Mapping[str, Sequence[int]], input_size: tuple[int, int]) -> int | None:
        """How many classes outputs of these shapes (batch 1) would mean for this family: 0 where shapes do not say,
        None if they are not this family's."""

    def decode(self, outputs: Mapping[str, NDArray[np.generic]], min_score: float) -> list[Candidates]:
        """Candidates at or above ``min_score``, one entry a picture of the batch."""
