"""What a batch of pictures gave, written to files: JSON lines, COCO results, annotated pictures and clips.

Each file has its name only when it is whole. Where the pictures come from is the caller's business.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec

from agent.data import Detections
from agent.errors import AgentError, MissingError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

STILLS = (".jpg", ".jpeg", ".png")
DEFAULT_FPS = 25.0


class Result(NamedTuple):
    """One picture and what was found in it. ``frame`` and ``position`` (seconds): its place in a clip, else None."""

    source: str
    file_name: str
    frame: int | None
    position: float | None
    pixels: NDArray[np.uint8]
    detections: Detections


class Writer(Protocol):
    """Takes results one by one; ``finish`` gives the files their names."""

    path: Path

    @property
    def notes(self) -> list[str]:
        """What a reader of the file should know, one line each."""

    def write(self, result: Result) -> None:
        """Take one picture's result."""

    def finish(self) -> None:
        """All results were written. Without this call (an error, Ctrl-C) no file gets its name."""


class _PartFile:
    """A text file that gets its name when it is finished."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._part = path.with_name(path.name + ".part")
        try:
            self.file: IO[str] = self._part.open("w", encoding="utf-8")
        except OSError as error:
            raise AgentError(f"{path}: cannot be written: {error.strerror}") from None

    def finish(self) -> None:
        self.file.close()
        self._part.replace(self.path)


class JsonLines:
    """``detections.jsonl``: one line a picture, in the order in which they were read."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "detections.jsonl"
        self.notes: list[str] = []
        self._out = _PartFile(self.path)

    def write(self, result: Result) -> None:
        """One line: source, file_name, frame, position, size, and the detections, best first."""
        line = {key: getattr(result, key) for key in ("source", "file_name", "frame", "position")}
        line |= {"size": result.detections.size, "detections": _plain(result.detections)}
        self._out.file.write(json.dumps(line) + "\n")

    def finish(self) -> None:
        """The file gets its name."""
        self._out.finish()


class Annotations(msgspec.Struct):
    """Of a COCO annotations file: image ids by file name, category ids by lower-case name."""

    images: dict[str, int]
    categories: dict[str, int]


class _Named(msgspec.Struct):
    """What is read of an image or a category."""

    id: int
    file_name: str = ""
    name: str = ""


class _CocoFile(msgspec.Struct):
    images: list[_Named]
    categories: list[_Named]


class CocoResults:
    """``detections.json``: a COCO results list, with ``file_name`` beside ``image_id``.

    With ``annotations``, image ids are theirs by file name (pictures that they do not hold are left out) and so are
    category ids by name; else images count from 1 and a category id is the 0-based class index. A label that they do
    not name keeps its class index, and is left out where that is another category's id.
    """

    def __init__(self, folder: Path, labels: Sequence[str], annotations: Annotations | None = None) -> None:
        self.path = folder / "detections.json"
        self._out = _PartFile(self.path)
        self._out.file.write("[")
        self._annotations = annotations
        self._labels = labels
        self._categories = category_ids(labels, annotations)
        self._images = 0
        self._separator = "\n"
        self._unknown_pictures = 0
        self._unknown_labels: set[str] = set()

    @property
    def notes(self) -> list[str]:
        """What was left out."""
        notes = []
        if self._unknown_pictures:
            notes.append(f"{self.path}: {self._unknown_pictures} picture(s) left out that the annotations do not hold")
        if self._unknown_labels:
            names = ", ".join(sorted(self._unknown_labels))
            notes.append(f"{self.path}: left out what the annotations have no category for: {names}")
        return notes

    def write(self, result: Result) -> None:
        """One entry a detection: ``image_id``, ``category_id``, ``bbox`` (x, y, width, height), ``score``."""
        name = result.file_name if result.frame is None else f"{result.file_name}#{result.frame}"
        image_id = self._image_id(name)
        if image_id is None:
            self._unknown_pictures += 1
            return
        found = result.detections
        for box, score, class_id in zip(
            found.boxes.tolist(), found.scores.tolist(), found.class_ids.tolist(), strict=True
        ):
            category = self._categories.get(class_id, class_id if class_id >= len(self._labels) else None)
            if category is None:
                self._unknown_labels.add(self._labels[class_id])
                continue
            self._entry(image_id, category, box, score, name)

    def finish(self) -> None:
        """The file gets its name."""
        self._out.file.write("\n]\n")
        self._out.finish()

    def _image_id(self, name: str) -> int | None:
        if self._annotations is not None:
            return self._annotations.images.get(name)
        self._images += 1
        return self._images

    def _entry(self, image_id: int, category: int, box: list[float], score: float, name: str) -> None:
        left, top, right, bottom = box
        bbox = [round(value, 3) for value in (left, top, right - left, bottom - top)]
        entry = {"image_id": image_id, "category_id": category, "bbox": bbox, "score": round(score, 6)}
        self._out.file.write(self._separator + json.dumps(entry | {"file_name": name}))
        self._separator = ",\n"


class Annotated:
    """``annotated/``: every picture with its boxes drawn, every clip as an MP4."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "annotated"
        self.notes: list[str] = []
        self._taken: set[str] = set()
        self._clip: _Clip | None = None
        try:
            self.path.mkdir(exist_ok=True)
        except OSError as error:
            raise AgentError(f"{self.path}: cannot be made: {error.strerror}") from None

    def write(self, result: Result) -> None:
        """Draw one picture; the frames of one clip come one after the other."""
        from agent.detection.overlay import draw

        drawn = draw(result.pixels, result.detections)
        if result.frame is None:
            self._write_still(result.file_name, drawn)
            return
        if self._clip is None or self._clip.source != result.source or result.frame == 0:
            self._end_clip()
            self._clip = _Clip(result.source, self._path(result.file_name, ".mp4"))
        self._clip.write(drawn, result.position)

    def finish(self) -> None:
        """End the last clip."""
        self._end_clip()

    def _write_still(self, name: str, pixels: NDArray[np.uint8]) -> None:
        import cv2

        suffix = Path(name).suffix.lower()
        path = self._path(name, suffix if suffix in STILLS else ".jpg")
        if not cv2.imwrite(str(path), pixels):
            raise AgentError(f"{path}: cannot be written")

    def _path(self, name: str, suffix: str) -> Path:
        """A name in the folder that no other picture of this run has."""
        stem, count = Path(name).stem or "picture", 1
        path = self.path / (stem + suffix)
        while path.name in self._taken:
            count += 1
            path = self.path / f"{stem}-{count}{suffix}"
        self._taken.add(path.name)
        return path

    def _end_clip(self) -> None:
        if self._clip is not None:
            self._clip.close()
            self._clip = None


class _Clip:
    """One MP4. Its frame rate is known from the second picture on, so the first one waits."""

    def __init__(self, source: str, path: Path) -> None:
        self.source = source
        self._path = path
        self._first: tuple[NDArray[np.uint8], float | None] | None = None
        self._writer: Any = None

    def write(self, pixels: NDArray[np.uint8], position: float | None) -> None:
        if self._writer is None and self._first is None:
            self._first = pixels, position
            return
        if self._writer is None:
            self._open(position)
        self._writer.write(pixels)

    def close(self) -> None:
        if self._writer is None and self._first is not None:
            self._open(None)
        if self._writer is not None:
            self._writer.release()

    def _open(self, second: float | None) -> None:
        import cv2

        assert self._first is not None
        pixels, first = self._first
        step = None if first is None or second is None else second - first
        fps = 1 / step if step is not None and step > 0 else DEFAULT_FPS
        fourcc = cv2.VideoWriter.fourcc(*"mp4v")
        self._writer = cv2.VideoWriter(str(self._path), fourcc, fps, (pixels.shape[1], pixels.shape[0]))
        if not self._writer.isOpened():
            raise AgentError(f"{self._path}: this OpenCV cannot write an MP4 there")
        self._writer.write(pixels)
        self._first = None


def read_annotations(path: Path) -> Annotations:
    """Image and category ids of a COCO annotations file. Raises MissingError, AgentError."""

    try:
        file = msgspec.json.decode(path.read_bytes(), type=_CocoFile)
    except FileNotFoundError:
        raise MissingError(f"{path}: no such annotations file") from None
    except (OSError, msgspec.DecodeError) as error:
        raise AgentError(f"{path}: not a COCO annotations file: {error}") from None
    images = {image.file_name: image.id for image in file.images}
    return Annotations(images, {category.name.casefold(): category.id for category in file.categories})


def category_ids(labels: Sequence[str], annotations: Annotations | None) -> Mapping[int, int]:
    """Category id by class index. A class without one (see CocoResults) has no entry."""
    if annotations is None:
        return {index: index for index in range(len(labels))}
    known = annotations.categories
    taken = set(known.values())
    named = {index: known.get(label.casefold(), index) for index, label in enumerate(labels)}
    return {
        index: category
        for index, category in named.items()
        if labels[index].casefold() in known or category not in taken
    }


def _plain(detections: Detections) -> list[dict[str, Any]]:
    columns = zip(
        detections.labels,
        detections.class_ids.tolist(),
        detections.scores.tolist(),
        detections.boxes.tolist(),
        strict=True,
    )
    return [
        {"label": label, "class_id": class_id, "score": round(score, 4), "box": [round(side, 2) for side in box]}
        for label, class_id, score, box in columns
    ]
