"""Curves over time as a PNG, one panel above the other, drawn with OpenCV so that no plotting package is needed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from agent.errors import AgentError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Canvas = NDArray[np.uint8]
    Series = NDArray[Any] | Sequence[float]

# Okabe and Ito's colours, which colour-blind people can tell apart; blue, green, red.
COLOURS = ((178, 114, 0), (0, 94, 213), (115, 158, 0), (167, 121, 204), (66, 159, 230))
GREY = (150, 150, 150)
INK = (40, 40, 40)
WIDTH, HEIGHT = 1280, 250
LEFT, RIGHT, TOP, BOTTOM = 80, 200, 34, 34


class Curve(NamedTuple):
    """``values`` over ``at`` (seconds). ``steps``: it jumps from value to value; ``grey``: a limit, not a
    measurement."""

    name: str
    at: Series
    values: Series
    steps: bool = False
    grey: bool = False


class Panel(NamedTuple):
    """Curves of one unit; ``falling``: small values stand above (rung 0 is the top). ``shaded``: spans of time."""

    title: str
    curves: Sequence[Curve]
    falling: bool = False
    shaded: Sequence[tuple[float, float]] = ()


def draw(path: Path, title: str, panels: Sequence[Panel]) -> None:
    """Write the picture. Raises AgentError where it cannot be written."""
    import cv2

    rows = [_panel(panel, last=panel is panels[-1]) for panel in panels]
    head = np.full((46, WIDTH, 3), 255, np.uint8)
    _write(head, title, (LEFT, 30), 0.65)
    ok, data = cv2.imencode(".png", np.vstack([head, *rows]))
    try:
        if not ok:
            raise OSError(0, "OpenCV cannot encode it")
        path.write_bytes(data.tobytes())
    except OSError as error:
        raise AgentError(f"{path}: cannot be written: {error.strerror}") from None


def _panel(panel: Panel, *, last: bool) -> Canvas:
    import cv2

    canvas: Canvas = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    span = max(float(np.max(np.asarray(curve.at))) for curve in panel.curves) or 1.0
    low, high = _range(panel.curves)
    if panel.falling:
        low, high = high, low

    def pixel(at: float, value: float) -> tuple[int, int]:
        across = LEFT + at / span * (WIDTH - LEFT - RIGHT)
        return round(across), round(HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM))

    for start, end in panel.shaded:
        cv2.rectangle(canvas, (pixel(start, low)[0], TOP), (pixel(end, low)[0], HEIGHT - BOTTOM), (235, 235, 235), -1)
    for value in _ticks(min(low, high), max(low, high)):
        left, down = pixel(0, value)
        cv2.line(canvas, (left, down), (WIDTH - RIGHT, down), (225, 225, 225), 1)
        _write(canvas, f"{value:g}", (LEFT - 50, down + 5), 0.42)
    for at in _ticks(0.0, span):
        across = pixel(at, low)[0]
        cv2.line(canvas, (across, TOP), (across, HEIGHT - BOTTOM), (238, 238, 238), 1)
        if last:
            _write(canvas, f"{at:g} s", (across - 18, HEIGHT - 12), 0.42)
    # The first one is drawn last, over the others.
    for number, curve in reversed(list(enumerate(panel.curves))):
        colour = GREY if curve.grey else COLOURS[number % len(COLOURS)]
        points = [pixel(at, value) for at, value in _points(curve) if np.isfinite(value)]
        cv2.polylines(canvas, [np.array(points, np.int32)], False, colour, 1 if curve.grey else 2, cv2.LINE_AA)
        middle = TOP + 14 + number * 20
        cv2.line(canvas, (WIDTH - RIGHT + 14, middle - 4), (WIDTH - RIGHT + 36, middle - 4), colour, 2)
        _write(canvas, curve.name, (WIDTH - RIGHT + 44, middle), 0.45)
    _write(canvas, panel.title, (LEFT, 22), 0.5)
    return canvas


def _points(curve: Curve) -> list[tuple[float, float]]:
    """At most as many as can be seen; of each pixel's worth the smallest and the largest, so that no peak is lost."""
    at, values = np.asarray(curve.at, dtype=float), np.asarray(curve.values, dtype=float)
    if len(at) <= 2 * WIDTH:
        points = list(zip(at.tolist(), values.tolist(), strict=True))
    else:
        points = []
        for part in np.array_split(np.arange(len(at)), WIDTH):
            for index in sorted({int(part[values[part].argmin()]), int(part[values[part].argmax()])}):
                points.append((float(at[index]), float(values[index])))
    if not curve.steps:
        return points
    corners = [(later, value) for (_, value), (later, _) in pairwise(points)]
    return [point for pair in zip(points, [*corners, points[-1]], strict=True) for point in pair]


def _range(curves: Sequence[Curve]) -> tuple[float, float]:
    values = np.concatenate([np.asarray(curve.values, dtype=float) for curve in curves])
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    room = 0.05 * (high - low) or 1.0
    return low - room, high + room


def _ticks(low: float, high: float) -> list[float]:
    """Some five round numbers between."""
    size = (high - low) / 5
    unit = 10.0 ** np.floor(np.log10(size))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= size)
    return [float(step * number) for number in range(int(np.ceil(low / step)), int(np.floor(high / step)) + 1)]


def _write(canvas: Canvas, text: str, at: tuple[int, int], size: float) -> None:
    import cv2

    cv2.putText(canvas, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, INK, 1, cv2.LINE_AA)
