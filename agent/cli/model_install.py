"""``edgewarden model install``, ``rollback`` and ``accept``: another version of a model, on trial, and back."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from agent.data import Frame
    from agent.detection.model import ModelPackage
    from agent.detection.signature import PublicKey
    from agent.detection.versions import Trial
    from agent.precision.admission import Admission, Gpu
    from agent.precision.install import Gate, Installed

CONFIG_VARIABLE = "EDGEWARDEN_CONFIG"
USUAL_CONFIG = Path("/etc/edgewarden/agent.toml")
TRIAL = 600.0
TOLD_EVERY = 2.0

dir_option = click.option(
    "--dir",
    "models",
    type=click.Path(path_type=Path, file_okay=False),
    help="The folder of packages. Default: $EDGEWARDEN_MODELS, else ~/.local/share/edgewarden/models.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")


def read_sha256(_ctx: click.Context, _param: click.Parameter, text: str | None) -> str | None:
    """64 hexadecimal digits."""
    if text is not None and (len(text) != 64 or set(text.lower()) - set("0123456789abcdef")):
        raise click.BadParameter(f"{text!r} is not the 64 hexadecimal digits of a SHA-256")
    return text


@click.command(name="install")
@click.argument("source")
@click.option("--sha256", callback=read_sha256, metavar="HEX", help="Of the tar. An address needs it, or a key.")
@click.option("--signature", metavar="FILE|URL", help="minisign's, of the tar. Default: its name with .minisig.")
@click.option("--key", "keys", multiple=True, metavar="RW…|FILE.pub", help="A key that may have signed it; repeatable.")
@click.option(
    "--config",
    "-c",
    type=click.Path(path_type=Path),
    help="Its [model] keys must have signed it, too. Default: $EDGEWARDEN_CONFIG, else /etc/edgewarden/agent.toml.",
)
@click.option("--name", help="Install it under this name. Default: that in its model.toml.")
@click.option(
    "--pictures",
    multiple=True,
    metavar="IMAGES_OR_VIDEO",
    help="Of the place: refused if it finds nothing where the one in use does. May be repeated.",
)
@click.option("--slower", type=click.FloatRange(0, min_open=True), default=1.5, show_default=True, help="At most.")
@click.option(
    "--trial", type=click.FloatRange(0, min_open=True), default=TRIAL, show_default=True, help="Seconds to watch it."
)
@click.option("--no-trial", is_flag=True, help="It stays, whatever it does at the cameras.")
@click.option("--no-build", is_flag=True, help="Build no TensorRT plan beforehand; the daemon does.")
@dir_option
@json_option
def install(
    source: str,
    sha256: str | None,
    signature: str | None,
    keys: tuple[str, ...],
    config: Path | None,
    name: str | None,
    pictures: tuple[str, ...],
    slower: float,
    trial: float,
    no_trial: bool,
    no_build: bool,
    models: Path | None,
    as_json: bool,
) -> None:
    """Install a model package, or a new version of one, and keep the old one to go back to.

    SOURCE is a folder, a tar, tar.gz or tar.xz, or an https address of one. It is fetched, verified and judged on this
    machine beside the one in use; only then it gets the name. A running daemon takes it within seconds and watches it
    for --trial seconds: one that finds far less than the old one did, or lets pictures grow old, is rolled back by
    itself. `model list` and health say how it stands. Where [model] keys are configured, nothing is installed
    without a signature by one of them.

    \b
    edgewarden model install street-2.tar.gz
    edgewarden model install https://models.example.org/street-2.tar.gz --sha256 4bf5…
    """
    from agent.detection.delivery import Order
    from agent.detection.model import models_dir
    from agent.precision import install as installing

    order = Order(source, sha256, signature, trusted_keys(keys, config))
    say = _Teller()
    done = installing.install(
        order,
        models or models_dir(),
        _gate(_frames(pictures), slower, build=not no_build),
        at=time.time(),
        seconds=0.0 if no_trial else trial,
        name=name,
        tell=say.bytes,
        step=say.step,
    )
    _show(done, name or done.package.name, as_json)


@click.command(name="rollback")
@click.argument("name")
@dir_option
@json_option
def rollback(name: str, models: Path | None, as_json: bool) -> None:
    """Go back to the version that a model had before its last update; a running daemon follows within seconds."""
    from agent.detection.model import models_dir
    from agent.precision.install import roll_back

    _show_trial(name, roll_back(models or models_dir(), name, "by hand"), as_json)


@click.command(name="accept")
@click.argument("name")
@dir_option
@json_option
def accept(name: str, models: Path | None, as_json: bool) -> None:
    """End the trial of a model's update before its time: it stays."""
    from agent.detection.model import models_dir
    from agent.precision.install import accept as accepted

    _show_trial(name, accepted(models or models_dir(), name, "by hand"), as_json)


def trusted_keys(words: Sequence[str], config: Path | None) -> tuple[PublicKey, ...]:
    """Those of the command line; else those of the configuration, which, where it has any, must have the one named.

    Raises ConfigError for a configuration that cannot be read: what it demands must be known.
    """
    from agent.config import load
    from agent.detection.signature import read_key
    from agent.errors import ConfigError

    named = tuple(read_key(word, "--key") for word in words)
    path = config or usual_config()
    configured = tuple(read_key(key, f"{path}: model.keys") for key in load(path).model.keys) if path else ()
    if configured and (strange := [key.name for key in named if key not in configured]):
        raise ConfigError(f"--key: {', '.join(strange)} is none of [model] keys in {path}; add it there")
    return named or configured


def usual_config() -> Path | None:
    """The configuration that holds where none is named; None where there is none."""
    if named := os.environ.get(CONFIG_VARIABLE):
        return Path(named).expanduser()
    try:
        USUAL_CONFIG.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        pass  # it may be there: reading it says why that cannot be
    return USUAL_CONFIG


def _frames(pictures: tuple[str, ...]) -> Sequence[Frame]:
    if not pictures:
        return ()
    from agent.precision.calibration import sample

    return sample(pictures, 32).frames


def _gate(pictures: Sequence[Frame], slower: float, *, build: bool) -> Gate:
    def gate(package: ModelPackage, old: ModelPackage | None) -> Admission:
        from agent.precision.admission import admit

        return admit(package, old, pictures, slower=slower, gpu=_gpu() if build else None)

    return gate


def _gpu() -> Gpu | None:
    """TensorRT on this machine; None where ONNX Runtime is the engine."""
    from agent.cli.model_build import Shares
    from agent.detection.plans import find_tensorrt
    from agent.engines.plan_store import PlanStore
    from agent.errors import EngineError
    from agent.precision.on_gpu import on_gpu

    try:
        tensorrt = find_tensorrt()
    except EngineError:
        return None
    return lambda package, build: on_gpu(
        package, tensorrt, PlanStore(), Shares(f"building for {tensorrt.place.where}").tell if build else None
    )


def _show(done: Installed, name: str, as_json: bool) -> None:
    admission, trial = done.admission, done.trial
    notes = [*done.notes, *(admission.notes if admission is not None else ())]
    for note in notes:
        click.echo(f"note: {note}", err=True)
    values: dict[str, Any] = {
        "name": name,
        "folder": str(done.package.folder),
        "signed": done.signed,
        **({} if admission is None else admission._asdict()),
        "notes": notes,
        **_trial_values(trial),
    }
    if as_json:
        click.echo(json.dumps(values))
        return
    if trial is not None:
        click.echo(f"{name}: {_measured(admission)}")
        click.echo(f"{name}: {trial.line()}")
    else:
        click.echo(f"{name}: nothing to do")


def _measured(admission: Admission | None) -> str:
    if admission is None:
        return "not measured"
    words = f"{admission.seconds * 1e3:.2f} ms an inference"
    if admission.old_seconds is not None:
        words += f", the old one {admission.old_seconds * 1e3:.2f} ms"
    if admission.agreement is not None:
        words += f"; {admission.found} found, {admission.old_found} by the old one, agreement {admission.agreement:.2f}"
    return words


def _trial_values(trial: Trial | None) -> dict[str, Any]:
    if trial is None:
        return {"version": None, "previous": None, "state": None, "reason": ""}
    return {
        "version": trial.candidate,
        "previous": trial.previous or None,
        "state": trial.state,
        "reason": trial.reason,
        "trial": trial.seconds,
    }


def _show_trial(name: str, trial: Trial, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"name": name, **_trial_values(trial)}))
    else:
        click.echo(f"{name}: {trial.line()}")


class _Teller:
    """What is being done, on stderr, every two seconds."""

    def __init__(self) -> None:
        self._due = time.monotonic() + TOLD_EVERY

    def bytes(self, what: str, done: int, total: int | None) -> None:
        """See agent.detection.delivery.Tell."""
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + TOLD_EVERY
        of = f" of {total / 1e6:.1f}" if total else ""
        click.echo(f"{what}: {done / 1e6:.1f}{of} MB", err=True)

    def step(self, name: str) -> None:
        """The step that is done."""
        if time.monotonic() >= self._due:
            click.echo(f"{name}", err=True)
