"""Which nodes compute in int8, and by which calibrator: found on the calibration pictures alone.

A node's sensitivity is what the detections lose when it alone is int8. The most sensitive nodes stay float, more and
more of them, and of the candidates the one is taken that keeps most of the work in int8 without needless loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from agent.precision.activations import METHODS
from agent.precision.gate import LEAST_INT8_SHARE
from agent.precision.graph import Graph
from agent.precision.quantise import share_of

FIRST_METHOD = "mse"
"""The calibrator that sensitivities are measured with; the others are tried on the whole graph afterwards."""
LEAST_SHARE = 0.25
"""Below this share of int8 nothing is worth the file."""
TOLERANCE = 1.3
"""An int8 candidate may disagree by this factor more than the best one when it keeps more work in int8."""
STEPS = (0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 987)


class Candidate(NamedTuple):
    """A recipe and what it costs. ``floats``: the nodes left float; ``share``: of multiply-accumulates in int8."""

    method: str
    floats: tuple[str, ...]
    share: float
    disagreement: float


class Trial(NamedTuple):
    """What is to be measured: these nodes in int8, by this calibrator."""

    method: str
    chosen: tuple[str, ...]


class Measured(NamedTuple):
    """``disagreement``: with fp32 on the calibration pictures, huge where the graph does not run; ``share``: of the
    multiply-accumulates in int8, which may be less than what was chosen."""

    disagreement: float
    share: float


Measure = Callable[[Trial], Measured]
"""Builds and runs a trial."""
NEVER = 1e9
"""The disagreement of what does not run."""


def sensitivities(graph: Graph, measure: Measure) -> list[tuple[str, float]]:
    """Every weighted node and its disagreement when it alone is int8, the most sensitive first."""
    found = [(node.name, measure(Trial(FIRST_METHOD, (node.name,))).disagreement) for node in graph.weighted]
    return sorted(found, key=lambda pair: (-pair[1], pair[0]))


def candidates(
    graph: Graph, ranked: Sequence[str], measure: Measure, methods: Sequence[str] = METHODS
) -> list[Candidate]:
    """All calibrators on the largest int8 set worth it, then the best of them with more and more nodes in float."""
    kept = [step for step in STEPS if step < len(ranked) and _share(graph, ranked, step) >= LEAST_SHARE]
    middle = max((step for step in kept if _share(graph, ranked, step) >= LEAST_INT8_SHARE), default=0)
    tried = [_try(graph, ranked, middle, method, measure) for method in methods]
    best = min(tried, key=lambda one: one.disagreement)
    return tried + [_try(graph, ranked, step, best.method, measure) for step in kept if step != middle]


def best_int8(tried: Sequence[Candidate]) -> Candidate | None:
    """The candidate with the largest share in int8 among those that hardly disagree more than the best one."""
    real = [one for one in tried if one.share >= LEAST_INT8_SHARE and one.disagreement < NEVER]
    if not real:
        return None
    least = min(one.disagreement for one in real)
    return max((one for one in real if one.disagreement <= least * TOLERANCE), key=lambda one: one.share)


def best_mixed(tried: Sequence[Candidate]) -> Candidate | None:
    """The candidate below the share of int8 that disagrees least."""
    mixed = [one for one in tried if LEAST_SHARE <= one.share < LEAST_INT8_SHARE and one.disagreement < NEVER]
    return min(mixed, key=lambda one: (one.disagreement, -one.share), default=None)


def _share(graph: Graph, ranked: Sequence[str], step: int) -> float:
    return share_of(graph, ranked[step:])


def _try(graph: Graph, ranked: Sequence[str], step: int, method: str, measure: Measure) -> Candidate:
    measured = measure(Trial(method, tuple(ranked[step:])))
    return Candidate(method, tuple(ranked[:step]), measured.share, measured.disagreement)
