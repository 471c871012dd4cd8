"""The race as a picture: every contestant's time a frame as a multiple of the engine's, a panel a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench_rows import Row

# Okabe and Ito's colours, which colour-blind people can tell apart.
OURS, FLOOR, OTHERS, MISSED = "#0072B2", "#999999", "#E69F00", "#D55E00"


def draw(path: Path, groups: Mapping[str, Any], rows: Sequence[Row]) -> None:
    """Write a PNG. ``groups``: as in the JSON. Raises ImportError without matplotlib."""
    from matplotlib.figure import Figure

    races = {name: group["contestants"] for name, group in groups.items() if "contestants" in group}
    heights = [len(contestants) + 1 for contestants in races.values()] + [len(_promised(rows)) + 1]
    figure = Figure(figsize=(11, 1.0 + 0.32 * sum(heights)), layout="constrained")
    panels = figure.subplots(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    for panel, (name, contestants) in zip(panels, races.items(), strict=False):
        _race(panel, name, contestants)
    _promises(panels[-1], _promised(rows))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def _race(panel: Any, name: str, contestants: Mapping[str, Any]) -> None:
    ranked = sorted(contestants.items(), key=lambda pair: -float(pair[1]["ratio"]))
    names, ratios = [name for name, _ in ranked], [float(one["ratio"]) for _, one in ranked]
    bars = panel.barh(names, ratios, color=[_colour(name) for name in names])
    panel.bar_label(bars, [f" {one['ratio']:.2f} x, {one['ms']:.1f} ms" for _, one in ranked])
    panel.axvline(1.0, color="#444444", linewidth=1)
    panel.set(title=f"{name} (session.run, 2 threads = 1)", xlim=(0, 1.25 * max(ratios)))


def _promised(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.target]


def _promises(panel: Any, rows: Sequence[Row]) -> None:
    """Each promise's value as a share of what was promised, so that 1 is just kept and less is better."""
    shares = [max(0.0, _share(row)) for row in reversed(rows)]
    colours = [OURS if row.met else MISSED for row in reversed(rows)]
    bars = panel.barh([row.key for row in reversed(rows)], [min(share, 3.0) for share in shares], color=colours)
    panel.bar_label(bars, [f" {row.value:.3g} {row.unit} of {row.target:g}" for row in reversed(rows)])
    panel.axvline(1.0, color="#444444", linewidth=1)
    panel.set(title="promises: left of the line is kept", xlim=(0, 1.3 * max([1.0, *(min(s, 3.0) for s in shares)])))


def _share(row: Row) -> float:
    assert row.target
    return row.value / row.target if row.better == "lower" else row.target / max(row.value, 1e-9)


def _colour(name: str) -> str:
    if name == "floor":
        return FLOOR
    return OURS if name.startswith("ours") else OTHERS
