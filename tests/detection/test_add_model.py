from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from graphs import brightness_graph, classifier_graph, float_value, node, save
from numpy.typing import NDArray

from agent.detection.add import Added, Wishes, add_model
from agent.detection.coco_labels import COCO80
from agent.detection.decoders.base import Candidates
from agent.detection.inspection import metadata_labels
from agent.detection.model import load_package
from agent.engines.onnx import OnnxEngine
from agent.errors import EngineError, MissingModelError, ModelError

CELLS = 48 + 12 + 2  # of a 64x48 input, at strides 8, 16, 32
YOLOX_2 = np.zeros((CELLS, 7), np.float32)
YOLOV8_2 = np.zeros((6, CELLS), np.float32)
END_TO_END = np.zeros((20, 6), np.float32)
NAMES = {"names": "{0: 'phone', 1: 'cup'}", "task": "detect"}


def add(path: Path, *, replace: bool = False, **wishes: object) -> Added:
    wishes = {"name": "mine", **wishes}
    return add_model(path, Wishes(**wishes), path.parent / "models", OnnxEngine, replace=replace)  # type: ignore[arg-type]


def test_a_yolox_is_known_by_its_outputs_and_fed_as_its_authors_feed_it(tmp_path: Path) -> None:
    package = add(brightness_graph(tmp_path / "x.onnx", YOLOX_2), labels="phone, cup").package
    assert (package.family, package.labels, package.input.size) == ("yolox", ("phone", "cup"), (64, 48))
    assert (package.input.colour, package.input.resize, package.input.pad) == ("bgr", "letterbox-topleft", 114)
    assert package.input.scale == (1.0, 1.0, 1.0)
    assert load_package(tmp_path / "models" / "mine") == package


@pytest.mark.parametrize(("rows", "family"), [(YOLOV8_2, "yolov8"), (END_TO_END, "end2end")])
def test_labels_come_from_the_file_where_the_exporter_put_them(
    tmp_path: Path, rows: np.ndarray[tuple[int, ...], np.dtype[np.float32]], family: str
) -> None:
    package = add(brightness_graph(tmp_path / "x.onnx", rows, metadata=NAMES)).package
    assert (package.family, package.labels) == (family, ("phone", "cup"))
    assert (package.input.colour, package.input.resize, package.input.scale[0]) == ("rgb", "letterbox", 1 / 255)


def test_what_the_user_says_counts_more_than_the_familys_custom(tmp_path: Path) -> None:
    graph = brightness_graph(tmp_path / "x.onnx", YOLOX_2, open_size=True, batch="n")
    said: dict[str, Any] = {
        "colour": "rgb",
        "mean": (1.0, 2.0, 3.0),
        "scale": (0.5, 0.5, 0.5),
        "resize": "stretch",
        "pad": 0,
    }
    package = add(graph, size=(64, 48), labels="a,b", precision="fp16", **said).package
    assert {key: getattr(package.input, key) for key in said} == said
    assert (package.variant[0].precision, package.variant[0].file) == ("fp16", "mine-fp16.onnx")


def test_labels_may_stand_in_a_file_one_a_line(tmp_path: Path) -> None:
    (tmp_path / "desk.names").write_text("cell phone\ncup\n\n", encoding="utf-8")
    graph = brightness_graph(tmp_path / "x.onnx", YOLOX_2)
    assert add(graph, labels=str(tmp_path / "desk.names")).package.labels == ("cell phone", "cup")
    with pytest.raises(MissingModelError, match="no such file of labels"):
        add(graph, labels="nothing.names")
    with pytest.raises(ModelError, match="holds an empty label"):
        add(graph, labels="a,,b", replace=True)


def test_eighty_nameless_classes_are_taken_for_cocos_and_that_is_said(tmp_path: Path) -> None:
    added = add(brightness_graph(tmp_path / "x.onnx", np.zeros((CELLS, 85), np.float32)))
    assert added.package.labels == COCO80
    assert added.notes == ["80 classes and no --labels: took them for COCO's (coco80)"]


@pytest.mark.parametrize("rows", [YOLOX_2, END_TO_END])
def test_other_nameless_classes_need_labels(
    tmp_path: Path, rows: np.ndarray[tuple[int, ...], np.dtype[np.float32]]
) -> None:
    with pytest.raises(ModelError, match="classes have no names; give --labels"):
        add(brightness_graph(tmp_path / "x.onnx", rows))


def test_a_wrong_number_of_labels_is_refused_with_both_numbers(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"tells 2 classes apart, but 3 label\(s\) were given"):
        add(brightness_graph(tmp_path / "x.onnx", YOLOX_2), labels="a,b,c")
    assert not (tmp_path / "models").exists()


def test_the_number_of_labels_decides_between_two_families_that_fit(tmp_path: Path) -> None:
    graph = brightness_graph(tmp_path / "x.onnx", np.zeros((CELLS, 6), np.float32))
    assert add(graph, labels="a").package.family == "yolox"
    assert add(graph, labels="a,b", replace=True).package.family == "end2end"


def test_a_classifier_is_no_detector_and_the_message_says_what_one_looks_like(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as error:
        add(classifier_graph(tmp_path / "x.onnx"))
    assert "not a detector: outputs output [1, 1000] (one vector of 1000: a classifier, or an embedding)" in str(
        error.value
    )
    assert "\n" not in str(error.value)


def test_a_graph_exported_for_another_task_is_no_detector(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="exported for the task 'pose'"):
        add(brightness_graph(tmp_path / "x.onnx", YOLOV8_2, metadata={"task": "pose"}))


def test_a_wanted_family_must_fit_the_outputs(tmp_path: Path) -> None:
    graph = brightness_graph(tmp_path / "x.onnx", YOLOX_2)
    with pytest.raises(ModelError, match=r"not of family yolov8: outputs output \[1, 62, 7\]"):
        add(graph, family="yolov8", labels="a,b")
    with pytest.raises(ModelError, match="is not known; did you mean"):
        add(graph, family="yolov7", labels="a,b")


def test_a_graph_of_open_size_needs_a_size_and_one_of_fixed_size_keeps_its_own(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="--size WIDTHxHEIGHT"):
        add(brightness_graph(tmp_path / "x.onnx", YOLOX_2, open_size=True))
    with pytest.raises(ModelError, match="takes pictures of 64x48, not 32x32"):
        add(brightness_graph(tmp_path / "x.onnx", YOLOX_2), size=(32, 32))


def test_an_input_that_takes_no_pictures_is_refused(tmp_path: Path) -> None:
    values = [float_value("x", [1, 10])], [float_value("y", [1, 10])]
    with pytest.raises(ModelError, match=r"input x is \[1, 10\]; a detector takes pictures as \[N, 3, H, W\]"):
        add(save(tmp_path / "x.onnx", [node("Relu", ["x"], ["y"])], *values))


def test_a_text_file_and_a_missing_file_are_named(tmp_path: Path) -> None:
    (tmp_path / "notes.onnx").write_text("some notes\n" * 9)
    with pytest.raises(EngineError, match=r"notes\.onnx: not an ONNX file"):
        add(tmp_path / "notes.onnx")
    with pytest.raises(MissingModelError, match="no such file"):
        add(tmp_path / "nothing.onnx")


@pytest.mark.parametrize("name", ["../x", "", ".hidden", "a/b", "x" * 65, "a\nb"])
def test_a_name_that_is_no_folders_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError, match="no name for a package"):
        add(brightness_graph(tmp_path / "x.onnx", YOLOX_2), name=name)


def test_weights_in_files_of_their_own_are_joined_into_the_package(tmp_path: Path) -> None:
    graph = brightness_graph(tmp_path / "x.onnx", YOLOX_2, external=True)
    added = add(graph, labels="a,b")
    assert added.notes == ["the weights lay in files of their own: joined into one ONNX file"]
    (tmp_path / "x.bin").unlink()
    OnnxEngine(added.package.file_of(added.package.variant[0])).close()


def test_weights_in_files_of_their_own_are_refused_without_the_onnx_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = brightness_graph(tmp_path / "x.onnx", YOLOX_2, external=True)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ModelError, match="keeps its weights in other files; joining them needs the onnx package"):
        add(graph, labels="a,b")


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("{0: 'a', 1: 'b'}", ("a", "b")),
        ("['a', 'b']", ("a", "b")),
        ("{1: 'a', 2: 'b'}", None),
        ("{0: 'a', 1: 2}", None),
        ("{}", None),
        ("__import__('os').getcwd()", None),
        ("{0: 'a'", None),
        ("[" * 5000, None),
        ("", None),
    ],
)
def test_names_in_the_metadata_are_read_as_data_only(text: str, labels: tuple[str, ...] | None) -> None:
    assert metadata_labels({"names": text}) == labels


def test_quantised_detectors_are_added_as_int8_and_labels_read(material: Path, tmp_path: Path) -> None:
    wishes = Wishes(name="eleven")
    package = add_model(material / "models/yolo11n_int8_agpl.onnx", wishes, tmp_path, OnnxEngine, replace=False).package
    assert (package.family, package.labels, package.variant[0].precision) == ("yolov8", COCO80, "int8")


class Twin:
    """A family of a plugin: a single output ``[1, 7, 7, 7]``."""

    family: ClassVar[str] = "twin"
    needs_nms: ClassVar[bool] = True

    def __init__(self, input_size: tuple[int, int], classes: int) -> None:
        pass

    @staticmethod
    def matches(shapes: Mapping[str, Sequence[int]], input_size: tuple[int, int]) -> int | None:
        return 0 if [tuple(shape) for shape in shapes.values()] == [(1, 7, 7, 7)] else None

    def decode(self, outputs: Mapping[str, NDArray[np.generic]], min_score: float) -> list[Candidates]:
        return []


def test_a_plugins_family_is_known_and_what_it_is_fed_with_is_asked_for(tmp_path: Path) -> None:
    graph = brightness_graph(tmp_path / "x.onnx", np.zeros((7, 7, 7), np.float32))
    extra = {"twin": Twin}
    said = Wishes(name="mine", labels="a")
    with pytest.raises(ModelError, match=r"family twin are fed is not known here; say it: --colour rgb or bgr; --mean"):
        add_model(graph, said, tmp_path / "models", OnnxEngine, replace=False, extra=extra)
    assert not (tmp_path / "models").exists()
    fed = Wishes(name="mine", labels="a", colour="rgb", mean=(0, 0, 0), scale=(1, 1, 1), resize="stretch", pad=0)
    package = add_model(graph, fed, tmp_path / "models", OnnxEngine, replace=False, extra=extra).package
    assert (package.family, package.input.resize) == ("twin", "stretch")


def test_an_export_of_open_size_keeps_the_size_that_the_exporter_wrote_into_it(tmp_path: Path) -> None:
    graph = brightness_graph(tmp_path / "x.onnx", YOLOV8_2, open_size=True, metadata={**NAMES, "imgsz": "[48, 64]"})
    assert add(graph).package.input.size == (64, 48)
