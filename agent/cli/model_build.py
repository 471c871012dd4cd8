"""``edgewarden model build``: the TensorRT plans of a package, for this machine's GPU or for others."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.cli import table

if TYPE_CHECKING:
    from agent.detection.model import ModelPackage
    from agent.detection.plans import Place, Standing, Wanted
    from agent.engines.build_request import Range, Wish
    from agent.engines.plan_store import PlanStore
    from agent.precision.usable import Judged

COLUMNS = ("precision", "gpu", "state", "shapes", "megabytes", "seconds", "reason")
PRECISIONS = ("fp32", "fp16", "int8", "mixed")


def read_range(_ctx: click.Context, _param: click.Parameter, text: str | None) -> tuple[int, int, int] | None:
    """``1,4,8``: the least, the typical, the most; one number stands for all three, two for the first two equal."""
    if text is None:
        return None
    if not re.fullmatch(r"\d{1,5}(,\d{1,5}){0,2}", text.replace(" ", "")):
        raise click.BadParameter(f"{text!r} is not LEAST,TYPICAL,MOST such as 1,4,8")
    numbers = [int(part) for part in text.replace(" ", "").split(",")]
    least, typical, most = numbers[0], numbers[len(numbers) // 2], numbers[-1]
    if len(numbers) == 2:
        typical = least
    if not 1 <= least <= typical <= most:
        raise click.BadParameter(f"{text!r}: least, typical and most must grow, from 1")
    return least, typical, most


@click.command(name="build")
@click.argument("package")
@click.option("--precision", type=click.Choice(PRECISIONS), multiple=True, help="Default: all that the gate lets pass.")
@click.option("--target", multiple=True, metavar="SM86", help="A GPU that is not in this machine (TensorRT-RTX only).")
@click.option("--batch", metavar="LEAST,TYPICAL,MOST", callback=read_range, help="For graphs of open batch. [1,1,4]")
@click.option("--height", metavar="LEAST,TYPICAL,MOST", callback=read_range, help="For graphs that take any size.")
@click.option("--width", metavar="LEAST,TYPICAL,MOST", callback=read_range, help="For graphs that take any size.")
@click.option("--dla", type=click.IntRange(0, 7), metavar="CORE", help="Use the DLA; the GPU does what it cannot.")
@click.option("--sparse", is_flag=True, help="Use 2:4 sparse weights where the model was prepared so.")
@click.option("--version-compatible", is_flag=True, help="A plan that newer versions run too, slower.")
@click.option("--hardware-compatible", is_flag=True, help="A plan for any GPU since Ampere, slower.")
@click.option("--effort", type=click.IntRange(0, 5), help="TensorRT's optimization level. Default: its own, 3.")
@click.option("--rebuild", is_flag=True, help="Build even what is right as it is.")
@click.option("--no-build", is_flag=True, help="Only say what is there; exit 1 if any plan is missing or stale.")
@click.option("--store", type=click.Path(path_type=Path), help="Default: plans in $EDGEWARDEN_CACHE or ~/.cache.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def command(
    package: str,
    precision: tuple[str, ...],
    target: tuple[str, ...],
    rebuild: bool,
    no_build: bool,
    store: Path | None,
    as_json: bool,
    **wishes: Any,
) -> None:
    """Build the TensorRT plans of a model package, minutes each on a board; a right one is kept.

    The daemon builds what it needs by itself; this does it beforehand, or for a GPU elsewhere. What was asked for
    (batch, sizes, options) is kept with the plan and holds when it is built anew.
    """
    from agent.detection.model import find_package
    from agent.detection.plans import place_for
    from agent.engines.plan_store import PlanStore
    from agent.errors import EngineError

    logging.basicConfig(level="INFO", format="%(message)s")
    found = find_package(package)
    plans = PlanStore(store)
    places = [place_for(one) for one in target] or [_here()]
    judgements = _chosen(found, precision)
    wish, rows = _wish(wishes), []
    try:
        for place in places:
            for one in judgements:
                rows.append(_row(found, one, place))
                if one.verdict.usable:
                    rows[-1] |= _built(found, one, place, plans, wish, rebuild=rebuild, no_build=no_build)
    except KeyboardInterrupt:
        raise click.ClickException("interrupted; plans that were there before are as they were") from None
    failed = any(row["usable"] and row["state"] != "ready" for row in rows)
    table.show(rows, COLUMNS, as_json=as_json, empty="nothing to build")
    if failed:
        raise EngineError(f"{found.name}: not every plan is ready; the table says why")


def _here() -> Place:
    from agent.detection.plans import place_here
    from agent.engines import flavour
    from agent.errors import EngineError

    try:
        return place_here()
    except EngineError as error:
        if not flavour.fault() and flavour.can_build_for_others():
            raise EngineError(f"{error}; for a GPU elsewhere name it: --target sm87") from None
        raise


def _chosen(package: ModelPackage, precisions: Sequence[str]) -> list[Judged]:
    """The variants that were named, or all of them: then the gate's word on accuracy counts."""
    from agent.precision.gate import Verdict
    from agent.precision.usable import Judged, buildable

    if precisions:
        return [Judged(package.choose(name), Verdict(True, "named")) for name in dict.fromkeys(precisions)]
    return list(buildable(package).values())


def _wish(wishes: dict[str, Any]) -> Wish | None:
    """What was asked for; None where nothing was, so that what was asked for last time holds."""
    from agent.engines.build_request import Options, Wish

    if not any(wishes.values()) and wishes["dla"] is None and wishes["effort"] is None:
        return None
    sizes = {name: _range(wishes.pop(name)) for name in ("batch", "height", "width")}
    return Wish(**sizes, options=Options(**wishes))


def _range(numbers: tuple[int, int, int] | None) -> Range | None:
    from agent.engines.build_request import Range

    return None if numbers is None else Range(*numbers)


def _row(package: ModelPackage, one: Judged, place: Place) -> dict[str, Any]:
    return {
        "model": package.name,
        "precision": one.variant.precision,
        "gpu": place.where,
        "backend": place.flavour.backend,
        "usable": one.verdict.usable,
        "state": "refused",
        "reason": one.verdict.reason,
    }


def _built(
    package: ModelPackage,
    one: Judged,
    place: Place,
    plans: PlanStore,
    wish: Wish | None,
    *,
    rebuild: bool,
    no_build: bool,
) -> dict[str, Any]:
    """The plan's row: built where it has to be, or why it is not there."""
    from agent.detection.plans import wanted_plan
    from agent.engines.plan_store import PlanRefusedError
    from agent.engines.plan_supply import supply
    from agent.errors import EngineError

    try:
        wanted = wanted_plan(package, one.variant, place, plans, wish)
        build = None if no_build else _builder(wanted)
        plan = supply(plans, wanted.order, build, rebuild=rebuild and not no_build)
    except PlanRefusedError as error:
        return {"state": error.state, "reason": str(error)}
    except EngineError as error:
        return {"state": "failed", "reason": str(error)}
    return _facts(plan.record) | {"state": "ready", "reason": ""}


def _builder(wanted: Wanted) -> Any:
    from agent.engines.build_process import run_build

    def build(part: Path) -> None:
        run_build(wanted.request, part, Shares(f"{wanted.order.model} {wanted.request.precision}").tell)

    return build


class Shares:
    """A line of progress on stderr now and then: the phase and how far it is."""

    def __init__(self, what: str) -> None:
        self._what, self._phase, self._share = what, "", -1.0

    def tell(self, phase: str, share: float) -> None:
        """Say it when a tenth more is done, or when another phase began."""
        if phase != self._phase or share >= self._share + 0.1:
            self._phase, self._share = phase, share
            click.echo(f"{self._what}: {phase} {share:.0%}", err=True)


def _facts(record: Any) -> dict[str, Any]:
    return {
        "shapes": record.identity.shapes,
        "options": record.identity.options,
        "megabytes": round(record.bytes / 1e6, 1),
        "seconds": round(record.seconds, 1),
        "built_at": record.built_at,
    }


def engine_rows(standings: Sequence[Standing]) -> list[dict[str, Any]]:
    """The plans of a package for ``model list``."""
    rows = []
    for one in standings:
        record = one.found.record
        row: dict[str, Any] = {"precision": one.precision, "state": one.found.state, "reason": one.found.reason}
        if record is not None:
            row |= {"gpu": record.identity.gpu or f"sm{record.identity.capability.replace('.', '')}"}
            row |= {"backend": record.identity.backend} | _facts(record)
        rows.append(row)
    return rows


def engine_words(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The same for a person: ``fp16 ready (sm86)``, ``int8 stale (sm86): built by …``."""
    return [
        f"{row['precision']} {row['state']} ({row.get('gpu', '?')})" + (f": {row['reason']}" if row["reason"] else "")
        for row in rows
    ]
