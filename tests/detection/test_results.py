from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from agent.data import Detections
from agent.detection.overlay import draw
from agent.detection.results import (
    Annotated,
    Annotations,
    CocoResults,
    JsonLines,
    Result,
    category_ids,
    read_annotations,
)
from agent.errors import AgentError, MissingError

LABELS = ("cup", "phone", "hand")


def detections(*rows: tuple[float, float, float, float, float, int], size: tuple[int, int] = (64, 48)) -> Detections:
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(
        camera="c",
        seq=0,
        captured_at=0.0,
        boxes=table[:, :4],
        scores=table[:, 4],
        class_ids=table[:, 5].astype(np.int32),
        labels=tuple(LABELS[int(row[5])] for row in rows),
        size=size,
        precision="fp32",
        latency_ms=1.0,
    )


def result(
    name: str = "a.jpg", frame: int | None = None, *rows: tuple[float, float, float, float, float, int]
) -> Result:
    found = detections(*(rows or ((1.0, 2.0, 11.0, 22.0, 0.5, 1),)))
    position = None if frame is None else frame / 10
    return Result(f"/somewhere/{name}", name, frame, position, np.full((48, 64, 3), 40, np.uint8), found)


def test_json_lines_hold_a_line_a_picture_also_for_one_with_nothing_in_it(tmp_path: Path) -> None:
    writer = JsonLines(tmp_path)
    writer.write(result())
    writer.write(result("b.mp4", 3)._replace(detections=detections()))
    assert not writer.path.exists()
    writer.finish()
    first, second = (json.loads(line) for line in (tmp_path / "detections.jsonl").read_text().splitlines())
    assert first == {
        "source": "/somewhere/a.jpg",
        "file_name": "a.jpg",
        "frame": None,
        "position": None,
        "size": [64, 48],
        "detections": [{"label": "phone", "class_id": 1, "score": 0.5, "box": [1.0, 2.0, 11.0, 22.0]}],
    }
    assert (second["frame"], second["position"], second["detections"]) == (3, 0.3, [])


def coco(folder: Path, results: list[Result], annotations: Annotations | None = None) -> tuple[list[Any], list[str]]:
    writer = CocoResults(folder, LABELS, annotations)
    for one in results:
        writer.write(one)
    writer.finish()
    return json.loads((folder / "detections.json").read_text()), writer.notes


def test_coco_results_count_pictures_from_one_and_classes_from_zero(tmp_path: Path) -> None:
    empty = result("b.jpg")._replace(detections=detections())
    entries, notes = coco(tmp_path, [result(), empty, result("c.mp4", 7)])
    entry = {"image_id": 1, "category_id": 1, "bbox": [1.0, 2.0, 10.0, 20.0], "score": 0.5, "file_name": "a.jpg"}
    assert entries == [entry, {**entry, "image_id": 3, "file_name": "c.mp4#7"}]
    assert notes == []


def test_coco_results_of_nothing_are_an_empty_list(tmp_path: Path) -> None:
    assert coco(tmp_path, []) == ([], [])


def test_ids_come_from_the_annotations_and_what_they_do_not_hold_is_left_out_and_told(tmp_path: Path) -> None:
    # "phone" is their category 0, which would be the class index of "cup", which they do not name; "hand" keeps 2.
    annotations = Annotations({"a.jpg": 42}, {"phone": 0})
    box = (1.0, 2.0, 11.0, 22.0, 0.5)
    pictures = [result("a.jpg", None, (*box, 0), (*box, 1), (*box, 2)), result("b.jpg")]
    entries, notes = coco(tmp_path, pictures, annotations)
    assert [(entry["image_id"], entry["category_id"]) for entry in entries] == [(42, 0), (42, 2)]
    assert "1 picture(s) left out" in notes[0]
    assert "no category for: cup" in notes[1]


def test_categories_are_matched_by_name_whatever_their_case() -> None:
    assert category_ids(("Cup", "phone"), Annotations({}, {"cup": 47, "phone": 77})) == {0: 47, 1: 77}
    assert category_ids(("Cup", "phone"), None) == {0: 0, 1: 1}


def test_annotations_that_are_missing_or_none_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"gt\.json: no such annotations file"):
        read_annotations(tmp_path / "gt.json")
    for text in ("[]", "no json", '{"images": []}'):
        (tmp_path / "gt.json").write_text(text)
        with pytest.raises(AgentError, match=r"gt\.json: not a COCO annotations file"):
            read_annotations(tmp_path / "gt.json")


def test_annotated_pictures_keep_their_names_and_none_is_written_over(tmp_path: Path) -> None:
    writer = Annotated(tmp_path)
    for name, stem in (("a.jpg", "a"), ("a.jpg", "a-2"), ("b.webp", "b"), ("c.png", "")):
        writer.write(result(name)._replace(stem=stem))
    writer.finish()
    assert sorted(path.name for path in writer.path.iterdir()) == ["a-2.jpg", "a.jpg", "b.jpg", "c.png"]
    picture = cv2.imread(str(writer.path / "c.png"))
    assert picture is not None
    assert picture.shape == (48, 64, 3)
    assert (picture != 40).any()


def test_annotated_clips_keep_their_length_and_frame_rate(tmp_path: Path) -> None:
    writer = Annotated(tmp_path)
    for frame in range(12):
        writer.write(result("walk.mkv", frame))
    writer.write(result("one.mp4", 0))
    writer.finish()
    clip = cv2.VideoCapture(str(writer.path / "walk.mp4"))
    assert clip.get(cv2.CAP_PROP_FRAME_COUNT) == 12
    assert clip.get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    assert cv2.VideoCapture(str(writer.path / "one.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 1


def test_drawing_leaves_the_picture_as_it_was_and_stays_inside_it() -> None:
    pixels = np.zeros((48, 64, 3), np.uint8)
    drawn = draw(pixels, detections((0.0, 0.0, 64.0, 48.0, 0.9, 0), (60.0, 45.0, 64.0, 48.0, 0.9, 1)))
    assert not pixels.any()
    assert drawn.any()
    assert drawn.shape == pixels.shape


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match=r"detections\.jsonl: cannot be written"):
        JsonLines(tmp_path / "nowhere")
