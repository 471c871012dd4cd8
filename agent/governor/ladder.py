"""The ladder: which rungs there are, from what the accuracy gate lets through and what was measured. Pure.

A rung's heat is the share of a second that its inferences take, relative to the hottest rung's: what a frame costs, at
that rate. Its value is accuracy-weighted frames a second. Going down, the rate falls first, and the precision changes
where that costs less value for the heat that it saves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from agent.governor.limits import Rung

EMERGENCY_RATE = 1.0
RATIO = 1.25
"""Between the rates of two neighbours: finer steps come closer to what the heat allows, and make more of them."""
LEAST_SAVING = 0.025
"""Of the hottest rung's heat: what saves less than this against its neighbour is no rung of its own."""


class Cost(NamedTuple):
    """What is known of a precision: ``seconds`` an inference on this machine, ``weight`` its accuracy against
    fp32's."""

    seconds: float
    weight: float


class Step(NamedTuple):
    """A rung with what it costs: ``heat`` 0..1 of the ladder's hottest, ``value`` accuracy-weighted frames a second."""

    rung: Rung
    heat: float
    value: float


def make(costs: Mapping[str, Cost], top_rate: float) -> list[Rung]:
    """The rungs from the hottest to 1 fps; ``top_rate`` inferences a second are all that the cameras offer, and a rung
    of that rate has none to keep to.

    Raises ValueError where no precision is given.
    """
    if not costs:
        raise ValueError("a ladder needs at least one precision")
    wanted = [
        Rung(precision, rate) for precision, cost in costs.items() for rate in _rates(min(top_rate, 1 / cost.seconds))
    ]
    bottom = Rung(min(costs, key=lambda precision: costs[precision].seconds), min(EMERGENCY_RATE, top_rate))
    *steps, lowest = weigh([*wanted, bottom], costs, top_rate)
    return [step.rung for step in _frontier(steps) if step.heat > lowest.heat * (1 + 1e-9)] + [bottom]


def weigh(rungs: Sequence[Rung], costs: Mapping[str, Cost], top_rate: float = 30.0) -> list[Step]:
    """Each rung with its heat and its value; one without a rate is taken at ``top_rate``, or as fast as it goes."""
    rates = [min(rung.rate or top_rate, 1 / costs[rung.precision].seconds) for rung in rungs]
    busy = [rate * costs[rung.precision].seconds for rung, rate in zip(rungs, rates, strict=True)]
    most = max(busy)
    return [
        Step(rung, share / most, rate * costs[rung.precision].weight)
        for rung, rate, share in zip(rungs, rates, busy, strict=True)
    ]


def _rates(top: float) -> list[float | None]:
    """None stands for ``top``: to limit a camera to just what it gives would cost frames."""
    rates: list[float | None] = [None]
    while (top := top / RATIO) > EMERGENCY_RATE * RATIO:
        rates.append(_round(top))
    return rates


def _round(rate: float) -> float:
    return float(f"{rate:.2g}")


def _frontier(steps: Sequence[Step]) -> list[Step]:
    """Those that no other beats, best first: each colder one is worth less, and each saves something."""
    kept: list[Step] = []
    for step in sorted(steps, key=lambda step: (-step.value, step.heat)):
        if not kept or step.heat <= kept[-1].heat - LEAST_SAVING:
            kept.append(step)
    return kept
