"""GStreamer pipelines and Jetson's CSI cameras, through an OpenCV that was built with GStreamer."""

from __future__ import annotations

import ctypes
import re

from agent.errors import SourceError
from agent.sources.address import redact
from agent.sources.opencv import OpenCvSource, silence

SINK = "videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false"
"""Hands over the newest picture alone, as BGR."""
CSI_SIZE, CSI_FPS = (1280, 720), 30.0
HOW_TO_GET_ONE = (
    "this OpenCV was built without GStreamer, as those of PyPI are; use Debian's python3-opencv or JetPack's own in a "
    "virtual environment made with --system-site-packages, and remove opencv-python-headless from it"
)


def pipeline_of(text: str) -> str:
    """A pipeline that ends in what we can read: as it is where it has an appsink, else completed by one."""
    pipeline = text.strip().rstrip("!").rstrip()
    return pipeline if re.search(r"\bappsink\b", pipeline) else f"{pipeline} ! {SINK}"


def csi_pipeline(
    sensor: int, size: tuple[int, int] | None = None, fps: float | None = None, mode: int | None = None
) -> str:
    """The pipeline of a camera on a Jetson's CSI connector, through the board's image signal processor.

    ``sensor``: its number; ``size``: width and height; ``mode``: one of the sensor's modes, by default the driver's
    choice. Source: NVIDIA, Accelerated GStreamer, Camera Capture with GStreamer Using nvarguscamerasrc.
    """
    width, height = size or CSI_SIZE
    which = f"nvarguscamerasrc sensor-id={sensor}" + ("" if mode is None else f" sensor-mode={mode}")
    rate = f"{round((fps or CSI_FPS) * 1000)}/1000"
    caps = f"video/x-raw(memory:NVMM),width={width},height={height},framerate={rate},format=NV12"
    return f"{which} ! {caps} ! nvvidconv ! video/x-raw,format=BGRx ! {SINK}"


def sensor_of(spec: str) -> int:
    """The number in ``csi://N``. Raises SourceError."""
    match = re.fullmatch(r"csi://(\d{1,2})/?", spec)
    if match is None:
        raise SourceError(f"{spec}: not a CSI camera; write csi://0 for the first, csi://1 for the second")
    return int(match[1])


class GStreamerCamera(OpenCvSource):
    """A live pipeline. ``shown``: what it is called in messages; ``advice``: what to look at when it does not open."""

    def __init__(self, pipeline: str, *, shown: str, advice: str = "") -> None:
        super().__init__()
        self.pipeline = pipeline_of(pipeline)
        self.shown = redact(shown)
        self._advice = advice or "try the pipeline with gst-launch-1.0, fakesink in place of the appsink"

    def open(self) -> None:
        """Start the pipeline. Raises SourceError, also where this OpenCV knows no GStreamer."""
        silence()
        import cv2

        if not has_gstreamer():
            raise SourceError(f"{self.shown}: {HOW_TO_GET_ONE}")
        # GStreamer makes what it can of a pipeline, and OpenCV then waits for ever at the end of one without a source.
        if missing := missing_elements(self.pipeline):
            raise SourceError(f"{self.shown}: there is no GStreamer element {', '.join(missing)} here; {self._advice}")
        if not self.connect(self.pipeline, cv2.CAP_GSTREAMER):
            self.close()
            raise SourceError(f"{self.shown}: the pipeline does not start; {self._advice}")

    def grab(self) -> bool:
        """Wait for the next picture. Raises SourceError when the pipeline ends."""
        if not super().grab():
            raise SourceError(f"{self.shown}: the pipeline ended or stalled")
        return True


def elements_of(pipeline: str) -> list[str]:
    """The names of the elements in a pipeline's text; caps, properties and references to pads are none."""
    plain = re.sub(r"\"[^\"]*\"|'[^']*'", "", pipeline)
    firsts = (part.split()[0] for part in re.split(r"[!()]", plain) if part.split())
    return [name for name in firsts if re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name)]


def missing_elements(pipeline: str) -> list[str]:
    """Those that no GStreamer plug-in here provides; none where GStreamer cannot be asked."""
    try:
        gst = ctypes.CDLL("libgstreamer-1.0.so.0")
    except OSError:
        return []
    gst.gst_init(None, None)
    gst.gst_element_factory_find.restype = ctypes.c_void_p
    return [name for name in elements_of(pipeline) if not gst.gst_element_factory_find(name.encode())]


def has_gstreamer() -> bool:
    """Whether this OpenCV was built with it."""
    silence()
    import cv2

    return bool(cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER))
