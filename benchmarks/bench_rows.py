"""Arithmetic of the benchmark: ratios to the floor of the same round, targets, and what became worse. Pure."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

TOLERANCE = 0.10
"""By so much a ratio may be worse than the committed one before it is named."""


@dataclass(frozen=True)
class Row:
    """One line of the table. ``better``: which way is good; ``target``: what was promised, None where nothing was;
    ``kept``: it stands in ratios.json, since it says something of the code and not of the machine alone."""

    key: str
    what: str
    value: float
    unit: str = "x"
    target: float | None = None
    better: Literal["lower", "higher"] = "lower"
    kept: bool = True

    @property
    def met(self) -> bool | None:
        """Whether the promise holds; None where there is none."""
        if self.target is None:
            return None
        return self.value <= self.target if self.better == "lower" else self.value >= self.target

    def line(self) -> str:
        """For the table."""
        sign = "<=" if self.better == "lower" else ">="
        promise = "" if self.target is None else f"{sign} {self.target:g}"
        verdict = {None: "", True: "met", False: "NOT MET"}[self.met]
        return f"{self.what:<74} {self.value:>9.3f} {self.unit:<4} {promise:>9}  {verdict}".rstrip()

    def document(self) -> dict[str, Any]:
        """For the JSON."""
        return {**asdict(self), "met": self.met}


def ratios(values: Sequence[float], floors: Sequence[float]) -> list[float]:
    """Of each round. Raises ValueError when the counts differ or a floor is not positive."""
    if len(values) != len(floors):
        raise ValueError(f"{len(values)} values and {len(floors)} floors")
    if any(floor <= 0 for floor in floors):
        raise ValueError(f"a floor that is no duration: {min(floors)}")
    return [value / floor for value, floor in zip(values, floors, strict=True)]


def median_ratio(values: Sequence[float], floors: Sequence[float]) -> float:
    """The median of the rounds' ratios: what made one round slow made its floor slow too."""
    return statistics.median(ratios(values, floors))


def beside(floors: Sequence[float], place: int) -> float:
    """The floor of the contestant that ran between ``floors[place]`` and ``floors[place + 1]``."""
    return (floors[place] + floors[place + 1]) / 2


def slope(at: Sequence[float], values: Sequence[float]) -> float:
    """By least squares, in units of ``values`` a unit of ``at``; 0 for fewer than two moments."""
    if len(at) < 2 or max(at) == min(at):
        return 0.0
    return statistics.linear_regression(at, values).slope


def spread(shares: Sequence[float]) -> float:
    """How far the furthest is from the mean, as a fraction of it."""
    mean = statistics.fmean(shares)
    return max(abs(share - mean) for share in shares) / mean


def regressions(rows: Sequence[Row], committed: Mapping[str, float], tolerance: float = TOLERANCE) -> list[str]:
    """A line for each row that became worse by more than ``tolerance`` against what was committed."""
    found = []
    for row in rows:
        before = committed.get(row.key)
        if not row.kept or before is None or before <= 0:
            continue
        if row.better == "higher" and row.value <= 0:
            change = float("inf")
        else:
            change = (row.value / before if row.better == "lower" else before / row.value) - 1.0
        if change > tolerance:
            found.append(
                f"{row.key}: {row.value:.3f} {row.unit}, committed {before:.3f}: worse by {100 * change:.0f} %"
            )
    return found


def read_committed(path: Path) -> dict[str, float]:
    """What stands in ratios.json; nothing where there is none. Raises ValueError for a damaged file."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    try:
        return {str(key): float(value) for key, value in json.loads(text)["rows"].items()}
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: not what --update writes ({error}); restore it or run with --update") from None


def committed_text(rows: Sequence[Row], before: Mapping[str, float], machine: str) -> str:
    """ratios.json anew: what was not measured this time stays as it was."""
    kept = {**before, **{row.key: round(row.value, 4) for row in rows if row.kept}}
    return json.dumps({"machine": machine, "rows": dict(sorted(kept.items()))}, indent=2) + "\n"
