"""Which detections count at all: what masks hide, and what is too small, too large or too doubtful for its label."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from agent.config import LimitConfig, MaskConfig
from agent.data import Detections
from agent.tracking.places import Region, Seen, check_region

Mask = NDArray[np.bool_]


class Sieve:
    """The masks and limits of one camera. Raises ConfigError for a mask that is no region."""

    def __init__(self, masks: Sequence[MaskConfig] = (), limits: Sequence[LimitConfig] = ()) -> None:
        for index, mask in enumerate(masks):
            check_region(mask.polygon, f"mask[{index}]")
        self._masks = [Region(mask) for mask in masks if mask.hides == "all"]
        self._limits = list(limits)

    def __call__(self, detections: Detections) -> Detections:
        """What counts of them; the same object when all does."""
        if not len(detections) or not (self._masks or self._limits):
            return detections
        seen = Seen(np.asarray(detections.boxes, dtype=np.float64), detections.labels, detections.size)
        keep = np.ones(len(detections), dtype=bool)
        for region in self._masks:
            keep &= ~region.holds(seen)
        for limit in self._limits:
            keep &= _within(limit, seen, detections.scores) | ~seen.wanted(limit.labels)
        return detections if keep.all() else _only(detections, keep)


def unchanged(detections: Detections) -> Detections:
    """The sieve of a camera without masks and limits."""
    return detections


def _within(limit: LimitConfig, seen: Seen, scores: NDArray[np.float32]) -> Mask:
    width, height = ((seen.boxes[:, 2:] - seen.boxes[:, :2]) / seen.size).T
    return np.asarray(
        (width >= limit.min_width)
        & (width <= limit.max_width)
        & (height >= limit.min_height)
        & (height <= limit.max_height)
        & (width * height >= limit.min_area)
        & (width * height <= limit.max_area)
        & (scores >= limit.min_score)
    )


def _only(detections: Detections, keep: Mask) -> Detections:
    labels = tuple(label for label, kept in zip(detections.labels, keep.tolist(), strict=True) if kept)
    return msgspec.structs.replace(
        detections,
        boxes=detections.boxes[keep],
        scores=detections.scores[keep],
        class_ids=detections.class_ids[keep],
        labels=labels,
        landmarks=None if detections.landmarks is None else detections.landmarks[keep],
    )
