"""How much a variant loses against fp32: by mAP where there is ground truth, else by agreement with fp32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from agent.data import Frame
from agent.errors import MissingSourceError
from agent.precision.agreement import agreement
from agent.precision.progress import Steps, untold
from agent.precision.trial import OpenEngine, detections, open_onnx

if TYPE_CHECKING:
    from agent.data import Detections
    from agent.detection.manifest import Optimisation
    from agent.detection.model import ModelPackage
    from agent.precision.accuracy import Accuracy, Truth

LEAST_SCORE = 0.001
"""mAP counts every box, however unsure."""
TOLD_SCORE = 0.4
"""Agreement counts the boxes that users are told of."""


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """``loss``: mAP50-95 of fp32 less that of the variant, or 1 - F1. None where a figure was not measured."""

    data: str
    map50_95: float | None = None
    map50: float | None = None
    f1: float | None = None
    score_difference: float | None = None
    loss: float = 0.0

    def recorded(self) -> dict[str, Any]:
        """As it stands in model.toml."""
        values = msgspec.structs.asdict(self)
        return {key: round(value, 4) if isinstance(value, float) else value for key, value in values.items()}


class Judge(Protocol):
    """Measures graphs on pictures that no variant was chosen by. ``key`` names those pictures."""

    key: str

    def figures(self, file: Path, level: Optimisation, precision: str = "fp32") -> Figures:
        """A graph's figures, its loss against the fp32 graph included. Raises EngineError."""


class TruthJudge:
    """By mAP on a folder of pictures with COCO annotations."""

    def __init__(
        self,
        package: ModelPackage,
        truth: Truth,
        images: Path,
        steps: Steps = untold,
        open_engine: OpenEngine = open_onnx,
    ) -> None:
        self._package, self._truth, self._steps, self._open_engine = package, truth, steps, open_engine
        self._files = _annotated(truth, images)
        self.key = f"{len(self._files)} annotated picture(s) of {images.name}"
        self._base: Accuracy | None = None

    def accuracy(self, file: Path, level: Optimisation, precision: str = "fp32") -> Accuracy:
        """mAP of a graph. Raises EngineError."""
        return self.score(self.found(file, level, precision))

    def score(self, found: Mapping[str, Detections]) -> Accuracy:
        """mAP of detections by file name."""
        return self._truth.score(found)

    def found(self, file: Path, level: Optimisation, precision: str = "fp32") -> Mapping[str, Detections]:
        """Detections by file name, of every picture."""
        frames = _Frames(self._files)
        with self._steps("pictures", len(frames)) as step:
            found = detections(
                self._package,
                file,
                frames,
                score=LEAST_SCORE,
                level=level,
                each=step,
                open_engine=self._open_engine,
                precision=precision,
            )
        return dict(zip(self._files, found, strict=True))

    def figures(self, file: Path, level: Optimisation, precision: str = "fp32") -> Figures:
        """See Judge."""
        base = self._base = self._base or self.accuracy(self._package.file_of(self._package.choose()), "all")
        own = self.accuracy(file, level, precision)
        return Figures(data=self.key, map50_95=own.map50_95, map50=own.map50, loss=base.map50_95 - own.map50_95)


class AgreementJudge:
    """By agreement with the fp32 graph on pictures without ground truth."""

    def __init__(
        self,
        package: ModelPackage,
        frames: Sequence[Frame],
        origin: str,
        steps: Steps = untold,
        open_engine: OpenEngine = open_onnx,
    ) -> None:
        self._package, self._frames, self._steps, self._open_engine = package, frames, steps, open_engine
        self.key = f"agreement with fp32 on {len(frames)} picture(s) of {origin}"
        self._base: list[Detections] | None = None

    def figures(self, file: Path, level: Optimisation, precision: str = "fp32") -> Figures:
        """See Judge."""
        base = self._base = self._base or self.found(self._package.file_of(self._package.choose()), "all")
        told = agreement(base, self.found(file, level, precision))
        return Figures(data=self.key, f1=told.f1, score_difference=told.score_difference, loss=1 - told.f1)

    def found(self, file: Path, level: Optimisation, precision: str = "fp32") -> list[Detections]:
        """Detections of every picture."""
        with self._steps("pictures", len(self._frames)) as step:
            return detections(
                self._package,
                file,
                self._frames,
                score=TOLD_SCORE,
                level=level,
                each=step,
                open_engine=self._open_engine,
                precision=precision,
            )


class _Frames(Sequence[Frame]):
    """Image files as frames, read when they are asked for."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._files = list(files.values())

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: Any) -> Any:
        from agent.sources.images import read_image

        return Frame("evaluation", index, read_image(self._files[index]), 0.0, 0.0)


def _annotated(truth: Truth, images: Path) -> dict[str, Path]:
    """The annotated pictures that are in the folder, by name. Raises MissingSourceError when none of them is."""
    found = {name: images / name for name in sorted(truth.images) if (images / name).is_file()}
    if not found:
        raise MissingSourceError(f"{images}: holds none of the {len(truth.images)} pictures that the annotations name")
    return found
