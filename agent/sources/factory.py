"""Which source an address means. Nothing is opened here, nothing executed, and only what is chosen gets imported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.errors import SourceError
from agent.sources.address import redact as redact
from agent.sources.address import scheme_of
from agent.sources.base import Source

STREAMS = ("rtsp", "rtsps", "http", "https")
BUILT_IN = ("synthetic", *STREAMS)
LATER = ("csi", "gst")
DEVICES = ("/dev/video", "/dev/v4l/")


@dataclass(frozen=True)
class SourceOptions:
    """What may be said about a source beside its address.

    ``username``, ``password``: of a stream. ``fps``: pictures a second of a folder of images. ``stall_after``:
    seconds after which a stream that sends nothing is given up.
    """

    username: str | None = None
    password: str | None = None
    fps: float | None = None
    stall_after: float = 5.0

    def __repr__(self) -> str:
        """Without the secrets, so that it may be logged."""
        return f"SourceOptions(fps={self.fps}, stall_after={self.stall_after})"


NO_OPTIONS = SourceOptions()


def open_source(
    spec: str,
    *,
    options: SourceOptions = NO_OPTIONS,
    factories: Mapping[str, Callable[[str], Source]] | None = None,
) -> Source:
    """The source that ``spec`` names; it is opened by its ``open()``.

    ``spec``: ``/dev/video0``, ``/dev/v4l/by-id/…``, ``rtsp://…``, ``http://…``, ``synthetic://desk``, an image, a
    folder, a video file, or ``scheme://…`` of a plugin in ``factories``, which is called with the whole string. Raises
    SourceError when nothing knows the scheme.
    """
    scheme = "gst" if spec.startswith("gst:") else scheme_of(spec)
    factories = factories or {}
    if scheme in STREAMS:
        return _stream(spec, options)
    if scheme == "synthetic":
        return _synthetic(spec)
    if scheme in factories:
        return factories[scheme](spec)
    if scheme in LATER:
        raise SourceError(
            f"{redact(spec)}: GStreamer and CSI cameras are not supported in this version; use an rtsp:// URL"
        )
    if scheme:
        known = ", ".join(f"{name}://" for name in sorted({*BUILT_IN, *factories}))
        raise SourceError(
            f"{redact(spec)}: unknown kind of source {scheme}://; known: {known}, /dev/video0, a file, a folder"
        )
    return _device(spec) if spec.startswith(DEVICES) else _file(Path(spec).expanduser(), options)


def _stream(url: str, options: SourceOptions) -> Source:
    from agent.sources.stream import StreamCamera

    return StreamCamera(url, username=options.username, password=options.password, timeout=options.stall_after)


def _synthetic(uri: str) -> Source:
    from agent.sources.synthetic import SyntheticDesk

    return SyntheticDesk(uri)


def _device(path: str) -> Source:
    from agent.sources.v4l2 import V4l2Camera

    return V4l2Camera(path)


def _file(path: Path, options: SourceOptions) -> Source:
    """A folder, an image by its name, else a video; that the file is missing is said when it is opened."""
    from agent.sources.images import ImageFile, ImageFolder, is_image

    if path.is_dir():
        return ImageFolder(path, options.fps)
    if is_image(path):
        return ImageFile(path)
    from agent.sources.video import VideoFile

    return VideoFile(path)
