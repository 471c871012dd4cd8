"""Face detectors on a photo of about fifty faces; what the models find is known from two other programs."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.data import Frame
from agent.detection.add import Wishes, add_model
from agent.detection.detector import Detector
from agent.engines.onnx import OnnxEngine
from agent.sources.images import read_image

MODELS = [("yunet_n_320", None, 0.45), ("yunet_n_dynamic", (736, 480), 0.45), ("ultraface_rfb_320", None, 0.3)]


@pytest.mark.parametrize(("name", "size", "iou"), MODELS, ids=[name for name, *_ in MODELS])
def test_the_faces_of_a_crowd_are_found(
    material: Path, tmp_path: Path, name: str, size: tuple[int, int] | None, iou: float
) -> None:
    wishes = Wishes(name=name, size=size)
    package = add_model(material / "models" / f"{name}.onnx", wishes, tmp_path, OnnxEngine, replace=False).package
    assert package.labels == ("face",)
    detector = Detector(package, OnnxEngine(package.file_of(package.choose())), score=0.6, iou=iou)
    frame = Frame("crowd", 0, read_image(material / "images" / "faces" / "linzaer_1.jpg"), 0.0, 0.0)
    found = detector.detect(frame)
    detector.close()
    assert 45 <= len(found) <= 52
    assert len(set(found.labels)) == 1
    if name.startswith("yunet"):
        assert found.landmarks is not None
        assert found.landmarks.shape == (len(found), 5, 2)
        low, high = found.boxes[:, None, :2], found.boxes[:, None, 2:]
        inside = ((found.landmarks >= low - 4) & (found.landmarks <= high + 4)).mean()
        assert inside > 0.9, "eyes, nose and mouth lie in their faces"
