"""``model add --try``: a picture with the boxes of a new package, and what it would find if it were fed otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.errors import AgentError

if TYPE_CHECKING:
    from agent.data import Detections
    from agent.detection.model import ModelPackage


class Trial:
    """One picture, read before anything is written, and where it goes with its boxes."""

    def __init__(self, picture: Path, out: Path | None, model: Path, name: str) -> None:
        from agent.sources.images import read_image

        self._pixels = read_image(picture)
        if out is not None and out.exists():
            raise AgentError(f"{out}: is there already; name another file with --try-out")
        self._out = out or _free(model.with_name(f"{name}-try.jpg"))

    def run(self, package: ModelPackage) -> dict[str, Any]:
        """Draw what the package finds; what it found, for the table, and a hint where it finds nothing."""
        from agent.detection.trial import better_feed, try_feeds, try_model
        from agent.engines.onnx import OnnxEngine
        from agent.host.extensions import extensions

        engine = OnnxEngine(package.file_of(package.choose()))
        try:
            families = extensions().decoders
            found = try_model(package, engine, self._pixels, families)
            feeds = try_feeds(package, engine, self._pixels, families)
        finally:
            engine.close()
        self._write(found)
        better = better_feed(feeds)
        if better is not None:
            way = f"{better.colour.upper()} {better.normalisation}"
            click.echo(f"note: nothing found; fed as {way} it finds {better.found}: see --colour, --scale", err=True)
        boxes = zip(found.labels, found.scores.tolist(), found.boxes.tolist(), strict=True)
        return {
            "picture": str(self._out),
            "found": [{"label": label, "score": round(score, 3), "box": box} for label, score, box in boxes],
            "feeds": [feed._asdict() for feed in feeds],
        }

    def _write(self, found: Detections) -> None:
        import cv2

        from agent.detection.overlay import draw

        ok, encoded = cv2.imencode(".jpg", draw(self._pixels, found))
        try:
            # Exclusively: a file that came in the meantime is not written over.
            with self._out.open("xb") as file:
                file.write(encoded.tobytes() if ok else b"")
        except OSError as error:
            raise AgentError(f"{self._out}: cannot be written: {error.strerror}; name a place with --try-out") from None


def _free(path: Path) -> Path:
    """The path, or with the first number that makes it new."""
    count, found = 1, path
    while found.exists():
        count += 1
        found = path.with_name(f"{path.stem}-{count}{path.suffix}")
    return found
