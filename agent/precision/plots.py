"""Pictures of measurements: precision over recall by variant, and what each variant does to fp32's scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from agent.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

RECALLS = np.linspace(0.0, 1.0, 101)
# Okabe and Ito's colours, which colour-blind people can tell apart.
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7")


def accuracy_picture(
    path: Path,
    title: str,
    curves: Mapping[str, NDArray[np.float64]],
    scores: Mapping[str, Sequence[tuple[float, float]]],
) -> None:
    """Write a PNG. ``curves``: precision ``[101]`` over recall by variant; ``scores``: pairs of fp32's score and the
    variant's for the same object. Raises ModelError without matplotlib or where the file cannot be written."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ModelError("pictures need the matplotlib package: pip install 'edgewarden[model]'") from None
    figure = Figure(figsize=(11, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for (name, curve), colour in zip(curves.items(), COLOURS, strict=False):
        left.plot(RECALLS, curve, label=name, color=colour)
    left.set(title="precision over recall at IoU .5", xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    right.plot((0, 1), (0, 1), color="#999999", linewidth=1)
    for (name, pairs), colour in zip(scores.items(), COLOURS[1:], strict=False):
        if pairs:
            right.scatter(*zip(*pairs, strict=True), s=9, label=f"{name}, {len(pairs)} boxes", color=colour, alpha=0.5)
    right.set(title="scores of the same object", xlabel="fp32", ylabel="variant", xlim=(0, 1), ylim=(0, 1))
    for axes in (left, right):
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend()
    figure.suptitle(title)
    try:
        figure.savefig(path, dpi=100)
    except OSError as error:
        raise ModelError(f"{path}: cannot be written: {error.strerror}") from None
