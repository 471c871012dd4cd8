"""Whether a live camera's picture is frozen or black, from a sparse sample of each picture. Pure: time is passed in."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

PictureState = Literal["up", "frozen", "black"]

SAMPLED_PIXELS = 8000
DARK = 20.0
FLAT = 6.0
BLACK_AFTER = 2.0


def sample(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """About 8000 pixels of the picture on a regular grid, contiguous: uint8 ``[h, w, 3]``."""
    height, width = pixels.shape[:2]
    step = max(1, math.isqrt(height * width // SAMPLED_PIXELS))
    return np.ascontiguousarray(pixels[step // 2 :: step, step // 2 :: step])


def is_black(sampled: NDArray[np.uint8]) -> bool:
    """Very dark (mean at most 20 of 255) and flat (standard deviation at most 6): a lens cap, not a night."""
    return float(sampled.mean()) <= DARK and float(sampled.std()) <= FLAT


class PictureWatch:
    """Follows the pictures of one camera.

    ``frozen``: the sample has been the same, to the bit, for longer than ``frozen_after`` seconds (a sensor's noise
    never repeats). ``black``: dark and flat for longer than ``black_after`` seconds; it goes before frozen.
    """

    def __init__(self, frozen_after: float, black_after: float = BLACK_AFTER) -> None:
        self._frozen_after = frozen_after
        self._black_after = black_after
        self._seen: bytes | None = None
        self._same_since = 0.0
        self._black_since: float | None = None

    def see(self, pixels: NDArray[np.uint8], now: float) -> PictureState:
        """The state with this picture, taken at ``now``."""
        sampled = sample(pixels)
        content = sampled.tobytes()
        if content != self._seen:
            self._seen, self._same_since = content, now
        if not is_black(sampled):
            self._black_since = None
        elif self._black_since is None:
            self._black_since = now
        if self._black_since is not None and now - self._black_since > self._black_after:
            return "black"
        return "frozen" if now - self._same_since > self._frozen_after else "up"
