"""Accuracy against COCO annotations, by pycocotools: mAP, by class, and the precision-recall curve."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from agent.detection.results import category_ids, read_annotations
from agent.errors import MissingError, ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agent.data import Detections


class Accuracy(NamedTuple):
    """Mean average precision over IoU .50:.95 and at .50, ``by_class`` (mAP50-95; classes without any object are
    left out), and ``curve``: precision ``[101]`` over recall 0..1 at IoU .50, the mean of the classes."""

    map50_95: float
    map50: float
    by_class: Mapping[str, float]
    curve: NDArray[np.float64]


class Truth:
    """A COCO annotations file. Raises MissingError, or ModelError where it is no such file or pycocotools lacks.

    ``labels``: of the detector, by class index; matched to the categories by name, else the class index is the id.
    """

    def __init__(self, path: Path, labels: Sequence[str]) -> None:
        self._coco = _read(path)
        self._annotations = read_annotations(path)
        self._category = category_ids(labels, self._annotations)
        self._names = {int(row["id"]): str(row["name"]) for row in self._coco.dataset["categories"]}
        self.images: dict[str, int] = {
            Path(str(row["file_name"])).name: int(row["id"]) for row in self._coco.dataset["images"]
        }

    def score(self, found: Mapping[str, Detections]) -> Accuracy:
        """Detections by file name, for every picture of the annotations that was looked at."""
        from pycocotools.cocoeval import COCOeval

        rows = [row for name, detections in found.items() for row in self._rows(self.images[name], detections)]
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = COCOeval(self._coco, self._coco.loadRes(rows) if rows else _nothing(self._coco), "bbox")
            evaluation.params.imgIds = sorted(self.images[name] for name in found)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        return self._accuracy(evaluation)

    def _rows(self, image: int, found: Detections) -> list[dict[str, Any]]:
        rows = []
        for box, score, kind in zip(found.boxes.tolist(), found.scores.tolist(), found.class_ids.tolist(), strict=True):
            category = self._category.get(kind)
            if category is not None:
                xywh = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
                rows.append({"image_id": image, "category_id": category, "bbox": xywh, "score": score})
        return rows

    def _accuracy(self, evaluation: Any) -> Accuracy:
        # precision is [IoU, recall, class, area, most detections]; -1 where a class has no object.
        precision: NDArray[np.float64] = evaluation.eval["precision"][:, :, :, 0, 2]
        present = [index for index in range(precision.shape[2]) if precision[0, 0, index] > -1]
        names = [self._names[evaluation.params.catIds[index]] for index in present]
        by_class = {name: float(precision[:, :, index].mean()) for name, index in zip(names, present, strict=True)}
        curve = precision[0][:, present].mean(1) if present else np.zeros(precision.shape[1])
        return Accuracy(float(evaluation.stats[0]), float(evaluation.stats[1]), by_class, curve)


def _read(path: Path) -> Any:
    try:
        from pycocotools.coco import COCO
    except ImportError:
        raise ModelError("mAP needs the pycocotools package: pip install 'edgewarden[model]'") from None
    if not path.is_file():
        raise MissingError(f"{path}: no such file of COCO annotations")
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            coco = COCO(str(path))
            if not (coco.dataset["images"] and coco.dataset["annotations"] and coco.dataset["categories"]):
                raise KeyError("images")
    except (ValueError, KeyError, TypeError, AssertionError, OSError) as error:
        raise ModelError(
            f"{path}: not a file of COCO annotations with images, annotations, categories ({error})"
        ) from None
    return coco


def _nothing(coco: Any) -> Any:
    """Results without any detection, which loadRes refuses."""
    from pycocotools.coco import COCO

    empty = COCO()
    empty.dataset = {key: coco.dataset[key] for key in ("images", "categories")} | {"annotations": []}
    empty.createIndex()
    return empty
