"""``edgewarden detect``: a detector over images, folders and videos, its findings in files."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
import msgspec

from agent.cli.progress import Progress
from agent.errors import AgentError, MissingSourceError, SourceError

if TYPE_CHECKING:
    from agent.data import Frame
    from agent.detection.detector import Detector, Pending
    from agent.detection.model import ModelPackage
    from agent.detection.results import Result, Writer
    from agent.sources.base import Picture

FORMATS = ("jsonl", "coco", "annotated")
CLIPS = (".mp4", ".mkv", ".avi", ".mov", ".m4v", ".webm", ".mpg", ".mpeg", ".ts", ".flv", ".wmv")
MOST_SLOTS = 4


def read_formats(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> list[str]:
    """Names of formats, each once; a value may hold several, separated by commas."""
    names = [name.strip() for value in values for name in value.split(",")]
    for name in names:
        if name not in FORMATS:
            raise click.BadParameter(f"{name!r} is none of {', '.join(FORMATS)}")
    return list(dict.fromkeys(names)) or ["jsonl"]


class Item(NamedTuple):
    """One thing to read: an image, or (``clip``) something that gives many pictures."""

    spec: str
    name: str
    clip: bool


class Tally(msgspec.Struct):
    """What was done. ``errors``: one line for each source or picture that could not be read."""

    pictures: int = 0
    detections: int = 0
    errors: list[str] = []
    exit_code: int = 0

    def fail(self, line: str, exit_code: int = 1) -> None:
        """Note one thing that could not be read."""
        self.errors.append(line)
        self.exit_code = max(self.exit_code, exit_code)


@click.command(name="detect")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option("--model", "-m", default="desk", show_default=True, help="A model package: folder or name.")
@click.option("--out", "-o", type=click.Path(path_type=Path), required=True, help="The folder for the results.")
@click.option(
    "--score", type=click.FloatRange(0, 1), default=0.4, show_default=True, help="Leave out what is less sure."
)
@click.option(
    "--iou", type=click.FloatRange(0, 1), default=0.65, show_default=True, help="Overlap of one object's boxes."
)
@click.option("--max-detections", type=click.IntRange(min=1), default=300, show_default=True, help="Boxes a picture.")
@click.option(
    "--format",
    "formats",
    multiple=True,
    metavar="|".join(FORMATS),
    callback=read_formats,
    help="May be repeated, or a,b. Default: jsonl.",
)
@click.option("--annotations", type=click.Path(path_type=Path), help="COCO file that gives image and category ids.")
@click.option("--precision", type=click.Choice(["fp32", "fp16", "int8"]), help="Default: fp32 where there is one.")
@click.option("--frames", type=click.IntRange(min=1), help="At most so many pictures of each source.")
@click.option("--json", "as_json", is_flag=True, help="A summary as one JSON document on stdout.")
def command(
    sources: tuple[str, ...],
    model: str,
    out: Path,
    score: float,
    iou: float,
    max_detections: int,
    formats: list[str],
    annotations: Path | None,
    precision: str | None,
    frames: int | None,
    as_json: bool,
) -> None:
    """Run a detector over images, folders and videos.

    A picture that cannot be read is told in one line and passed over; the exit code is 1 then.

    \b
    jsonl      OUT/detections.jsonl: a line a picture
    coco       OUT/detections.json: COCO results, ready for pycocotools
    annotated  OUT/annotated/: the pictures and clips with their boxes
    """
    from agent.detection.model import find_package

    items = [item for spec in sources for item in expand(spec)]
    package = find_package(model)
    detector = _detector(package, precision, score=score, iou=iou, max_detections=max_detections)
    started = time.monotonic()
    try:
        writers = _writers(formats, out, package.labels, annotations)
        tally = _work(items, detector, writers, frames)
    finally:
        detector.close()
    _report(tally, writers, time.monotonic() - started, as_json)
    click.get_current_context().exit(tally.exit_code)


def expand(spec: str) -> list[Item]:
    """The images and clips that a source means: a folder's, in natural order, or itself.

    Raises MissingSourceError for a file or folder that is not there, and for a folder with nothing in it.
    """
    from agent.sources.images import is_image, natural_order

    path = Path(spec).expanduser()
    if "://" in spec or spec.startswith(("/dev/", "gst:")):
        return [Item(spec, spec, clip=True)]
    if not path.exists():
        raise MissingSourceError(f"{spec}: no such file or folder")
    if not path.is_dir():
        return [Item(spec, path.name, clip=not is_image(path))]
    inside = [file for file in path.iterdir() if file.is_file() and (is_image(file) or _is_clip(file))]
    if not inside:
        raise MissingSourceError(f"{spec}: no images or clips in this folder")
    ordered = sorted(inside, key=lambda file: natural_order(file.name))
    return [Item(str(file), file.name, clip=not is_image(file)) for file in ordered]


def _is_clip(path: Path) -> bool:
    return path.suffix.lower() in CLIPS and not path.name.startswith(".")


def _detector(package: ModelPackage, precision: str | None, **settings: Any) -> Detector:
    """A detector for work that should keep every core busy: a picture in flight a core, one thread each."""
    from agent.detection.detector import Detector
    from agent.engines.onnx import OnnxEngine, cores

    variant = package.choose(precision)
    slots = min(cores(), MOST_SLOTS)
    engine = OnnxEngine(package.file_of(variant), slots=slots, threads=max(1, cores() // slots))
    detector = Detector(package, engine, precision=variant.precision, **settings)
    detector.warm_up()
    return detector


def _writers(formats: Sequence[str], out: Path, labels: Sequence[str], annotations: Path | None) -> list[Writer]:
    from agent.detection.results import Annotated, CocoResults, JsonLines, read_annotations

    ids = read_annotations(annotations) if annotations is not None else None
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AgentError(f"{out}: cannot be made: {error.strerror}") from None
    makers: dict[str, Callable[[], Writer]] = {
        "jsonl": lambda: JsonLines(out),
        "coco": lambda: CocoResults(out, labels, ids),
        "annotated": lambda: Annotated(out),
    }
    return [makers[name]() for name in formats]


def _work(items: Sequence[Item], detector: Detector, writers: Sequence[Writer], frames: int | None) -> Tally:
    tally = Tally()
    total = None if any(item.clip for item in items) else len(items)
    with Progress("pictures", total) as progress:
        for result in _results(items, detector, tally, progress, frames):
            for writer in writers:
                writer.write(result)
            tally.pictures += 1
            tally.detections += len(result.detections)
            progress.step()
    for writer in writers:
        writer.finish()
    return tally


def _results(
    items: Sequence[Item], detector: Detector, tally: Tally, progress: Progress, frames: int | None
) -> Iterator[Result]:
    """Every picture's result, in order, with as many inferences open as the engine has slots."""
    waiting: deque[tuple[Item, Picture, Frame, Pending]] = deque()
    for item, picture, frame in _frames(items, tally, progress, frames):
        if len(waiting) == detector.slots:
            yield _collect(detector, *waiting.popleft())
        waiting.append((item, picture, frame, detector.submit([frame])))
    while waiting:
        yield _collect(detector, *waiting.popleft())


def _collect(detector: Detector, item: Item, picture: Picture, frame: Frame, pending: Pending) -> Result:
    from agent.detection.results import Result

    (found,) = detector.collect(pending)
    number, position = (frame.seq, picture.position) if item.clip else (None, None)
    return Result(item.spec, item.name, number, position, frame.pixels, found)


def _frames(
    items: Sequence[Item], tally: Tally, progress: Progress, limit: int | None
) -> Iterator[tuple[Item, Picture, Frame]]:
    """The pictures of all items; what cannot be read is told and counted."""
    from agent.data import Frame

    for item in items:
        try:
            for seq, picture in enumerate(_pictures(item, tally, progress, limit)):
                yield item, picture, Frame(item.name, seq, picture.pixels, time.time(), time.monotonic())
        except SourceError as error:
            tally.fail(str(error), error.exit_code)
            progress.say(f"edgewarden: {error}")


def _pictures(item: Item, tally: Tally, progress: Progress, limit: int | None) -> Iterator[Picture]:
    from agent.sources.factory import open_source

    source = open_source(item.spec)
    try:
        source.open()
        count = 0
        while count != limit and (picture := source.read()) is not None:
            count += 1
            yield picture
    finally:
        source.close()
        # Pictures inside a clip that could not be decoded; only recordings have them.
        for line in getattr(source, "skipped", ()):
            tally.fail(f"{line}: cannot be decoded")
            progress.say(f"edgewarden: {line}: cannot be decoded")


def _report(tally: Tally, writers: Sequence[Writer], seconds: float, as_json: bool) -> None:
    for writer in writers:
        for note in writer.notes:
            click.echo(f"note: {note}", err=True)
    files = [str(writer.path) for writer in writers]
    if as_json:
        summary = {"pictures": tally.pictures, "detections": tally.detections, "errors": tally.errors}
        click.echo(json.dumps(summary | {"files": files, "seconds": round(seconds, 3)}))
        return
    rate = tally.pictures / seconds if seconds else 0.0
    errors = f", {len(tally.errors)} not read" if tally.errors else ""
    click.echo(f"{tally.detections} detections in {tally.pictures} pictures{errors}, {rate:.1f} pictures a second")
    for file in files:
        click.echo(f"  {file}")
