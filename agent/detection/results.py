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
from agent.sources.opencv import silence

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

STILLS = (".jpg", ".jpeg", ".png")
DEFAULT_FPS = 25.0


class Result(NamedTuple):
    """One picture and what was found in it. ``frame`` and ``position`` (seconds): its place in a clip, else None.
    ``stem``: what its annotated picture is called; by default as the file."""

    source: str
    file_name: str
    frame: int | None
    position: float | None
    pixels: NDArray[np.uint8]
    detections: Detections
    stem: str = ""


Mark = dict[str, Any]
"""Where a writer was at some moment, as plain JSON: given to a new one it goes on from there."""


class Writer(Protocol):
    """Takes results one by one; ``finish`` gives the files their names."""

    path: Path

    @property
    def notes(self) -> list[str]:
        """What a reader of the file should know, one line each."""

    def write(self, result: Result) -> None:
        """Take one picture's result."""

    def mark(self) -> Mark:
        """Everything written so far is on its way to the disk; where that ends."""

    def finish(self) -> None:
        """All results were written. Without this call (an error, Ctrl-C) no file gets its name."""


def holds(folder: Path, marks: Mapping[str, Mark]) -> bool:
    """Whether what stands on the disk reaches as far as the marks say: after a power cut it may not."""
    names = {"jsonl": "detections.jsonl", "coco": "detections.json"}
    return all(_reaches(folder / names[name], mark["end"]) for name, mark in marks.items() if name in names)


def _reaches(path: Path, end: int) -> bool:
    part = path.with_name(path.name + ".part")
    if not part.exists():
        return path.exists() or end == 0  # it may have got its name just before the interruption
    return part.stat().st_size >= end


class _PartFile:
    """A file that gets its name when it is finished. ``end``: go on with one that was begun, cut off there."""

    def __init__(self, path: Path, end: int | None = None) -> None:
        self.path = path
        self._part = path.with_name(path.name + ".part")
        # Finished before, and interrupted before that could be noted.
        self._finished = end is not None and not self._part.exists() and path.exists()
        if self._finished:
            return
        try:
            self._file: IO[bytes] = self._part.open("wb" if end is None else "r+b")
            if end is not None:
                self._file.truncate(end)
                self._file.seek(end)
        except OSError as error:
            raise AgentError(f"{path}: cannot be written: {error.strerror}") from None

    def write(self, text: str) -> None:
        if not self._finished:
            self._file.write(text.encode())

    def end(self) -> int:
        """Its length, all of it handed to the system."""
        if self._finished:
            return 0
        self._file.flush()
        return self._file.tell()

    def finish(self) -> None:
        if not self._finished:
            self._file.close()
            self._part.replace(self.path)


class JsonLines:
    """``detections.jsonl``: one line a picture, in the order in which they were read."""

    def __init__(self, folder: Path, mark: Mark | None = None) -> None:
        self.path = folder / "detections.jsonl"
        self.notes: list[str] = []
        self._out = _PartFile(self.path, mark["end"] if mark else None)

    def write(self, result: Result) -> None:
        """One line: source, file_name, frame, position, size, and the detections, best first."""
        line = {key: getattr(result, key) for key in ("source", "file_name", "frame", "position")}
        line |= {"size": result.detections.size, "detections": _plain(result.detections)}
        self._out.write(json.dumps(line) + "\n")

    def mark(self) -> Mark:
        """The file's length."""
        return {"end": self._out.end()}

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

    def __init__(
        self,
        folder: Path,
        labels: Sequence[str],
        annotations: Annotations | None = None,
        mark: Mark | None = None,
    ) -> None:
        mark = mark or {}
        self.path = folder / "detections.json"
        self._out = _PartFile(self.path, mark.get("end"))
        if not mark:
            self._out.write("[")
        self._annotations = annotations
        self._labels = labels
        self._categories = category_ids(labels, annotations)
        self._images = int(mark.get("images", 0))
        self._separator = str(mark.get("separator", "\n"))
        self._unknown_pictures = int(mark.get("unknown_pictures", 0))
        self._unknown_labels: set[str] = set(mark.get("unknown_labels", ()))

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

    def mark(self) -> Mark:
        """The file's length, and what was counted."""
        return {
            "end": self._out.end(),
            "images": self._images,
            "separator": self._separator,
            "unknown_pictures": self._unknown_pictures,
            "unknown_labels": sorted(self._unknown_labels),
        }

    def finish(self) -> None:
        """The file gets its name."""
        self._out.write("\n]\n")
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
        self._out.write(self._separator + json.dumps(entry | {"file_name": name}))
        self._separator = ",\n"


class Annotated:
    """``annotated/``: every picture with its boxes drawn, every clip as an MP4."""

    def __init__(self, folder: Path, mark: Mark | None = None) -> None:
        self.path = folder / "annotated"
        self.notes: list[str] = []
        self._clip: _Clip | None = None
        try:
            self.path.mkdir(exist_ok=True)
        except OSError as error:
            raise AgentError(f"{self.path}: cannot be made: {error.strerror}") from None

    def write(self, result: Result) -> None:
        """Draw one picture; the frames of one clip come one after the other."""
        from agent.detection.overlay import draw

        drawn = draw(result.pixels, result.detections)
        stem = result.stem or Path(result.file_name).stem
        if result.frame is None:
            suffix = Path(result.file_name).suffix.lower()
            self._write_still(self.path / f"{stem}{suffix if suffix in STILLS else '.jpg'}", drawn)
            return
        if self._clip is None or self._clip.source != result.source or result.frame == 0:
            self._end_clip()
            self._clip = _Clip(result.source, self.path / f"{stem}.mp4")
        self._clip.write(drawn, result.position)

    def mark(self) -> Mark:
        """Pictures are files of their own; a clip that was begun ends here."""
        self._end_clip()
        return {}

    def finish(self) -> None:
        """End the last clip."""
        self._end_clip()

    def _write_still(self, path: Path, pixels: NDArray[np.uint8]) -> None:
        import cv2

        part = path.with_name(f".{path.name}.part")
        ok, encoded = cv2.imencode(path.suffix, pixels)
        if not ok:
            raise AgentError(f"{path}: OpenCV cannot write such a file")
        part.write_bytes(encoded.tobytes())
        part.replace(path)

    def _end_clip(self) -> None:
        if self._clip is not None:
            self._clip.close()
            self._clip = None


class _Clip:
    """One MP4. Its frame rate is known from the second picture on, so the first one waits."""

    def __init__(self, source: str, path: Path) -> None:
        self.source = source
        self._path = path
        self._part = path.with_name(f".{path.stem}.part{path.suffix}")
        self._count = 0
        self._first: tuple[NDArray[np.uint8], float | None] | None = None
        self._writer: Any = None

    def write(self, pixels: NDArray[np.uint8], position: float | None) -> None:
        if self._writer is None and self._first is None:
            self._first = pixels, position
            return
        if self._writer is None:
            self._open(position)
        self._writer.write(pixels)
        self._count += 1

    def close(self) -> None:
        if self._writer is None and self._first is not None:
            self._open(None)
        if self._writer is None:
            return
        self._writer.release()
        # OpenCV's writer says nothing of a disk that is full: the container does.
        if pictures_in(self._part) != self._count:
            self._part.unlink(missing_ok=True)
            raise AgentError(f"{self._path}: cannot be written; is the disk full?")
        self._part.replace(self._path)

    def _open(self, second: float | None) -> None:
        import cv2

        assert self._first is not None
        pixels, first = self._first
        step = None if first is None or second is None else second - first
        fps = 1 / step if step is not None and step > 0 else DEFAULT_FPS
        fourcc = cv2.VideoWriter.fourcc(*"mp4v")
        self._writer = cv2.VideoWriter(str(self._part.absolute()), fourcc, fps, (pixels.shape[1], pixels.shape[0]))
        if not self._writer.isOpened():
            raise AgentError(f"{self._path}: this OpenCV cannot write an MP4 there")
        self._writer.write(pixels)
        self._count += 1
        self._first = None


def pictures_in(path: Path) -> int:
    """What the container of a clip promises; 0 where it cannot be read."""
    silence()
    import cv2

    capture = cv2.VideoCapture(str(path.absolute()))
    try:
        return int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
    finally:
        capture.release()


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
    points = None if detections.landmarks is None else detections.landmarks.round(2).tolist()
    columns = zip(
        detections.labels,
        detections.class_ids.tolist(),
        detections.scores.tolist(),
        detections.boxes.tolist(),
        strict=True,
    )
    rows: list[dict[str, Any]] = [
        {"label": label, "class_id": class_id, "score": round(score, 4), "box": [round(side, 2) for side in box]}
        for label, class_id, score, box in columns
    ]
    for row, some in zip(rows, points or (), strict=False):
        row["landmarks"] = [[round(x, 2), round(y, 2)] for x, y in some]
    return rows
