"""The contract of an engine: tensors in, tensors out. What the tensors mean is the detection room's business."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

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
