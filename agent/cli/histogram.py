"""Durations as a histogram: bins that all series share, percentiles, rows of a table's characters, and a PNG.

Pure but for the picture. What was measured is the caller's business.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agent.errors import AgentError

BINS = 24
LAST = 0.99
"""The last bin holds all that is slower than this share, so that one outlier does not squeeze the rest into one bin."""
PERCENTILES = (50, 95, 99)
BLOCKS = " ▁▂▃▄▅▆▇█"
# Okabe and Ito's colours, which colour-blind people can tell apart.
COLOURS = ("#000000", "#0072B2", "#D55E00")


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """By nearest rank, of at least one value."""
    ordered = sorted(values)
    return {f"p{share}": ordered[max(0, math.ceil(len(ordered) * share / 100) - 1)] for share in PERCENTILES}


def edges(series: Sequence[Sequence[float]], bins: int = BINS) -> list[float]:
    """``bins + 1`` edges of equal distance for all series together; the last bin is open to above.

    Raises ValueError when there is no value.
    """
    ordered = sorted(value for values in series for value in values)
    if not ordered:
        raise ValueError("no durations")
    low, high = ordered[0], ordered[max(0, math.ceil(len(ordered) * LAST) - 1)]
    width = (high - low) / bins or max(low, 1e-6) / bins
    return [low + width * number for number in range(bins + 1)]


def counts(values: Sequence[float], limits: Sequence[float]) -> list[int]:
    """How many values lie in each bin; what is below the first edge is in the first bin, above the last in the last."""
    found = [0] * (len(limits) - 1)
    width = (limits[-1] - limits[0]) / len(found)
    for value in values:
        found[min(len(found) - 1, max(0, int((value - limits[0]) / width)))] += 1
    return found


def bar(found: Sequence[int]) -> str:
    """A character a bin, as high as its share of the fullest; what is not empty can be seen."""
    most = max(found) or 1
    return "".join(BLOCKS[math.ceil(count / most * (len(BLOCKS) - 1))] for count in found)


def draw(path: Path, title: str, panels: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    """Write a PNG: for each precision a panel, in it a step curve for each series of milliseconds.

    Raises AgentError without matplotlib or where the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise AgentError("pictures need the matplotlib package: pip install 'edgewarden[model]'") from None
    figure = Figure(figsize=(10, 0.6 + 2.8 * len(panels)), layout="constrained")
    for axes, (name, series) in zip(figure.subplots(len(panels), 1, squeeze=False)[:, 0], panels.items(), strict=True):
        _panel(axes, name, series)
    figure.suptitle(title)
    try:
        figure.savefig(path, dpi=100)
    except (OSError, ValueError) as error:
        raise AgentError(f"{path}: cannot be written: {getattr(error, 'strerror', None) or error}") from None


def _panel(axes: Any, name: str, series: Mapping[str, Sequence[float]]) -> None:
    limits = edges(list(series.values()))
    for (what, values), colour in zip(series.items(), COLOURS, strict=False):
        shares = [100 * count / len(values) for count in counts(values, limits)]
        axes.stairs(shares, limits, color=colour, label=what, linewidth=1.6)
        axes.axvline(percentiles(values)["p50"], color=colour, linestyle=":", linewidth=1)
    axes.set(
        title=name, xlabel="ms a frame (dotted: the median; the last bin is all that is slower)", ylabel="% of frames"
    )
    axes.grid(alpha=0.3)
    axes.legend()
