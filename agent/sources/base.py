"""The contract of a source: where pictures come from. The thread, pacing and reconnecting are capture.py's."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Picture(NamedTuple):
    """One picture as a source hands it over.

    ``pixels``: uint8 ``[H, W, 3]``, BGR, not written to again by the source. ``position``: seconds since the
    start of a recording (it paces a file), None for what is live. ``name``: the file, where there is one a picture.
    """

    pixels: NDArray[np.uint8]
    position: float | None = None
    name: str = ""


@runtime_checkable
class Source(Protocol):
    """Where the pictures of one camera come from. One thread calls all of it.

    ``live``: pictures come whether or not they are read, a failure is retried for ever, and frozen and black
    pictures are noticed. A source that is not live ends.
    """

    live: bool

    def open(self) -> None:
        """Connect. Raises SourceError (MissingSourceError where a file or device does not exist)."""

    def read(self) -> Picture | None:
        """Wait for the next picture; None at the end of a recording. Raises SourceError when it is lost."""

    def close(self) -> None:
        """Let go of the device. Safe to call twice, and after a failed open."""


@runtime_checkable
class TwoStepSource(Source, Protocol):
    """A source that can wait for a picture without fetching it; optional.

    Its pictures are stamped closer to their capture, and those that nobody would look at, for the configured rate or
    the governor's, are never converted. A recording has a ``position`` too: seconds, of the picture that was grabbed.
    """

    def grab(self) -> bool:
        """Wait for the next picture; False at the end of a recording. Raises SourceError when it is lost."""

    def retrieve(self) -> Picture | None:
        """The picture that was grabbed, None when it cannot be decoded."""
