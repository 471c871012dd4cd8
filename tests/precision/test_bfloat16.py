"""bfloat16 is a precision: made of the fp32 file, measured and judged as any other, and run by OpenVINO alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from agent.cli.backends import runnable
from agent.cli.model_evaluate import command as evaluate
from agent.cli.model_prepare import command as prepare
from agent.detection.add import Wishes, add_model
from agent.detection.model import ModelPackage, find_package, load_package, update_package
from agent.engines import openvino
from agent.engines.onnx import OnnxEngine
from agent.engines.store import SpeedStore
from agent.errors import EngineError, ModelError
from agent.precision import usable
from agent.precision.trial import open_detector, open_onnx
from agent.precision.usable import buildable, judged

needs_bf16 = pytest.mark.skipif(not openvino.computes_bf16(), reason="this processor has no bfloat16")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEWARDEN_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def package(tmp_path: Path) -> ModelPackage:
    """The bundled model with a bf16 variant that lost little."""
    folder = Path(shutil.copytree(find_package("desk").folder, tmp_path / "models" / "desk"))
    return with_loss(load_package(folder), 0.001)


def with_loss(package: ModelPackage, loss: float | None) -> ModelPackage:
    accuracy = {} if loss is None else {"loss": loss, "max_loss": 0.02}
    variant = msgspec.structs.replace(package.choose("fp32"), precision="bf16", accuracy=accuracy)
    return update_package(package, [(variant, package.file_of(variant))])


def small_truth(material: Path, folder: Path) -> tuple[Path, Path]:
    """Eight of the pictures, linked into a folder, and what is in them."""
    images = folder / "val"
    images.mkdir()
    for picture in sorted((material / "images" / "coco" / "val").iterdir())[:8]:
        (images / picture.name).symlink_to(picture)
    return material / "images" / "coco" / "instances_val.json", images


def run(command: Any, *arguments: object) -> Any:
    done = CliRunner().invoke(command, [str(one) for one in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@needs_bf16
def test_prepare_measures_bf16_on_the_fp32_file_and_writes_down_what_the_gate_says(
    material: Path, tmp_path: Path
) -> None:
    file = material / "models" / "yolox_nano_416.onnx"
    made = add_model(file, Wishes(name="nano", labels="coco80"), tmp_path / "models", OnnxEngine, replace=False).package
    truth, images = small_truth(material, tmp_path)
    wishes = ["--precisions", "bf16", "--calibrate", images, "--evaluate", truth, "--images", images, "--json"]
    fp32, bf16 = run(prepare, made.folder, *wishes)["variants"]
    assert bf16["precision"] == "bf16"
    assert "computed in bfloat16 by openvino" in bf16["how"]
    assert bf16["loss"] == pytest.approx(fp32["map50_95"] - bf16["map50_95"], abs=2e-4)
    again = load_package(made.folder)
    own, base = again.choose("bf16"), again.choose("fp32")
    assert (own.file, own.sha256) == (base.file, base.sha256)
    assert own.accuracy["loss"] == bf16["loss"]
    assert own.verdict == bf16["reason"]
    assert sorted(path.name for path in again.folder.glob("*.onnx")) == [base.file]


def test_openvinos_float32_is_as_accurate_as_onnx_runtimes(material: Path, tmp_path: Path) -> None:
    file = material / "models" / "nanodet_m_320.onnx"
    made = add_model(file, Wishes(name="m", labels="coco80"), tmp_path / "models", OnnxEngine, replace=False).package
    truth, images = small_truth(material, tmp_path)
    asked = [made.folder, "--data", truth, "--images", images, "--json", "--backend"]
    (one,), (other,) = (run(evaluate, *asked, backend)["variants"] for backend in ("onnxruntime", "openvino"))
    assert one["map50_95"] > 0.2
    assert other["map50_95"] == pytest.approx(one["map50_95"], abs=0.002)
    assert other["map50"] == pytest.approx(one["map50"], abs=0.002)


@needs_bf16
@pytest.mark.parametrize(
    ("loss", "speedup", "usable_", "reason"),
    [
        (0.001, 1.5, True, "loses 0.0010, 1.50 x as fast"),
        (0.3, 1.5, False, "loses 0.3000 of accuracy, more than 0.02"),
        (None, 1.5, False, "was never measured for accuracy"),
        (0.001, 1.01, False, "less than 1.05 x"),
    ],
)
def test_the_gate_is_the_one_of_every_precision(
    package: ModelPackage,
    monkeypatch: pytest.MonkeyPatch,
    loss: float | None,
    speedup: float,
    usable_: bool,
    reason: str,
) -> None:
    monkeypatch.setattr(usable, "_speedup", lambda *_: speedup)
    verdict = judged(with_loss(package, loss), SpeedStore(), "openvino")["bf16"].verdict
    assert verdict.usable is usable_
    assert reason in verdict.reason


def test_onnx_runtime_and_tensorrt_never_get_it(package: ModelPackage, monkeypatch: pytest.MonkeyPatch) -> None:
    verdict = judged(package, SpeedStore(), "onnxruntime")["bf16"].verdict
    assert not verdict.usable
    assert verdict.reason == "needs OpenVINO: ONNX Runtime computes the graph in float32"
    assert set(buildable(package)) == {"fp32"}


def test_where_nothing_computes_it_the_reason_is_told(package: ModelPackage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "computes_bf16", lambda: False)
    assert "no bfloat16" in judged(package, SpeedStore(), "openvino")["bf16"].verdict.reason
    file = package.file_of(package.choose("bf16"))
    with pytest.raises(EngineError, match=r"\.onnx: bf16 gains nothing here: this processor has no bfloat16"):
        open_detector(package, file, open_engine=open_onnx, precision="bf16")
    with pytest.raises(ModelError, match="bf16 gains nothing here"):
        CliRunner().invoke(
            prepare, [str(package.folder), "--precisions", "bf16", "--calibrate", str(package.folder)],
            catch_exceptions=False, standalone_mode=False,
        )  # fmt: skip
    monkeypatch.setattr(openvino, "is_installed", lambda: False)
    reason = judged(package, SpeedStore(), "openvino")["bf16"].verdict.reason
    assert reason == "needs OpenVINO, which is not installed: pip install 'edgewarden[openvino]'"


def test_a_package_that_was_prepared_elsewhere_is_measured_here_without_it(
    package: ModelPackage, material: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino, "is_installed", lambda: False)
    words = ["--data", str(material / "images" / "samples"), "--pictures", "1", "--json"]
    done = CliRunner().invoke(evaluate, [str(package.folder), *words], catch_exceptions=False)
    assert [row["precision"] for row in json.loads(done.stdout)["variants"]] == ["fp32"]
    assert "bf16: left out: it needs OpenVINO, which is not installed" in done.stderr
    assert [one.precision for one in runnable(package.variant, "tensorrt")] == ["fp32"]
