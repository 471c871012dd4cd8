"""RetinaFace: an SSD head, offsets and scores for fixed priors, with five landmarks a face."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from agent.detection.decoders.base import Candidates
from agent.detection.decoders.shapes import boxes_from_centres
from agent.errors import ModelError

STEPS: tuple[tuple[int, tuple[int, int]], ...] = ((8, (16, 32)), (16, (64, 128)), (32, (256, 512)))
"""Stride of each level and the sides of its two square priors."""
VARIANCE = (np.float32(0.1), np.float32(0.2))


class RetinaFace:
    """boxes ``[B, N, 4]``, scores ``[B, N, 2]`` (background, face) and landmarks ``[B, N, 10]`` for N priors.

    centre = prior + .1 * offset * prior's side, size = prior's side * exp(.2 * offset), landmark = prior + .1 * offset
    * prior's side; all as fractions of the input there. Scores are softmaxes, or logits that become such. Source: Deng
    et al., RetinaFace, https://arxiv.org/abs/1905.00641, and https://github.com/biubug6/Pytorch_Retinaface
    (layers/functions/prior_box.py, utils/box_utils.py).
    """

    family: ClassVar[str] = "retinaface"
    needs_nms: ClassVar[bool] = True

    def __init__(self, input_size: tuple[int, int], classes: int) -> None:
        self._centres, self._sides = priors(input_size)

    @staticmethod
    def matches(shapes: Mapping[str, Sequence[int]], input_size: tuple[int, int]) -> int | None:
        """1 for three such outputs with as many rows as there are priors."""
        widths = sorted(shape[2] for shape in shapes.values() if len(shape) == 3 and shape[1] == count(input_size))
        return 1 if len(shapes) == 3 and widths == [2, 4, 10] else None

    def decode(self, outputs: Mapping[str, NDArray[np.generic]], min_score: float) -> list[Candidates]:
        """Candidates at or above ``min_score``, in network pixels, with landmarks ``[N, 5, 2]``."""
        by_width = {array.shape[2]: array.astype(np.float32, copy=False) for array in outputs.values()}
        if set(by_width) != {2, 4, 10} or by_width[4].shape[1] != len(self._centres):
            raise ModelError(f"retinaface: boxes, scores, landmarks of {len(self._centres)} priors are expected")
        pictures = zip(by_width[4], by_width[2], by_width[10], strict=True)
        return [self._picture(*picture, np.float32(min_score)) for picture in pictures]

    def _picture(
        self,
        offsets: NDArray[np.float32],
        pair: NDArray[np.float32],
        points: NDArray[np.float32],
        min_score: np.float32,
    ) -> Candidates:
        scores = _probability(pair)
        keep = np.flatnonzero(scores >= min_score)
        centres, sides = self._centres[keep], self._sides[keep]
        with np.errstate(over="ignore"):
            sizes = sides * np.exp(offsets[keep, 2:] * VARIANCE[1])
        boxes = boxes_from_centres(centres + offsets[keep, :2] * VARIANCE[0] * sides, sizes)
        landmarks = centres[:, None] + points[keep].reshape(-1, 5, 2) * VARIANCE[0] * sides[:, None]
        return Candidates(boxes, scores[keep], np.zeros(len(keep), np.int32), landmarks)


def _probability(pair: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of a face: the second of two probabilities, or of two logits."""
    if len(pair) == 0 or np.allclose(pair.sum(axis=1), 1, atol=1e-3):
        return pair[:, 1]
    with np.errstate(over="ignore"):
        probability: NDArray[np.float32] = 1 / (1 + np.exp(pair[:, 0] - pair[:, 1]))
    probability[~np.isfinite(pair).all(axis=1)] = np.nan  # else infinite logits would be sure of a face
    return probability


def count(input_size: tuple[int, int]) -> int:
    """How many priors an input of that width and height has."""
    width, height = input_size
    return sum(len(sides) * -(-width // step) * -(-height // step) for step, sides in STEPS)


def priors(input_size: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Centres and sides ``[N, 2]`` of all priors in network pixels, level by level, row by row, cell by cell."""
    width, height = input_size
    centres, sizes = [], []
    for step, sides in STEPS:
        rows, columns = np.mgrid[: -(-height // step), : -(-width // step)]
        middle = (np.stack((columns.ravel(), rows.ravel()), axis=1) + 0.5) * step
        centres.append(np.repeat(middle, len(sides), axis=0))
        sizes.append(np.repeat(np.tile(np.array(sides), rows.size)[:, None], 2, axis=1))
    return np.concatenate(centres).astype(np.float32), np.concatenate(sizes).astype(np.float32)
