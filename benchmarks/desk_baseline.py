"""What colour and shape alone can do: thresholds and contours, with no learned features. The bundled model's rival.

Two ways to find regions (pixels of a class's colours; pixels unlike the table), a class's likelihood of a region from
its colours and its shape. Colours, shapes, thresholds and the way itself are chosen on scenes of the training domain.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import cv2
import numpy as np
from desk_scoring import Found, score
from numpy.typing import NDArray

from agent.sources.desk.compose import Truth
from agent.sources.desk.scene import Scene
from agent.sources.desk.things import LABELS

Array = NDArray[Any]
BINS = (18, 8, 6)
WORK = 0.5
"""Pictures are halved first: less noise, as a practitioner would."""
LEAST_AREA = 150


class Setting(NamedTuple):
    """``way``: ``colour`` or ``table``; ``threshold`` of the mask; ``opening`` kernel; the least score told."""

    way: str
    threshold: float
    opening: int


GRID = [
    *(Setting("colour", t, k) for t, k in itertools.product((0.0, 0.4, 0.8, 1.3), (3, 7))),
    *(Setting("table", t, k) for t, k in itertools.product((14.0, 22.0, 32.0, 45.0), (3, 7))),
]


def _prepared(pixels: Array) -> tuple[Array, Array]:
    """HSV and Lab of the halved, smoothed picture."""
    small = cv2.bilateralFilter(cv2.resize(pixels, None, fx=WORK, fy=WORK, interpolation=cv2.INTER_AREA), 5, 40, 5)
    return cv2.cvtColor(small, cv2.COLOR_BGR2HSV), cv2.cvtColor(small, cv2.COLOR_BGR2Lab)


def _bins(hsv: Array) -> Array:
    """Each pixel's cell of the colour histogram."""
    h, s, v = (hsv[..., k].astype(np.int64) * n // (180 if k == 0 else 256) for k, n in enumerate(BINS))
    return (h * BINS[1] + s) * BINS[2] + v


def _shape(contour: Array) -> Array:
    """Log area, log aspect of the smallest rectangle, how much of it is filled, solidity, roundness."""
    area = cv2.contourArea(contour) + 1e-3
    _, (w, h), _ = cv2.minAreaRect(contour)
    hull = cv2.contourArea(cv2.convexHull(contour)) + 1e-3
    around = cv2.arcLength(contour, True) + 1e-3
    return np.array(
        [
            np.log(area),
            np.log((max(w, h) + 1) / (min(w, h) + 1)),
            area / (w * h + 1),
            area / hull,
            12.57 * area / around**2,
        ]
    )


@dataclass
class Baseline:
    """Tuned on scenes by fit(); after that found() works on any picture."""

    ratio: dict[str, Array] = field(default_factory=dict)
    shapes: dict[str, tuple[Array, Array]] = field(default_factory=dict)
    settings: dict[str, Setting] = field(default_factory=dict)

    def fit(self, scenes: Sequence[Scene]) -> Baseline:
        """Learn colours and shapes from the truth, then take for each class the setting of the best AP."""
        prepared = [_prepared(scene.pixels) for scene in scenes]
        self._learn_colours(scenes, prepared)
        truths = [scene.truths for scene in scenes]
        best = dict.fromkeys(LABELS, -1.0)
        for setting in GRID:
            masks = [self._regions(hsv, lab, setting) for hsv, lab in prepared]
            trial = self._learned_shapes(masks, truths)
            found = [self._scored(hsv, regions, trial) for (hsv, _), regions in zip(prepared, masks, strict=True)]
            for label, value in score(found, truths).by_class.items():
                if value > best[label]:
                    best[label] = value
                    self.settings[label], self.shapes[label] = setting, trial[label]
        return self

    def found(self, pixels: Array) -> list[Found]:
        """Boxes of one BGR picture."""
        hsv, lab = _prepared(pixels)
        found: list[Found] = []
        for label in LABELS:
            regions = {label: self._regions(hsv, lab, self.settings[label])[label]}
            found += self._scored(hsv, regions, self.shapes)
        return found

    def _learn_colours(self, scenes: Sequence[Scene], prepared: Sequence[tuple[Array, Array]]) -> None:
        """Log likelihood ratio of each colour: inside a class's boxes (their inner ellipse) against everywhere else."""
        inside = {label: np.ones(int(np.prod(BINS))) for label in LABELS}
        everywhere = np.ones(int(np.prod(BINS)))
        for scene, (hsv, _) in zip(scenes, prepared, strict=True):
            cells = _bins(hsv)
            everywhere += np.bincount(cells.ravel(), minlength=len(everywhere))
            for one in scene.truths:
                inside[one.label] += np.bincount(cells[_inner(one, cells.shape)], minlength=len(everywhere))
        for label, counts in inside.items():
            rest = everywhere - counts + 1
            self.ratio[label] = np.log((counts / counts.sum()) / (rest / rest.sum())).astype(np.float32)

    def _regions(self, hsv: Array, lab: Array, setting: Setting) -> dict[str, list[Array]]:
        """The contours in which to look for each class."""
        if setting.way == "table":
            table = np.median(lab.reshape(-1, 3), 0)
            common = _contours(np.linalg.norm(lab.astype(np.float32) - table, axis=2) > setting.threshold, setting)
            return dict.fromkeys(LABELS, common)
        cells = _bins(hsv)
        return {label: _contours(self.ratio[label][cells] > setting.threshold, setting) for label in LABELS}

    def _learned_shapes(
        self, regions: Sequence[dict[str, list[Array]]], truths: Sequence[Sequence[Truth]]
    ) -> dict[str, tuple[Array, Array]]:
        """Mean and spread of the shapes of the regions that lie on a thing of the class."""
        seen: dict[str, list[Array]] = {label: [] for label in LABELS}
        for contours, objects in zip(regions, truths, strict=True):
            for one in objects:
                fitting = [c for c in contours[one.label] if _iou(_box(c), one.box) > 0.5]
                seen[one.label] += [_shape(c) for c in fitting]
        return {label: _gaussian(shapes) for label, shapes in seen.items()}

    def _scored(
        self, hsv: Array, regions: dict[str, list[Array]], shapes: dict[str, tuple[Array, Array]]
    ) -> list[Found]:
        cells, found = _bins(hsv), list[Found]()
        for label, contours in regions.items():
            mean, spread = shapes[label]
            for contour in contours:
                x, y, w, h = cv2.boundingRect(contour)
                mask = np.zeros((h, w), np.uint8)
                cv2.drawContours(mask, [contour - (x, y)], -1, 1, -1)
                colour = float(self.ratio[label][cells[y : y + h, x : x + w][mask > 0]].mean())
                shape = float(-0.5 * (((_shape(contour) - mean) / spread) ** 2).sum())
                found.append(Found(label, 1 / (1 + np.exp(-(colour + 0.5 * shape))), _box(contour)))
        return found


def _contours(mask: Array, setting: Setting) -> list[Array]:
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (setting.opening, setting.opening))
    closed = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, kernel)
    clean = cv2.morphologyEx(closed, cv2.MORPH_OPEN, kernel)
    contours, _ = cv2.findContours(clean, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return [contour for contour in contours if cv2.contourArea(contour) >= LEAST_AREA]


def _inner(one: Truth, shape: tuple[int, ...]) -> Array:
    x1, y1, x2, y2 = (side * WORK for side in one.box)
    mask = np.zeros(shape, np.uint8)
    axes = (max(1, int((x2 - x1) * 0.4)), max(1, int((y2 - y1) * 0.4)))
    cv2.ellipse(mask, (int((x1 + x2) / 2), int((y1 + y2) / 2)), axes, 0, 0, 360, 1, -1)
    return mask > 0


def _box(contour: Array) -> tuple[float, float, float, float]:
    x, y, w, h = cv2.boundingRect(contour)
    return x / WORK, y / WORK, (x + w) / WORK, (y + h) / WORK


def _iou(first: Sequence[float], second: Sequence[float]) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    common = max(0.0, width) * max(0.0, height)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return common / (sum(areas) - common + 1e-9)


def _gaussian(shapes: Sequence[Array]) -> tuple[Array, Array]:
    if len(shapes) < 5:
        return np.zeros(5), np.ones(5)
    return np.mean(shapes, 0), np.std(shapes, 0) + 0.02
