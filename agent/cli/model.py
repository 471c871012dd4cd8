"""``edgewarden model``: packages made of ONNX files, looked into, listed."""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.cli import model_build, model_evaluate, model_install, model_prepare, table

if TYPE_CHECKING:
    from agent.detection.model import Listed, ModelPackage

COLUMNS = ("name", "family", "input", "labels", "precisions", "engines", "update", "folder", "fault")
RESIZES = ("letterbox", "letterbox-topleft", "stretch", "crop")

dir_option = click.option(
    "--dir",
    "models",
    type=click.Path(path_type=Path, file_okay=False),
    help="The folder of packages. Default: $EDGEWARDEN_MODELS, else ~/.local/share/edgewarden/models.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")


def read_size(_ctx: click.Context, _param: click.Parameter, text: str | None) -> tuple[int, int] | None:
    """Width and height of ``640x480``, or of ``640`` for a square."""
    if text is None:
        return None
    match = re.fullmatch(r"([1-9]\d{0,4})(?:x([1-9]\d{0,4}))?", text.strip().lower())
    if match is None:
        raise click.BadParameter(f"{text!r} is not a size such as 640x480")
    return int(match[1]), int(match[2] or match[1])


def read_channels(_ctx: click.Context, _param: click.Parameter, text: str | None) -> tuple[float, float, float] | None:
    """Three numbers, in the channel order of the network's input, of ``0.5`` or ``0.1,0.2,0.3``."""
    if text is None:
        return None
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 3):
        raise click.BadParameter(f"{text!r} is not one number or three, such as 123.7,116.3,103.5")
    first, second, third = numbers * (3 // len(numbers))
    return first, second, third


@click.group(name="model")
def command() -> None:
    """Add, install, inspect, list, prepare, evaluate and build model packages."""


command.add_command(model_prepare.command)
command.add_command(model_evaluate.command)
command.add_command(model_build.command)
command.add_command(model_install.install)
command.add_command(model_install.rollback)
command.add_command(model_install.accept)


@command.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="What the package is called: letters, digits, dot, dash, underscore.")
@click.option("--family", help="yolox, yolov8 (YOLO11 too), end2end, … Default: what the outputs look like.")
@click.option("--labels", help="coco80, a file with a label a line, or a,b,c. Default: those in the ONNX file.")
@click.option("--precision", type=click.Choice(["fp32", "fp16", "int8"]), help="Default: int8 if quantised, else fp32.")
@click.option("--size", metavar="WxH", callback=read_size, help="Input size, for graphs that take any.")
@click.option("--colour", type=click.Choice(["rgb", "bgr"]), help="Channel order. Default: the family's.")
@click.option("--mean", metavar="A[,B,C]", callback=read_channels, help="Subtracted from the pixels 0..255.")
@click.option(
    "--scale", metavar="A[,B,C]", callback=read_channels, help="Multiplied after that; 0.00392156862745098 is 1/255."
)
@click.option("--resize", type=click.Choice(RESIZES), help="How pictures are made to fit. Default: the family's.")
@click.option("--pad", type=click.IntRange(0, 255), help="Pixel value around a letterboxed picture.")
@click.option("--open-batch", is_flag=True, help="Make a graph of fixed batch one that takes any number of pictures.")
@click.option("--replace", is_flag=True, help="An older package of that name makes room.")
@click.option("--try", "picture", type=click.Path(path_type=Path), metavar="IMAGE", help="Write IMAGE with the boxes.")
@click.option("--try-out", type=click.Path(path_type=Path), metavar="FILE.jpg", help="Where. Default: NAME-try.jpg.")
@dir_option
@json_option
def add(
    file: Path,
    models: Path | None,
    replace: bool,
    picture: Path | None,
    try_out: Path | None,
    open_batch: bool,
    as_json: bool,
    **wishes: Any,
) -> None:
    """Make a package of an ONNX file.

    The graph is run once; its outputs tell the family and the number of classes. With --try a wrong guess is seen at
    once: what the new package finds in a picture is drawn beside the ONNX file, and the package is kept.

    \b
    edgewarden model add yolox_nano.onnx --name nano --labels coco80 --try street.jpg
    edgewarden detect photos/ --model nano --out found/
    """
    from agent.cli.model_try import Trial
    from agent.detection.add import Wishes, add_model
    from agent.detection.model import models_dir
    from agent.engines.onnx import OnnxEngine
    from agent.host.extensions import extensions

    trial = Trial(picture, try_out, file, wishes["name"]) if picture is not None else None
    families = extensions().decoders
    with _graph_to_add(file, open_batch) as graph:
        added = add_model(graph, Wishes(**wishes), models or models_dir(), OnnxEngine, replace=replace, extra=families)
    for note in added.notes:
        click.echo(f"note: {note}", err=True)
    rows = _package_rows(added.package)
    tried = {} if trial is None else trial.run(added.package)
    _show({**rows, "try": tried} if as_json and tried else {**rows, **tried}, as_json)


@contextlib.contextmanager
def _graph_to_add(file: Path, open_batch: bool) -> Iterator[Path]:
    """The file itself, or a copy of that name with an open batch."""
    if not open_batch:
        yield file
        return
    from agent.precision.open_batch import open_batch as opened

    with tempfile.TemporaryDirectory(prefix="edgewarden-") as folder:
        target = Path(folder) / file.name
        opened(file, target)
        yield target


@command.command()
@click.argument("model")
@click.option("--size", metavar="WxH", callback=read_size, help="Input size, for graphs that take any.")
@dir_option
@json_option
def inspect(model: str, size: tuple[int, int] | None, models: Path | None, as_json: bool) -> None:
    """What a package holds, or what an ONNX file is: its family, how it is fed, how sure that is, and why.

    MODEL is a package's folder or name, or an ONNX file. Of a file, `certain` is what the file itself says, `likely`
    what all known networks of its family have in common, `guess` one usual way among several.
    """
    from agent.detection.model import find_package

    path = Path(model)
    if not path.is_file():
        _show(_package_rows(find_package(model, models)), as_json)
        return
    rows = _graph_rows(path, size)
    proposals = {} if as_json else rows.pop("proposals")
    _show(rows, as_json)
    for line in _proposal_lines(proposals):
        click.echo(line)


@command.command(name="list")
@dir_option
@json_option
def list_(models: Path | None, as_json: bool) -> None:
    """Every package in the folder of models, and those that ship with the program.

    ENGINES are its TensorRT plans: `ready`, or `stale`, `damaged`, `refused` and why. UPDATE is how the last version
    that was installed stands: on trial, accepted, or rolled back and why.
    """
    from agent.detection.model import BUNDLED, list_packages, models_dir

    folder = models or models_dir()
    rows = [_list_row(listed) for home in (folder, BUNDLED) for listed in list_packages(home)]
    if not as_json:
        rows = [row | {"engines": model_build.engine_words(row.get("engines") or [])} for row in rows]
    table.show(rows, COLUMNS, as_json=as_json, empty=f"no model package in {folder}")


def _list_row(listed: Listed) -> dict[str, Any]:
    from agent.detection.plans import standings
    from agent.engines.plan_store import PlanStore

    package = listed.package
    update = _update_line(listed.folder)
    if package is None:
        return {"name": listed.folder.name, "update": update, "folder": str(listed.folder), "fault": listed.fault}
    return {
        "name": listed.folder.name,
        "family": package.family,
        "input": f"{package.input.size[0]}x{package.input.size[1]}",
        "labels": len(package.labels),
        "precisions": [variant.precision for variant in package.variant],
        "engines": model_build.engine_rows(standings(package, PlanStore())),
        "update": update,
        "folder": str(listed.folder),
        "fault": None,
    }


def _update_line(folder: Path) -> str | None:
    """How the last update of that name stands."""
    from agent.detection.versions import Versions

    trial = Versions(folder.parent, folder.name).standing()
    return None if trial is None else trial.line()


def _package_rows(package: ModelPackage) -> dict[str, Any]:
    import msgspec

    values: dict[str, Any] = msgspec.to_builtins(package, enc_hook=str)
    for variant, row in zip(package.variant, values["variant"], strict=True):
        row["bytes"] = package.file_of(variant).stat().st_size
    return values


def _graph_rows(path: Path, size: tuple[int, int] | None) -> dict[str, Any]:
    from agent.detection.inspection import inspect_graph, metadata_labels
    from agent.detection.one_input import one_input
    from agent.engines.onnx import OnnxEngine
    from agent.host.extensions import extensions

    with one_input(path, size) as graph:
        engine = OnnxEngine(graph)
        try:
            seen = inspect_graph(engine, str(path), size, extensions().decoders)
        finally:
            engine.close()
    return {
        "file": str(path),
        "backend": engine.backend,
        "input": engine.input._asdict(),
        "outputs": [spec._asdict() for spec in engine.outputs],
        "metadata": dict(engine.metadata),
        "labels": metadata_labels(engine.metadata),
        "detector": seen.detector,
        "shapes": seen.shapes,
        "families": [match._asdict() for match in seen.families],
        "proposals": {key: proposal._asdict() for key, proposal in seen.proposals.items()},
        "fault": seen.fault,
    }


def _proposal_lines(proposals: dict[str, Any]) -> list[str]:
    """A line for each value of ``model.toml``: what, how sure, why, and the flag that says otherwise."""
    return [
        f"{key:9} {_shown(proposal['value'])}  [{proposal['sure']}] {proposal['why']}"
        + (f" ({proposal['flag']})" if proposal["flag"] else "")
        for key, proposal in proposals.items()
    ]


def _show(values: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(values))
        return
    for key, value in values.items():
        for line in [f"fault     {value}"] if key == "fault" and value else _lines(key, value):
            click.echo(line)


def _lines(key: str, value: Any) -> list[str]:
    """``key  value`` for a person; a list of tables has a line for each."""
    if isinstance(value, Sequence) and not isinstance(value, str) and value and isinstance(value[0], dict):
        return [line for item in value for line in _lines(key, item)]
    if isinstance(value, dict):
        value = "  ".join(f"{name}={_shown(item)}" for name, item in value.items() if item not in (None, {}))
    return [f"{key:9} {_shown(value)}"]


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if not isinstance(value, Sequence) or isinstance(value, str):
        text = str(value)
        return text if len(text) <= 100 else text[:97] + "..."
    few = ", ".join("?" if item is None else str(item) for item in value[:8])
    return few if len(value) <= 8 else f"{few}, … ({len(value)})"
