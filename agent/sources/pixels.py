"""The pixels of a frame: checked, turned, and read-only, before anyone sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from agent.errors import SourceError

if TYPE_CHECKING:
    from numpy.typing import NDArray

TURNS = {90: "ROTATE_90_CLOCKWISE", 180: "ROTATE_180", 270: "ROTATE_90_COUNTERCLOCKWISE"}


def checked(pixels: Any) -> NDArray[np.uint8]:
    """The pixels, if they are uint8 ``[H, W, 3]``. Raises SourceError (a plugin's source gave something else)."""
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        what = f"{pixels.dtype} {list(pixels.shape)}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
        raise SourceError(f"the source gave {what} instead of a uint8 [H, W, 3] picture")
    return pixels


def turned(pixels: NDArray[np.uint8], degrees: int) -> NDArray[np.uint8]:
    """The picture turned clockwise by 0, 90, 180 or 270 degrees."""
    if not degrees:
        return pixels
    import cv2

    return cast("NDArray[np.uint8]", cv2.rotate(pixels, getattr(cv2, TURNS[degrees])))


def read_only(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A contiguous view that cannot be made writable again; a copy where ``pixels`` is itself a view of something.

    Memory out of a PixelPool is the picture's own.
    """
    own = pixels.base is None or hasattr(pixels.base, "recycled")
    owned = pixels if own and pixels.flags.c_contiguous else pixels.copy()
    owned.flags.writeable = False
    view: NDArray[np.uint8] = owned.view()
    return view
