"""``edgewarden model prepare``: the precision ladder of a model, made, measured and judged."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import click

from agent.cli import table
from agent.cli.progress import Progress

if TYPE_CHECKING:
    from agent.detection.manifest import Precision
    from agent.detection.model import ModelPackage
    from agent.precision.calibration import Sample
    from agent.precision.judging import Judge, TruthJudge
    from agent.precision.prepare import Report, Wishes
    from agent.precision.progress import Steps
    from agent.precision.trial import OpenEngine

COLUMNS = ("precision", "usable", "map50_95", "map50", "f1", "loss", "share", "share_here", "ms", "speedup", "reason")
METHODS = ("auto", "minmax", "percentile-99.999", "percentile-99.99", "percentile-99.9", "entropy", "mse")


def read_precisions(_ctx: click.Context, _param: click.Parameter, text: str | None) -> tuple[str, ...]:
    """``fp16,bf16,int8``: each once; without a word what can be of use here."""
    if text is None:
        from agent.engines.on_processor import BF16, why_not

        return ("fp16", "int8") if why_not("openvino", BF16) else ("fp16", BF16, "int8")
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in ("fp16", "bf16", "int8"):
            raise click.BadParameter(f"{name!r} is none of fp16, bf16, int8")
    return tuple(dict.fromkeys(names))


@click.command(name="prepare")
@click.argument("package")
@click.option(
    "--precisions",
    callback=read_precisions,
    metavar="fp16,bf16,int8",
    help="What to make. Default: fp16, int8, and bf16 where OpenVINO is installed and the processor has it.",
)
@click.option(
    "--calibrate",
    multiple=True,
    required=True,
    metavar="IMAGES_OR_VIDEO",
    help="Pictures of the place where the model will work: a folder, an image, a video. May be repeated.",
)
@click.option(
    "--evaluate",
    metavar="COCO_JSON|IMAGES",
    help="What to judge by: COCO annotations (with --images), or pictures. Default: every second one of --calibrate.",
)
@click.option("--images", type=click.Path(path_type=Path), help="The folder of the pictures that COCO_JSON annotates.")
@click.option("--max-loss", type=click.FloatRange(0, 1), default=0.02, show_default=True, help="mAP50-95, or 1 - F1.")
@click.option("--pictures", type=click.IntRange(2), default=64, show_default=True, help="How many to calibrate with.")
@click.option(
    "--calibrator", type=click.Choice(METHODS), default="auto", show_default=True, help="How ranges are found."
)
@click.option(
    "--quantizer",
    type=click.Choice(("own", "modelopt")),
    default="own",
    show_default=True,
    help="Who makes the int8 graphs: modelopt is NVIDIA's Model Optimizer, where it is installed.",
)
@click.option("--naive", is_flag=True, help="Every node in int8, whatever it costs, to see what that is.")
@click.option("--sparse", is_flag=True, help="An experiment: prune weights 2:4 for TensorRT's SPARSE_WEIGHTS.")
@click.option("--force", is_flag=True, help="Let the variants be used whatever the gate says. health tells of it.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def command(
    package: str,
    precisions: tuple[str, ...],
    calibrate: tuple[str, ...],
    evaluate: str | None,
    images: Path | None,
    max_loss: float,
    pictures: int,
    calibrator: str,
    quantizer: Literal["own", "modelopt"],
    naive: bool,
    sparse: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Make fp16 and int8 variants of a model package, measure what each loses and gains, and let the gate judge.

    A variant may be used when it loses at most --max-loss against fp32 and is at least 5 % faster on this machine.
    Which nodes of the graph compute in int8 is found on the --calibrate pictures alone. Interrupted work goes on where
    it was when the same command is given again; the package changes in one step at the end.
    """
    from agent.detection.model import find_package
    from agent.engines.store import SpeedStore
    from agent.precision.prepare import Wishes, check_wishes, prepare

    wishes = Wishes(
        precisions=cast("tuple[Precision, ...]", precisions),
        max_loss=max_loss,
        calibrator=calibrator,
        keep_float="none" if naive else "auto",
        quantizer=quantizer,
        sparse=sparse,
        force=force,
    )
    _check(quantizer, calibrator)
    found = find_package(package)
    check_wishes(found, wishes)
    say = Teller()
    say(f"choosing {pictures} pictures")
    try:
        sample, judge = _material(found, calibrate, pictures, evaluate, images, say.steps)
        report = prepare(found, wishes, sample, judge, SpeedStore(), say, say.steps)
    except KeyboardInterrupt:
        raise click.ClickException("interrupted; the same command goes on where this one was") from None
    _show(report, wishes, as_json)


def _check(quantizer: Literal["own", "modelopt"], calibrator: str) -> None:
    """Before minutes of work: whether the quantizer is there and has that calibrator. Raises ModelError, UsageError."""
    from agent.precision.quantizers import methods_of, require_modelopt

    if quantizer == "modelopt":
        require_modelopt()
    if calibrator != "auto" and calibrator not in methods_of(quantizer):
        known = ", ".join(methods_of(quantizer))
        raise click.UsageError(f"--quantizer {quantizer} has no calibrator {calibrator}, only {known}")


class Teller:
    """Lines on stderr with the seconds since the start; ``steps`` shows the progress of what takes long."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._progress: Progress | None = None

    def __call__(self, line: str) -> None:
        say = self._progress.say if self._progress is not None else partial(click.echo, err=True)
        say(f"{time.monotonic() - self._started:6.1f} s  {line}")

    @contextlib.contextmanager
    def steps(self, what: str, total: int | None) -> Iterator[Callable[[], object]]:
        """See agent.precision.progress.Steps."""
        with Progress(what, total) as progress:
            self._progress = progress
            try:
                yield progress.step
            finally:
                self._progress = None


def _material(
    package: ModelPackage,
    calibrate: tuple[str, ...],
    count: int,
    evaluate: str | None,
    images: Path | None,
    steps: Steps,
) -> tuple[Sample, Judge]:
    """The pictures to choose by, and the judge with the pictures to judge by."""
    from agent.precision.calibration import halves, sample
    from agent.precision.judging import AgreementJudge

    if evaluate is None:
        mine, others = halves(sample(calibrate, 2 * count, steps))
        if not others.frames:
            raise click.UsageError("--calibrate holds one picture; give more, or --evaluate")
        return mine, AgreementJudge(package, others.frames, "the pictures held back", steps)
    taken = sample(calibrate, count, steps)
    if Path(evaluate).suffix == ".json":
        return taken, truth_judge(package, Path(evaluate), images, steps)
    return taken, AgreementJudge(package, sample([evaluate], count, steps).frames, Path(evaluate).name, steps)


def truth_judge(
    package: ModelPackage, annotations: Path, images: Path | None, steps: Steps, open_engine: OpenEngine | None = None
) -> TruthJudge:
    """The judge by ground truth. Raises UsageError without a folder of pictures."""
    from agent.precision.accuracy import Truth
    from agent.precision.judging import TruthJudge
    from agent.precision.trial import open_onnx

    if images is None:
        raise click.UsageError("COCO annotations need --images, the folder of their pictures")
    return TruthJudge(package, Truth(annotations, package.labels), images, steps, open_engine or open_onnx)


def _show(report: Report, wishes: Wishes, as_json: bool) -> None:
    rows = [_row(made) for made in report.made]
    if as_json:
        tried = [candidate._asdict() | {"floats": list(candidate.floats)} for candidate in report.tried]
        click.echo(json.dumps({"package": str(report.package.folder), "variants": rows, "tried": tried}))
        return
    table.show(rows, COLUMNS, as_json=False)
    if wishes.force:
        click.echo("FORCED: these variants are used whatever the gate says; health tells of it", err=True)


def _row(made: Any) -> dict[str, Any]:
    figures = made.figures
    values = {name: getattr(figures, name, None) for name in ("map50_95", "map50", "f1", "score_difference", "loss")}
    return {
        "precision": made.precision,
        "usable": made.usable,
        "reason": made.reason,
        **{name: rounded(value) for name, value in values.items()},
        "share": made.share,
        "share_here": made.share_here,
        "ms": round(made.seconds * 1e3, 2),
        "speedup": round(made.speedup, 3),
        "optimisation": made.optimisation,
        "how": made.how,
        "notes": made.notes,
    }


def rounded(value: float | None) -> float | None:
    """A figure to four digits, and nothing below zero where that is nothing."""
    return None if value is None else round(value, 4) + 0.0
