"""What to ask a V4L2 camera for, and what to say of its answer. Pure; v4l2.py talks to the device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

Format = Literal["auto", "mjpeg", "yuyv", "h264", "nv12", "grey"]

FOURCC: Mapping[str, str] = {"mjpeg": "MJPG", "yuyv": "YUYV", "h264": "H264", "nv12": "NV12", "grey": "GREY"}
LARGE = 640 * 480
"""Above so many pixels USB 2 carries raw pictures at a few frames a second only, and MJPEG at full rate."""
CONTROLS: Mapping[str, str] = {
    "brightness": "CAP_PROP_BRIGHTNESS",
    "contrast": "CAP_PROP_CONTRAST",
    "saturation": "CAP_PROP_SATURATION",
    "hue": "CAP_PROP_HUE",
    "gain": "CAP_PROP_GAIN",
    "gamma": "CAP_PROP_GAMMA",
    "sharpness": "CAP_PROP_SHARPNESS",
    "backlight": "CAP_PROP_BACKLIGHT",
    "auto_exposure": "CAP_PROP_AUTO_EXPOSURE",
    "exposure": "CAP_PROP_EXPOSURE",
    "auto_white_balance": "CAP_PROP_AUTO_WB",
    "white_balance": "CAP_PROP_WB_TEMPERATURE",
    "autofocus": "CAP_PROP_AUTOFOCUS",
    "focus": "CAP_PROP_FOCUS",
    "zoom": "CAP_PROP_ZOOM",
}
"""Names in the configuration and OpenCV's properties, in the order in which they are set: an automatism before the
value that it would change."""


class Mode(NamedTuple):
    """Pixel format as four characters, width and height, pictures a second; 0 and empty where unknown."""

    fourcc: str
    width: int
    height: int
    fps: float

    def __str__(self) -> str:
        return f"{self.width}x{self.height} {self.fourcc or '?'} at {self.fps:g} a second"


def fourcc_for(wanted: Format, size: tuple[int, int]) -> str:
    """What to ask for at this size; empty for the driver's own choice."""
    if wanted != "auto":
        return FOURCC[wanted]
    return "MJPG" if size[0] * size[1] > LARGE else ""


def fourcc_text(number: float) -> str:
    """``MJPG`` of the number that OpenCV gives."""
    code = int(number) & 0xFFFFFFFF
    text = "".join(chr((code >> shift) & 0xFF) for shift in (0, 8, 16, 24))
    return text.strip() if text.isascii() and text.isprintable() else ""


def shortfall(size: tuple[int, int] | None, fps: float | None, wanted: Format, given: Mode) -> str:
    """What the camera does not do of what was asked for, in words; empty where it does all of it."""
    missing = []
    if size is not None and size != (given.width, given.height):
        missing.append(f"size {size[0]}x{size[1]}")
    if wanted != "auto" and given.fourcc and given.fourcc != FOURCC[wanted]:
        missing.append(f"format {wanted}")
    if fps is not None and given.fps and given.fps < fps * 0.95:
        missing.append(f"{fps:g} pictures a second")
    return ", ".join(missing)
