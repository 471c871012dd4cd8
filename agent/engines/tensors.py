"""Whether a batch is what an engine's input takes, and shapes for messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from agent.errors import EngineError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from agent.engines.base import TensorSpec


def check_batch(batch: NDArray[np.generic], spec: TensorSpec, origin: object) -> None:
    """Raises EngineError, one line begun by ``origin``, for a batch of another shape or dtype than the input's."""
    wanted = spec.shape
    fits = len(wanted) == batch.ndim and all(w in (None, g) for w, g in zip(wanted, batch.shape, strict=True))
    if not fits or batch.dtype.name != spec.dtype:
        raise EngineError(
            f"{origin}: input {spec.name} takes {shown(wanted)} {spec.dtype}, "
            f"got {shown(batch.shape)} {batch.dtype.name}"
        )


def shown(shape: Sequence[int | None]) -> str:
    """A shape for a message: ``[1, 3, ?, ?]``."""
    return "[" + ", ".join("?" if axis is None else str(axis) for axis in shape) + "]"
