"""``edgewarden detect``: a detector over images, folders and videos, its findings in files."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from agent.cli.progress import Progress
from agent.errors import AgentError

if TYPE_CHECKING:
    from agent.detection.batch_items import Item
    from agent.detection.batch_journal import BatchJournal, Tally
    from agent.detection.detector import Detector
    from agent.detection.model import ModelPackage
    from agent.detection.results import Writer
    from agent.engines.on_processor import Backend

FORMATS = ("jsonl", "coco", "annotated")
MOST_SLOTS = 4


def read_formats(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> list[str]:
    """Names of formats, each once; a value may hold several, separated by commas."""
    names = [name.strip() for value in values for name in value.split(",")]
    for name in names:
        if name not in FORMATS:
            raise click.BadParameter(f"{name!r} is none of {', '.join(FORMATS)}")
    return list(dict.fromkeys(names)) or ["jsonl"]


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
@click.option(
    "--nms", type=click.Choice(["exact", "fast", "matrix"]), default="exact", show_default=True, help="Of duplicates."
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
@click.option(
    "--precision", type=click.Choice(["fp32", "fp16", "bf16", "int8", "mixed"]), help="Default: fp32 if there is one."
)
@click.option(
    "--backend",
    type=click.Choice(("onnxruntime", "openvino")),
    help="Engine. Default: onnxruntime, and for bf16 openvino.",
)
@click.option("--batch", type=click.IntRange(1, 256), help="Pictures at once. Default: what is measured to be fastest.")
@click.option("--recursive", "-r", is_flag=True, help="Look into the folders below a folder too.")
@click.option("--restart", is_flag=True, help="Begin anew where another job was interrupted in this folder.")
@click.option("--frames", type=click.IntRange(min=1), help="At most so many pictures of each source.")
@click.option("--json", "as_json", is_flag=True, help="A summary as one JSON document on stdout.")
def command(
    sources: tuple[str, ...],
    model: str,
    out: Path,
    formats: list[str],
    annotations: Path | None,
    precision: str | None,
    backend: Backend | None,
    batch: int | None,
    recursive: bool,
    restart: bool,
    frames: int | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """Run a detector over images, folders, globs and videos.

    A picture that cannot be read is told in one line and passed over; the exit code is 1 then. A job that was
    interrupted goes on where it was when the same command is given again.

    \b
    jsonl      OUT/detections.jsonl: a line a picture
    coco       OUT/detections.json: COCO results, ready for pycocotools
    annotated  OUT/annotated/: the pictures and clips with their boxes
    """
    from agent.detection.batch_items import expand, outside
    from agent.detection.batch_journal import BatchJournal
    from agent.detection.model import find_package
    from agent.detection.results import holds
    from agent.engines.on_processor import backend_for

    items = outside(expand(sources, recursive=recursive), out)
    package = find_package(model)
    engine = backend or backend_for(package.choose(precision).precision)
    job = _job(items, package, precision, engine, formats, annotations, frames, settings)
    with closing(_detector(package, precision, engine, **settings)) as detector:
        _make(out)
        with closing(BatchJournal(out, job, restart=restart)) as journal:
            journal.keep_while(lambda record: holds(out, record.marks))
            before = journal.tally().pictures
            rates = _choose_batch(journal, detector, batch)
            files = _Files(formats, out, package, annotations)
            tally, writers, seconds = _work(items, detector, journal, files, frames)
    how = {"batch": journal.batch, "pictures_a_second_by_batch": rates, "seconds": round(seconds, 3)}
    _report(tally, writers, (tally.pictures - before) / seconds if seconds else 0.0, how, as_json)
    click.get_current_context().exit(tally.exit_code)


class _Files(NamedTuple):
    """Which files are to be written, and where."""

    formats: Sequence[str]
    out: Path
    package: ModelPackage
    annotations: Path | None

    def open(self, marks: Mapping[str, Mapping[str, Any]]) -> dict[str, Writer]:
        """The writers by format, each going on where its mark says."""
        from agent.detection.results import Annotated, CocoResults, JsonLines, read_annotations

        ids = read_annotations(self.annotations) if self.annotations is not None else None
        known = {name: dict(mark) for name, mark in marks.items()}
        makers: dict[str, Callable[[], Writer]] = {
            "jsonl": lambda: JsonLines(self.out, known.get("jsonl")),
            "coco": lambda: CocoResults(self.out, self.package.labels, ids, known.get("coco")),
            "annotated": lambda: Annotated(self.out, known.get("annotated")),
        }
        return {name: makers[name]() for name in self.formats}


def _job(
    items: Sequence[Item],
    package: ModelPackage,
    precision: str | None,
    backend: Backend,
    formats: Sequence[str],
    annotations: Path | None,
    frames: int | None,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """What decides what is written, by names that an error can tell."""
    from agent.detection.batch_items import stamp

    variant = package.choose(precision)
    # bf16 is the fp32 file on another engine: another engine is another model.
    engine = [] if backend == "onnxruntime" else [f"{backend} {variant.precision}"]
    ids = annotations.read_bytes() if annotations is not None and annotations.is_file() else b""
    return {
        "model": _digest([variant.sha256, package.family, package.labels, repr(package.input), *engine]),
        "pictures": _digest([stamp(item) for item in items]),
        "annotations": _digest(ids),
        "formats": ",".join(sorted(formats)),
        "frames": frames,
        **settings,
    }


def _digest(value: Any) -> str:
    import hashlib

    from agent.detection.batch_journal import DIGEST

    plain = value if isinstance(value, bytes) else json.dumps(value, sort_keys=True, default=str).encode()
    return DIGEST + hashlib.sha256(plain).hexdigest()


def _choose_batch(journal: BatchJournal, detector: Detector, wanted: int | None) -> dict[int, float]:
    """As many pictures at once as when the job began; of a new one as wanted, or as measured."""
    from agent.detection.batch_size import best_batch

    if journal.batch is not None:
        if detector.fixed_batch is None and wanted not in (None, journal.batch):
            raise AgentError(
                f"{journal.path.parent}: a job with --batch {journal.batch} was interrupted here, not {wanted}; leave "
                "--batch out to finish it, or give --restart to begin anew"
            )
        done = journal.records[-1].done if journal.records else 0
        click.echo(f"going on with an interrupted job: {done} item(s) are done", err=True)
        return {}
    rates: dict[int, float] = {}
    if wanted is None or detector.fixed_batch is not None:
        wanted, rates = best_batch(detector)
    journal.begin(wanted)
    return rates


def _make(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AgentError(f"{out}: cannot be made: {error.strerror}") from None


def _detector(package: ModelPackage, precision: str | None, backend: Backend, **settings: Any) -> Detector:
    """A detector for work that should keep every core busy: a picture in flight a core, one thread each."""
    from agent.detection.detector import Detector
    from agent.engines.on_processor import open_engine
    from agent.engines.onnx import cores
    from agent.host.extensions import extensions

    variant = package.choose(precision)
    slots = min(cores(), MOST_SLOTS)
    engine = open_engine(
        backend,
        package.file_of(variant),
        precision=variant.precision,
        slots=slots,
        threads=max(1, cores() // slots),
    )
    decoders = extensions().decoders
    detector = Detector(package, engine, precision=variant.precision, decoders=decoders, **settings)
    detector.warm_up()
    return detector


def _work(
    items: Sequence[Item], detector: Detector, journal: BatchJournal, files: _Files, frames: int | None
) -> tuple[Tally, dict[str, Writer], float]:
    """Do the job to its end; what it came to, and how long it took."""
    from agent.detection.batch import BatchJob, Reports
    from agent.host.extensions import extensions
    from agent.sources.factory import open_source

    started = time.monotonic()
    writers = files.open(journal.records[-1].marks if journal.records else {})
    before = journal.tally()
    try:
        with Progress("pictures", _total(items, frames), done=before.pictures + len(before.errors)) as progress:
            reports = Reports(progress.step, progress.say)
            opened = partial(open_source, factories=extensions().sources)
            tally = BatchJob(items, detector, writers, journal, opened, reports, frames).run()
    except KeyboardInterrupt:
        raise AgentError("interrupted; the same command goes on where this one was") from None
    journal.finish()
    return tally, writers, time.monotonic() - started


def _total(items: Sequence[Item], frames: int | None) -> int | None:
    """How many pictures there will be, as far as the clips' containers tell; None where one does not."""
    from agent.detection.results import pictures_in

    counts = [
        pictures_in(Path(item.spec)) if item.clip and Path(item.spec).is_file() else 1 - item.clip for item in items
    ]
    return sum(min(count, frames or count) for count in counts) if all(count > 0 for count in counts) else None


def _report(tally: Tally, writers: Mapping[str, Writer], rate: float, how: Mapping[str, Any], as_json: bool) -> None:
    for writer in writers.values():
        for note in writer.notes:
            click.echo(f"note: {note}", err=True)
    files = [str(writer.path) for writer in writers.values()]
    if as_json:
        summary = {"pictures": tally.pictures, "detections": tally.detections, "errors": tally.errors}
        click.echo(json.dumps(summary | {"files": files, **how}))
        return
    errors = f", {len(tally.errors)} not read" if tally.errors else ""
    at_once = f", {how['batch']} at once" if how["batch"] != 1 else ""
    done = f"{tally.detections} detections in {tally.pictures} pictures{errors}, {rate:.1f} pictures a second{at_once}"
    click.echo(done)
    for file in files:
        click.echo(f"  {file}")
