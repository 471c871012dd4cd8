"""Which source an address means. Nothing is opened here, nothing executed, and only what is chosen gets imported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agent.errors import SourceError
from agent.sources.address import hide_password, scheme_of
from agent.sources.address import redact as redact
from agent.sources.base import Source
from agent.sources.v4l2_modes import Format

STREAMS = ("rtsp", "rtsps", "http", "https")
BUILT_IN = ("synthetic", "csi", "gst", *STREAMS)
DEVICES = ("/dev/video", "/dev/v4l/")


@dataclass(frozen=True)
class SourceOptions:
    """What may be said about a source beside its address.

    ``username``, ``password``: of a stream. ``fps``: pictures a second, of a folder of images, and what a local camera
    is asked for. ``stall_after``: seconds after which a stream that sends nothing is given up. ``size``, ``format``,
    ``controls``, ``sensor_mode``: of a local camera. ``hardware_decode``: let the video decoder of the board work.
    ``decode_threads``: of a video file, by default FFmpeg's choice.
    """

    username: str | None = None
    password: str | None = None
    fps: float | None = None
    stall_after: float = 5.0
    size: tuple[int, int] | None = None
    format: Format = "auto"
    controls: Mapping[str, float] = field(default_factory=dict)
    sensor_mode: int | None = None
    hardware_decode: bool = True
    decode_threads: int | None = None

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

    ``spec``: ``/dev/video0``, ``/dev/v4l/by-id/…``, ``csi://0``, ``gst:PIPELINE``, ``rtsp://…``, ``http://…``,
    ``synthetic://desk``, an image, a folder, a video file, or ``scheme://…`` of a plugin in ``factories``, which is
    called with the whole string. Raises SourceError when nothing knows the scheme.
    """
    scheme = "gst" if spec.startswith("gst:") else scheme_of(spec)
    hide_password(spec)
    factories = factories or {}
    if scheme in STREAMS:
        return _stream(spec, options)
    if scheme == "synthetic":
        return _synthetic(spec)
    if scheme in factories:
        return factories[scheme](spec)
    if scheme in ("gst", "csi"):
        return _gstreamer(spec, options)
    if scheme:
        known = ", ".join(f"{name}://" for name in sorted({*BUILT_IN, *factories}))
        raise SourceError(
            f"{redact(spec)}: unknown kind of source {scheme}://; known: {known}, /dev/video0, a file, a folder"
        )
    return _device(spec, options) if spec.startswith(DEVICES) else _file(Path(spec).expanduser(), options)


def _stream(url: str, options: SourceOptions) -> Source:
    from agent.sources.stream import StreamCamera

    return StreamCamera(
        url,
        username=options.username,
        password=options.password,
        timeout=options.stall_after,
        hardware_decode=options.hardware_decode,
    )


def _gstreamer(spec: str, options: SourceOptions) -> Source:
    from agent.sources.gstreamer import GStreamerCamera, csi_pipeline, sensor_of

    if spec.startswith("gst:"):
        return GStreamerCamera(spec.removeprefix("gst:"), shown=spec)
    pipeline = csi_pipeline(sensor_of(spec), options.size, options.fps, options.sensor_mode)
    advice = "look at `gst-inspect-1.0 nvarguscamerasrc`, `systemctl status nvargus-daemon` and the camera's cable"
    return GStreamerCamera(pipeline, shown=spec, advice=advice)


def _synthetic(uri: str) -> Source:
    from agent.sources.synthetic import SyntheticDesk

    return SyntheticDesk(uri)


def _device(path: str, options: SourceOptions) -> Source:
    from agent.sources.v4l2 import V4l2Camera

    return V4l2Camera(path, size=options.size, fps=options.fps, format=options.format, controls=options.controls)


def _file(path: Path, options: SourceOptions) -> Source:
    """A folder, an image by its name, else a video; that the file is missing is said when it is opened."""
    from agent.sources.images import ImageFile, ImageFolder, is_image

    if path.is_dir():
        return ImageFolder(path, options.fps)
    if is_image(path):
        return ImageFile(path)
    from agent.sources.video import VideoFile

    return VideoFile(path, threads=options.decode_threads, hardware_decode=options.hardware_decode)
