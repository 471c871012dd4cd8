"""``edgewarden zones``: a camera's zones, lines and masks drawn over a picture of it."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.errors import AgentError, ConfigError, SourceError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from agent.config import CameraConfig, Config

FIRST_PICTURES = 5
"""Of a live camera: it may still be setting its exposure."""


@click.group(name="zones")
def command() -> None:
    """See the zones, lines and masks that are configured."""


@command.command()
@click.argument("camera")
@click.option("--config", "-c", "path", type=click.Path(path_type=Path), required=True, help="The agent.toml.")
@click.option("--out", "-o", type=click.Path(path_type=Path), help="The PNG. Default: zones-CAMERA.png.")
@click.option("--picture", type=click.Path(path_type=Path), help="Draw on this image; the camera is not asked.")
@click.option("--at", type=click.FloatRange(min=0), default=0.0, help="Of a recording: the picture at this second.")
@click.option("--replace", is_flag=True, help="Write over a file that is there.")
def draw(camera: str, path: Path, out: Path | None, picture: Path | None, at: float, replace: bool) -> None:
    """Draw what is configured for CAMERA over a picture of it, to a PNG.

    Zones are tinted, masks hatched; the arrow on a line points into the first of its two directions.
    """
    from agent.config import load

    config = load(path)
    chosen = _camera(config, camera)
    target = out or Path(f"zones-{re.sub(r'[^A-Za-z0-9_-]+', '_', camera)}.png")
    if target.exists() and not replace:
        raise AgentError(f"{target}: is there already; name another file with --out, or give --replace")
    pixels = _read(picture) if picture else _picture(config, chosen, at)
    counts = _draw(config, chosen, pixels, target)
    click.echo(f"{target}: {counts} over {pixels.shape[1]}x{pixels.shape[0]}")


def _camera(config: Config, name: str) -> CameraConfig:
    from agent.config import did_you_mean

    cameras = {camera.name: camera for camera in config.camera}
    if name not in cameras:
        raise ConfigError(f"camera {name}: not configured{did_you_mean(name, cameras)}")
    return cameras[name]


def _draw(config: Config, camera: CameraConfig, pixels: NDArray[np.uint8], target: Path) -> str:
    import cv2

    from agent.app import build_presence, build_sieve
    from agent.detection.zone_map import draw_places

    (
        build_presence(config, camera),
        build_sieve(config, camera),
    )  # what is wrong with them is told as the daemon tells it
    zones = [zone for zone in config.zone if zone.camera == camera.name]
    lines = [line for line in config.line if line.camera == camera.name]
    encoded = cv2.imencode(".png", draw_places(pixels, zones, lines, camera.mask))[1]
    try:
        target.write_bytes(encoded.tobytes())
    except OSError as error:
        raise AgentError(f"{target}: cannot be written: {error.strerror}") from None
    return f"{len(zones)} zone(s), {len(lines)} line(s), {len(camera.mask)} mask(s)"


def _read(picture: Path) -> NDArray[np.uint8]:
    from agent.sources.images import read_image

    return read_image(picture)


def _picture(config: Config, camera: CameraConfig, at: float) -> NDArray[np.uint8]:
    """As the daemon will see it: turned, and of a live camera not the very first."""
    from agent.app import build_source
    from agent.host.extensions import extensions
    from agent.host.loading import installed
    from agent.sources.pixels import checked, turned

    plugins = [entry for name, entry in installed().items() if name in config.plugins]
    source = build_source(camera, extensions(plugins).sources)
    deadline, count = time.monotonic() + camera.stall_after + 10.0, 0
    try:
        source.open()
        while True:
            read = source.read()
            if read is None:
                raise SourceError(f"camera {camera.name}: the recording ends before second {at:g}")
            count += 1
            late = count >= FIRST_PICTURES if source.live else (read.position or 0.0) >= at
            if late or time.monotonic() > deadline:
                return turned(checked(read.pixels), camera.rotate)
    except SourceError as error:
        raise SourceError(f"{error}; --picture FILE draws on an image instead") from None
    finally:
        source.close()
