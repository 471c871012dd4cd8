"""``edgewarden governor``: the policy against made-up boards, or over a recorded health log."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.cli import table
from agent.cli.progress import Progress

if TYPE_CHECKING:
    from agent.config import Config
    from agent.data import Health
    from agent.governor.known_boards import Board
    from agent.governor.plant import Plant
    from agent.governor.simulate import Trace

FILE = click.Path(dir_okay=False, path_type=Path)


@click.group(name="governor")
def command() -> None:
    """Try the governor: what it does when it gets hot."""


@command.command()
@click.option("--board", "boards", multiple=True, help="A board that ships, by name; all of them when left out.")
@click.option("--plants", type=click.IntRange(min=1), help="So many random boards instead.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random boards, and of the sensors' noise.")
@click.option("--plants-file", type=FILE, help="Boards from a file: a JSON list, as --save-plants writes it.")
@click.option("--save-plants", type=FILE, help="Write the boards to a file too.")
@click.option("--replay", type=FILE, help="The policy over a recorded health log (a JSON document a line) instead.")
@click.option("--config", "config_path", type=FILE, help="With --replay: the agent.toml with [governor].")
@click.option("--hours", type=click.FloatRange(min=0.1, max=48), default=2.0, show_default=True)
@click.option("--picture", type=FILE, help="Write a PNG: temperature, rung and rate over time of the first board.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def simulate(
    boards: tuple[str, ...],
    plants: int | None,
    seed: int,
    plants_file: Path | None,
    save_plants: Path | None,
    replay: Path | None,
    config_path: Path | None,
    hours: float,
    picture: Path | None,
    as_json: bool,
) -> None:
    """Three policies side by side on simulated boards: ours, the tutorials' threshold at 75 °C, and none.

    Judged by the true junction temperature: seconds above the passive trip (where some rung could have stayed below),
    accuracy-weighted frames against the best constant rung in hindsight, rung changes an hour once the air stands
    still."""
    if replay is not None:
        _replay(replay, config_path, as_json)
        return
    chosen = _plants(boards, plants, seed, plants_file)
    if save_plants is not None:
        _save(save_plants, list(chosen.values()))
    together = plants is not None or plants_file is not None
    rows, traces = _simulated(chosen, together, int(hours * 3600), seed)
    if picture is not None:
        name, plant = next(iter(chosen.items()))
        _draw(picture, f"plant 0 of seed {seed}" if together else name, plant, traces)
    if as_json:
        click.echo(json.dumps({"plants": len(chosen), "seed": seed, "hours": hours, **_document(rows, together)}))
        return
    columns = [] if together else ["board"]
    table.show(_told(rows), [*columns, "policy", "s over passive", "frames", "changes/h"], as_json=False)


def _told(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "board": row["board"],
            "policy": row["policy"],
            "s over passive": row["figures"].seconds_over_passive,
            "frames": f"{row['figures'].relative_frames:.1%}" if row["possible"] else "no rung stays below",
            "changes/h": f"{row['figures'].changes_per_hour:g}",
        }
        for row in rows
    ]


def _plants(boards: tuple[str, ...], count: int | None, seed: int, file: Path | None) -> dict[str, Plant]:
    from agent.governor import known_boards
    from agent.governor.plant import draw

    if file is not None:
        return {str(number): plant for number, plant in enumerate(_read_plants(file))}
    if count is not None:
        return {str(number): plant for number, plant in enumerate(draw(count, seed))}
    loaded: dict[str, Board] = {name: known_boards.load(name) for name in boards or known_boards.names()}
    return {name: board.plant for name, board in loaded.items()}


def _read_plants(file: Path) -> list[Plant]:
    import msgspec

    from agent.errors import ConfigError, MissingError
    from agent.governor.plant import Plant

    try:
        plants = msgspec.json.decode(file.read_bytes(), type=list[Plant])
        if not plants:
            raise msgspec.DecodeError("no plant in it")
        return plants
    except FileNotFoundError:
        raise MissingError(f"{file}: no such file") from None
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError(f"{file}: {error}; --save-plants writes one that can be read") from None


def _save(file: Path, plants: list[Plant]) -> None:
    import msgspec

    from agent.errors import AgentError

    try:
        file.write_bytes(msgspec.json.encode(plants))
    except OSError as error:
        raise AgentError(f"{file}: cannot be written: {error.strerror}") from None


def _simulated(
    plants: Mapping[str, Plant], together: bool, seconds: int, seed: int
) -> tuple[list[dict[str, Any]], dict[str, Trace]]:
    """A row for each policy (and board, if they are not judged together), and the traces of the first plant."""
    from agent.governor import simulate as sim

    steps, every = sim.reference_steps(), list(plants.values())
    with Progress("simulated minutes", (len(steps) + len(sim.POLICIES)) * seconds // 60) as progress:
        tick = _each(60, progress.step)
        best = sim.hindsight(every, steps, seconds, tick)
        traces = {
            policy: sim.run(every, make(every, steps), steps, seconds, seed + 1, tick)
            for policy, make in sim.POLICIES.items()
        }
    rows = []
    for number, name in enumerate(["all"] if together else plants):
        for policy, trace in traces.items():
            judged = (every, trace, best) if together else ([every[number]], trace.of(number), best.of(number))
            figures, further = sim.judge(*judged, steps)
            possible = int(judged[2].possible.sum())
            rows.append({"board": name, "policy": policy, "figures": figures, "further": further, "possible": possible})
    return rows, {policy: trace.of(0) for policy, trace in traces.items()}


def _each(count: int, step: Callable[[], None]) -> Callable[[], None]:
    """``step`` at every so many calls."""
    calls = itertools.count(1)

    def tick() -> None:
        if next(calls) % count == 0:
            step()

    return tick


def _document(rows: list[dict[str, Any]], together: bool) -> dict[str, Any]:
    import msgspec

    def policies(of: list[dict[str, Any]], what: str) -> dict[str, Any]:
        return {row["policy"]: msgspec.to_builtins(row[what]) for row in of}

    if together:
        return {
            "policies": policies(rows, "figures"),
            "further": policies(rows, "further"),
            "plants_where_some_rung_stays_below": rows[0]["possible"],
        }
    boards = {row["board"]: [other for other in rows if other["board"] == row["board"]] for row in rows}
    return {"boards": {name: {"policies": policies(own, "figures")} for name, own in boards.items()}}


def _draw(path: Path, name: str, plant: Plant, traces: Mapping[str, Trace]) -> None:
    import numpy as np

    from agent.governor.chart import Curve, Panel, draw

    seconds = len(next(iter(traces.values())).junction)
    at = np.arange(seconds)
    limit = [
        Curve("passive trip", (0, seconds), (plant.trip, plant.trip), grey=True),
        Curve("air", at, plant.air(seconds), grey=True),
    ]
    temperatures = [Curve(policy, at, trace.junction[:, 0]) for policy, trace in traces.items()]
    rungs = [Curve(policy, at, trace.rungs[:, 0], steps=True) for policy, trace in traces.items()]
    rates = [Curve(policy, at, _smoothed(trace.rates[:, 0])) for policy, trace in traces.items()]
    draw(
        path,
        f"{name}: three policies on the same board and the same day",
        [
            Panel("junction, true, degrees Celsius", [*temperatures, *limit]),
            Panel("rung (0 is the top)", rungs, falling=True),
            Panel("frames a second, mean of a minute", rates),
        ],
    )


def _smoothed(values: Any) -> Any:
    import numpy as np

    padded = np.pad(values.astype(float), 30, mode="edge")
    return np.convolve(padded, np.ones(61) / 61, mode="valid")


# a recorded health log


def _replay(file: Path, config_path: Path | None, as_json: bool) -> None:
    from agent.governor import ladder
    from agent.governor.governing import Governor
    from agent.governor.limits import Rung
    from agent.governor.simulate import COSTS, TOP_RATE

    config = None
    if config_path is not None:
        from agent.config import load

        config = load(config_path)
    rungs = [Rung(rung.precision, rung.rate) for rung in config.governor.ladder] if config else []
    costs = {**COSTS, "mixed": COSTS["int8"], "bf16": COSTS["fp16"]}
    steps = ladder.weigh(rungs or ladder.make(COSTS, TOP_RATE), costs, TOP_RATE)
    seconds = {name: cost.seconds for name, cost in costs.items()}
    governor = Governor(steps, seconds, _options(config), TOP_RATE)
    rows, spent = _replayed(governor, _health_log(file), len(steps))
    if as_json:
        click.echo(json.dumps({"decisions": rows, "seconds": spent}))
        return
    table.show(rows, ["at", "rung", "precision", "rate", "reason"], as_json=False, empty="no health in it")
    click.echo("seconds in each rung: " + ", ".join(f"{number}: {held:g}" for number, held in enumerate(spent) if held))


def _options(config: Config | None) -> Any:
    from agent.governor.governing import Options

    if config is None:
        return Options()
    from agent.app import governor_options

    return governor_options(config)


def _replayed(governor: Any, history: Sequence[Health], rungs: int) -> tuple[list[dict[str, Any]], list[float]]:
    """Every change of the rung, and the seconds in each."""
    rows: list[dict[str, Any]] = []
    spent = [0.0] * rungs
    before: Health | None = None
    for health in history:
        if before is not None and rows:
            spent[rows[-1]["rung"]] += max(0.0, health.at - before.at)
        governor.observe(health)
        decision = governor.decide()
        if not rows or rows[-1]["rung"] != decision.rung:
            rows.append(
                {
                    "at": health.at,
                    "rung": decision.rung,
                    "precision": decision.precision,
                    "rate": decision.rate,
                    "reason": decision.reason,
                }
            )
        before = health
    return rows, [round(held, 3) for held in spent]


def _health_log(file: Path) -> list[Health]:
    import msgspec

    from agent.data import Health
    from agent.errors import ConfigError, MissingError

    try:
        lines = file.read_bytes().splitlines()
    except FileNotFoundError:
        raise MissingError(f"{file}: no such file") from None
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    history = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                history.append(msgspec.json.decode(line, type=Health))
            except msgspec.DecodeError as error:
                raise ConfigError(f"{file}, line {number}: no health: {error}") from None
    return history
