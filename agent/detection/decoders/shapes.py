"""Small pieces that the decoders share: the only output's shape, boxes from centres, the two forms of a box."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray


def only(shapes: Mapping[str, Sequence[int]]) -> tuple[int, int, int] | None:
    """The shape of the only output where it is a ``[1, A, B]``, None otherwise."""
    if len(shapes) != 1:
        return None
    (shape,) = shapes.values()
    return (shape[0], shape[1], shape[2]) if len(shape) == 3 and shape[0] == 1 else None


def boxes_from_centres(centres: NDArray[np.float32], sizes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Centres ``[N, 2]`` and sizes ``[N, 2]`` to xyxy ``[N, 4]``, float32."""
    half = sizes * np.float32(0.5)
    return np.concatenate((centres - half, centres + half), axis=1)
