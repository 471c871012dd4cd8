"""What the tensors of a graph hold on real pictures: ranges, histograms, and the int8 step that suits each.

Two passes over the pictures, one for the range and one for the histogram; memory does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

BINS = 2048
LEVELS = 127
"""Magnitudes that symmetric int8 can tell apart."""
METHODS = ("minmax", "percentile-99.999", "percentile-99.99", "percentile-99.9", "entropy", "mse")

Counts = "NDArray[np.float64]"
Pictures = Callable[[], Iterable["NDArray[np.generic]"]]
"""Gives the network's inputs ``[1, 3, H, W]``, the same ones each time it is called."""


class Histogram:
    """How often which magnitude occurs in a tensor: ``counts`` ``[BINS]`` over 0..``top``."""

    def __init__(self, top: float) -> None:
        self.top = top
        self.counts = np.zeros(BINS, np.float64)
        self._thresholds: dict[str, float] = {}

    def add(self, values: NDArray[np.generic]) -> None:
        """Count the magnitudes of a tensor."""
        if self.top > 0:
            self.counts += np.histogram(np.abs(values), bins=BINS, range=(0.0, self.top))[0]

    def threshold(self, method: str) -> float:
        """The magnitude that becomes 127 by one of METHODS; what is larger is cut off. For a full histogram."""
        if method not in self._thresholds:
            self._thresholds[method] = self._threshold(method)
        return self._thresholds[method]

    def _threshold(self, method: str) -> float:
        if method == "minmax" or self.top <= 0 or not self.counts.any():
            return self.top
        width = self.top / BINS
        if method.startswith("percentile-"):
            share = np.cumsum(self.counts) / self.counts.sum()
            return float((np.searchsorted(share, float(method.split("-")[1]) / 100) + 1) * width)
        cuts = np.arange(LEVELS + 1, BINS + 1, 16)
        costs = [
            _divergence(self.counts, int(cut)) if method == "entropy" else _error(self.counts, int(cut)) for cut in cuts
        ]
        return float(cuts[int(np.argmin(costs))] * width)


def _error(counts: NDArray[np.float64], cut: int) -> float:
    """Mean square of what is lost, in bins, when 127 steps reach to bin ``cut``."""
    centres = np.arange(BINS) + 0.5
    step = cut / LEVELS
    restored = np.clip(np.round(centres / step), 0, LEVELS) * step
    return float((counts * (centres - restored) ** 2).sum())


def _divergence(counts: NDArray[np.float64], cut: int) -> float:
    """Kullback-Leibler divergence of the quantised from the clipped distribution (Migacz, GTC 2017)."""
    clipped = counts[:cut].copy()
    clipped[-1] += counts[cut:].sum()
    level = np.minimum((np.arange(cut) * (LEVELS + 1)) // cut, LEVELS)
    filled = counts[:cut] > 0
    mass = np.bincount(level, counts[:cut], LEVELS + 1)
    places = np.bincount(level, filled, LEVELS + 1)
    spread = np.where(filled, (mass / np.maximum(places, 1))[level], 0.0)
    if not spread.any():
        return float("inf")
    p, q = clipped / clipped.sum(), spread / spread.sum()
    both = (p > 0) & (q > 0)
    # Mass where the quantised one has none would be infinitely far; a small floor keeps the order of the cuts.
    return float((p[both] * np.log(p[both] / q[both])).sum() + p[(p > 0) & (q <= 0)].sum() * 20)


def histograms(model: Any, tensors: Sequence[str], pictures: Pictures) -> dict[str, Histogram]:
    """The histogram of each tensor's magnitudes over all pictures. Raises EngineError where the graph fails."""
    run = runner(model, tensors)
    tops = dict.fromkeys(tensors, 0.0)
    for picture in pictures():
        for name, value in run(picture).items():
            tops[name] = max(tops[name], float(np.abs(value).max(initial=0.0)))
    found = {name: Histogram(top) for name, top in tops.items()}
    for picture in pictures():
        for name, value in run(picture).items():
            found[name].add(value)
    return found


def runner(model: Any, tensors: Sequence[str]) -> Callable[[NDArray[np.generic]], Mapping[str, NDArray[np.float32]]]:
    """A function from the network's input to the named tensors inside it."""
    import onnx
    import onnxruntime

    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    inputs = {value.name for value in opened.graph.input}
    inner = [name for name in tensors if name not in inputs]
    del opened.graph.output[:]
    opened.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inner)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(opened.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feed = session.get_inputs()[0].name

    def run(picture: NDArray[np.generic]) -> Mapping[str, NDArray[np.float32]]:
        values = dict(zip(inner, session.run(inner, {feed: picture}), strict=True)) if inner else {}
        return values | ({feed: picture} if feed in tensors else {})

    return run
