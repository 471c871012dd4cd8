"""`model prepare` on real detectors: variants made, measured, judged, the same twice, interrupted, on a full disk."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from daemon import edgewarden
from waiting import wait_until

from agent.data import Frame
from agent.detection.add import Wishes, add_model
from agent.detection.detector import Detector
from agent.detection.engine_set import EngineSet, load_within
from agent.detection.model import ModelPackage, find_package, load_package
from agent.engines.onnx import OnnxEngine
from agent.engines.store import Identity, Speed, SpeedStore
from agent.errors import EngineError, ModelError
from agent.precision.graph import load_graph
from agent.precision.half import halved, overflowing
from agent.precision.prepare import WORK
from agent.precision.quantise import quantised, share_of
from agent.precision.trial import runs_at
from agent.precision.usable import judged


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEWARDEN_CACHE", str(tmp_path / "cache"))


def package_of(material: Path, folder: Path, name: str) -> ModelPackage:
    path = material / "models" / f"{name}.onnx"
    return add_model(path, Wishes(name=name, labels="coco80"), folder, OnnxEngine, replace=False).package


def words(material: Path, package: Path, *more: str) -> list[str]:
    images = material / "images" / "coco"
    judge = ["--evaluate", str(images / "instances_val.json"), "--images", str(images / "val")]
    return ["model", "prepare", str(package), "--calibrate", str(images / "calibrate"), *judge, "--json", *more]


def prepared(material: Path, package: Path, *more: str) -> dict[str, dict[str, Any]]:
    done = edgewarden(*words(material, package, *more))
    assert done.returncode == 0, done.stderr
    return {row["precision"]: row for row in json.loads(done.stdout)["variants"]}


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A copy of the bundled package that may be written to."""
    return Path(shutil.copytree(find_package("desk").folder, tmp_path / "models" / "desk"))


def test_the_naive_recipe_is_refused_with_its_figures(material: Path, tmp_path: Path) -> None:
    package = package_of(material, tmp_path, "yolox_nano_416")
    rows = prepared(material, package.folder, "--naive", "--calibrator", "minmax", "--precisions", "int8")
    assert rows["int8"]["usable"] is False
    assert rows["int8"]["loss"] > 0.2
    assert "of accuracy, more than 0.02" in rows["int8"]["reason"]
    assert rows["int8"]["share"] == 1.0
    kept = load_package(package.folder)
    assert kept.choose("int8").verdict == rows["int8"]["reason"]
    verdicts = judged(kept, SpeedStore())
    assert not verdicts["int8"].verdict.usable, "nobody loads it"


def test_the_search_finds_an_int8_variant_that_loses_little_and_fp16_loses_nothing(
    material: Path, tmp_path: Path
) -> None:
    package = package_of(material, tmp_path, "nanodet_m_320")
    rows = prepared(material, package.folder, "--pictures", "6", "--calibrator", "mse")
    assert rows["fp16"]["loss"] <= 0.002
    assert rows["int8"]["share"] >= 0.6
    assert rows["int8"]["loss"] <= 0.02
    assert 0 < rows["int8"]["share_here"] <= rows["int8"]["share"], "ONNX Runtime restores some to float"
    assert rows["fp16"]["share_here"] is None
    if "mixed" in rows:
        assert rows["mixed"]["share"] < 0.6
    biases = onnx.load(str(package.folder / load_package(package.folder).choose("int8").file)).graph
    whole = {tensor.name for tensor in biases.initializer if tensor.data_type == onnx.TensorProto.INT32}
    assert not whole, "biases stay unquantised: TensorRT refuses int32"
    from tensorrt_parser import parse  # skips where TensorRT-RTX has no wheels, after all of the above

    for variant in load_package(package.folder).variant:
        assert parse(onnx.load(str(package.folder / variant.file))).errors == (), variant.precision


def test_the_same_pictures_give_the_same_bytes(desk: Path, material: Path, tmp_path: Path) -> None:
    again = Path(shutil.copytree(desk, tmp_path / "again" / "desk"))
    for package in (desk, again):
        done = edgewarden(
            "model", "prepare", package, "--calibrate", material / "images" / "coco" / "val", "--pictures", "6"
        )
        assert done.returncode == 0, done.stderr
    assert {path.name: path.read_bytes() for path in desk.glob("*.onnx")} == {
        path.name: path.read_bytes() for path in again.glob("*.onnx")
    }
    assert len(list(desk.glob("*.onnx"))) >= 3


def test_an_interrupted_preparation_goes_on_and_leaves_the_package_alone_until_the_end(
    desk: Path, material: Path
) -> None:
    before = {path.name: path.read_bytes() for path in desk.iterdir()}
    command = [
        "model",
        "prepare",
        str(desk),
        "--calibrate",
        str(material / "images" / "coco" / "val"),
        "--pictures",
        "8",
    ]
    process = subprocess.Popen([sys.executable, "-m", "agent", *command], stderr=subprocess.PIPE)
    journal = desk / WORK / "journal.json"

    def known() -> int:
        try:
            return len(json.loads(journal.read_bytes())["results"])
        except (OSError, ValueError):
            return 0

    wait_until(lambda: known() >= 5, 60, "five nodes are measured")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert {path.name: path.read_bytes() for path in desk.iterdir() if path.is_file()} == before
    load_package(desk)
    done = edgewarden(*command)
    assert done.returncode == 0, done.stderr
    assert "going on with interrupted work" in done.stderr
    assert not (desk / WORK).exists()
    assert len(load_package(desk).variant) >= 3


def test_a_full_disk_leaves_the_package_as_it_was(desk: Path, material: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1300k", "none", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no file system of our own here: {mounted.stderr.decode().strip()}")
    try:
        package = Path(shutil.copytree(desk, disk / "desk"))
        before = {path.name: path.read_bytes() for path in package.iterdir()}
        done = edgewarden(
            "model", "prepare", package, "--calibrate", material / "images" / "coco" / "val", "--pictures", "4"
        )
        assert done.returncode == 1
        assert "No space left on device" in done.stderr
        assert {path.name: path.read_bytes() for path in package.iterdir() if path.is_file()} == before
        load_package(package)
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_graph_that_runs_at_no_level_is_refused_and_one_that_runs_at_a_lower_one_is_noted(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = package_of(material, tmp_path, "nanodet_m_320")
    file = package.file_of(package.choose())
    whole = OnnxEngine.submit

    def fails_above(level: str) -> Any:
        def submit(self: OnnxEngine, batch: Any) -> Any:
            if self.optimisation in level.split():
                raise EngineError("the graph failed while running: not implemented")
            return whole(self, batch)

        return submit

    monkeypatch.setattr(OnnxEngine, "submit", fails_above("all"))
    runs = runs_at(package, file)
    assert runs.level == "extended"
    assert "not implemented" in runs.faults[0]
    monkeypatch.setattr(OnnxEngine, "submit", fails_above("all extended basic off"))
    with pytest.raises(EngineError, match="runs at no level of graph optimisation"):
        runs_at(package, file)


def test_an_activation_too_large_for_float16_keeps_its_node_in_float32(tmp_path: Path) -> None:
    from onnx import TensorProto, helper, numpy_helper

    weights = {"w1": np.full((2, 3, 1, 1), 300, np.float32), "w2": np.full((2, 2, 1, 1), 1e-3, np.float32)}
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w1"], ["big"]), helper.make_node("Conv", ["big", "w2"], ["y"])],
        "big",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, 8, 8])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    path = tmp_path / "big.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    loaded = load_graph(path, (1, 3, 8, 8))
    picture = np.full((1, 3, 8, 8), 255, np.float32)
    kept = overflowing(loaded, lambda: [picture])
    assert [one.node for one in kept] == ["0000_Conv", "0001_Conv"]
    assert "reaches 2.3e+05, float16 ends at 65504" in kept[0].reason
    file = tmp_path / "half.onnx"
    onnx.save(halved(loaded, [one.node for one in kept]), str(file))
    engine = OnnxEngine(file)
    (output,) = engine.collect(engine.submit(picture)).values()
    np.testing.assert_allclose(output.astype(np.float32), 255 * 3 * 300 * 2e-3, rtol=1e-3)
    assert loaded.macs == 2 * 3 * 64 + 2 * 2 * 64


def test_int8_computes_what_float_does_within_its_steps(tmp_path: Path, material: Path) -> None:
    package = package_of(material, tmp_path, "yolox_nano_416")
    loaded = load_graph(package.file_of(package.choose()), (1, 3, 416, 416))
    first = loaded.weighted[0]
    assert share_of(loaded, [node.name for node in loaded.weighted]) == 1.0
    model = quantised(loaded, [first.name], {first.data: 255.0})
    assert model.SerializeToString(deterministic=True) == quantised(
        loaded, [first.name], {first.data: 255.0}
    ).SerializeToString(deterministic=True)
    types = [node.op_type for node in model.graph.node]
    assert (types.count("QuantizeLinear"), types.count("DequantizeLinear")) == (2, 2)
    onnx.checker.check_model(model)


def test_a_quantised_graph_is_not_quantised_again(material: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is quantised already"):
        load_graph(material / "models" / "yolo11n_int8_agpl.onnx", (1, 3, 320, 320))


def engine_set(package: ModelPackage, budget: int = 1 << 30) -> EngineSet:
    def load(precision: str) -> Detector:
        detector = Detector(package, OnnxEngine(package.file_of(package.choose(precision))), precision=precision)
        detector.warm_up()
        return detector

    return load_within([one.precision for one in package.variant], load, budget, lambda: 0)


def test_a_thousand_switches_of_the_engine_set_lose_no_frame(desk: Path, material: Path) -> None:
    done = edgewarden(
        "model", "prepare", desk, "--naive", "--force", "--precisions", "int8", "--pictures", "4",
        "--calibrate", material / "images" / "coco" / "val",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    engines = engine_set(load_package(desk))
    assert engines.precisions == ("fp32", "int8")
    pixels = np.random.default_rng(1).integers(0, 255, (240, 320, 3), np.uint8)
    under_way, told = [], []
    for number in range(1000):
        engines.use(engines.precisions[number % 2])
        under_way.append(engines.submit([Frame("cam", number, pixels, 0.0, 0.0)]))
        (found,) = engines.collect(under_way.pop(0))
        told.append((found.seq, found.precision))
    engines.close()
    assert told == [(number, ("fp32", "int8")[number % 2]) for number in range(1000)]
    with pytest.raises(EngineError, match="fp16 is not loaded, only fp32, int8"):
        engines.use("fp16")


def test_what_does_not_fit_the_memory_budget_is_left_out_and_said(desk: Path) -> None:
    package = load_package(desk)
    held = iter([0, 0, 10 << 20, 10 << 20, 10 << 20])

    def load(precision: str) -> Detector:
        return Detector(package, OnnxEngine(package.file_of(package.choose())), precision=precision)

    engines = load_within(["fp32", "int8"], load, 5 << 20, lambda: next(held))
    assert engines.precisions == ("fp32",)
    assert engines.left_out[0].reason == "int8: does not fit into the memory budget of 5 MB"


def test_a_speed_belongs_to_one_engine_on_one_machine(tmp_path: Path) -> None:
    store = SpeedStore(tmp_path)
    mine = Identity(onnx="a" * 64, backend="onnxruntime 1", device="cpu, 2 core(s)", options="optimisation all")
    store.put(Speed(identity=mine, seconds=0.01, speedup=1.2))
    assert store.get(mine) == Speed(identity=mine, seconds=0.01, speedup=1.2)
    other = Identity(onnx="a" * 64, backend="onnxruntime 2", device="cpu, 2 core(s)", options="optimisation all")
    assert store.get(other) is None
    (tmp_path / "speeds" / f"{mine.key}.json").write_bytes(b"{")
    assert store.get(mine) is None


def test_evaluate_prints_every_variant_and_draws_a_picture(desk: Path, material: Path, tmp_path: Path) -> None:
    images = material / "images" / "coco"
    plain = edgewarden("model", "evaluate", desk, "--data", images / "val", "--pictures", "5", "--json")
    (alone,) = json.loads(plain.stdout)["variants"]
    agreed = {"precision": "fp32", "f1": 1.0, "score_difference": 0.0, "loss": 0.0, "pictures": 5}
    assert {key: alone[key] for key in agreed} == agreed
    assert (alone["usable"], alone["speedup"], alone["reason"]) == (True, 1.0, "the measure of the others")
    package = package_of(material, tmp_path, "yolox_nano_416")
    picture = tmp_path / "accuracy.png"
    data: list[str | Path] = [
        "--data",
        images / "instances_val.json",
        "--images",
        images / "val",
        "--plot",
        picture,
        "--json",
    ]
    done = edgewarden("model", "evaluate", package.folder, *data)
    (row,) = json.loads(done.stdout)["variants"]
    assert row["map50_95"] == pytest.approx(0.3486, abs=0.003)
    assert 0 < row["by_class"]["person"] < 1
    assert picture.read_bytes().startswith(b"\x89PNG")
    missing = edgewarden("model", "evaluate", package.folder, "--data", images / "instances_val.json")
    assert missing.returncode == 2
    assert "need --images" in missing.stderr


def test_evaluate_measures_a_variant_against_fp32_in_the_same_run_and_tells_the_gates_word(
    desk: Path, material: Path
) -> None:
    images = material / "images" / "coco"
    naive = ["--naive", "--calibrator", "minmax", "--precisions", "int8", "--pictures", "4", "--max-loss", "0.001"]
    done = edgewarden("model", "prepare", desk, "--calibrate", images / "val", *naive)
    assert done.returncode == 0, done.stderr
    recorded = load_package(desk)
    told = edgewarden("model", "evaluate", desk, "--data", images / "val", "--precision", "int8", "--json")
    (row,) = json.loads(told.stdout)["variants"]
    assert row["precision"] == "int8"
    assert row["loss"] == pytest.approx(1 - row["f1"], abs=1e-4)
    assert row["usable"] is False
    slower = re.search(r"is ([\d.]+) x as fast as fp32 here", row["reason"])
    assert row["speedup"] >= 1.05 or (slower and float(slower[1]) == pytest.approx(row["speedup"], abs=0.011))
    assert "more than 0.001" in row["reason"], "what was allowed when it was made"
    assert load_package(desk) == recorded, "measuring changes nothing"
    nowhere = edgewarden("model", "evaluate", desk, "--data", images / "val", "--pictures", "1", "--device", "cuda")
    assert nowhere.returncode == 1
    assert "ONNX Runtime was built without CUDA" in nowhere.stderr


def channels_last_detector(path: Path) -> Path:
    """uint8 [1, 48, 64, 3] to an SSD's outputs: a convolution over the whole picture is one box's score."""
    from onnx import TensorProto, helper, numpy_helper

    weights = np.random.default_rng(1).normal(0, 0.001, (1, 3, 48, 64)).astype(np.float32)
    boxes = np.array([[[0.25, 0.25, 0.75, 0.5], [0, 0, 1, 1]]], np.float32)
    constants = {"boxes": boxes, "classes": np.array([[2, 1]], np.float32), "number": np.array([2], np.float32)}
    constants |= {"w": weights, "shape": np.array([1, 1]), "half": np.array([[0.75]], np.float32)}
    pairs = (("boxes", "detection_boxes"), ("classes", "detection_classes"), ("number", "num_detections"))
    nodes = [
        helper.make_node("Cast", ["input_tensor"], ["whole"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["whole"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "w"], ["level"]),
        helper.make_node("Reshape", ["level", "shape"], ["flat"]),
        helper.make_node("Sigmoid", ["flat"], ["first"]),
        helper.make_node("Concat", ["first", "half"], ["detection_scores"], axis=1),
        *(helper.make_node("Identity", [name], [output]) for name, output in pairs),
    ]
    shapes = {"detection_boxes": [1, 2, 4], "detection_scores": [1, 2], "detection_classes": [1, 2]}
    graph = helper.make_graph(
        nodes,
        "ssd",
        [helper.make_tensor_value_info("input_tensor", TensorProto.UINT8, [1, 48, 64, 3])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in (shapes | {"num_detections": [1]}).items()
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=9), str(path))
    return path


def test_a_graph_that_takes_bytes_with_the_channels_last_is_prepared_too(material: Path, tmp_path: Path) -> None:
    path = channels_last_detector(tmp_path / "ssd.onnx")
    package = add_model(path, Wishes(name="ssd", labels="cup,phone"), tmp_path, OnnxEngine, replace=False).package
    assert package.input.layout == "nhwc"
    done = edgewarden(
        "model", "prepare", package.folder, "--calibrate", material / "images" / "coco" / "val", "--pictures", "4",
        "--json", "--force", "--precisions", "fp16,int8",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = {row["precision"]: row for row in json.loads(done.stdout)["variants"]}
    assert set(rows) == {"fp32", "fp16", "int8"}, done.stderr
    assert rows["int8"]["share"] == 1.0
    made = load_package(package.folder)
    for precision in rows:
        assert runs_at(made, made.file_of(made.choose(precision))).level == "all"


def test_pruned_weights_are_an_experiment_behind_the_same_gate(desk: Path, material: Path) -> None:
    done = edgewarden(
        "model", "prepare", desk, "--sparse", "--naive", "--pictures", "4", "--json",
        "--calibrate", material / "images" / "coco" / "val",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = {row["precision"]: row for row in json.loads(done.stdout)["variants"]}
    package = load_package(desk)
    for precision in ("fp16", "int8"):
        variant = package.choose(precision)
        assert (variant.sparse, variant.verdict) == (True, rows[precision]["reason"])
    assert package.choose("fp32").sparse is None
    weights = [
        onnx.numpy_helper.to_array(tensor)
        for tensor in onnx.load(str(package.file_of(package.choose("int8")))).graph.initializer
        if tensor.name.endswith("_rounded") and len(tensor.dims) == 4 and tensor.dims[1] % 4 == 0
    ]
    assert weights
    for weight in weights:
        fours = weight.transpose(0, 2, 3, 1).reshape(-1, 4)
        assert ((fours != 0).sum(axis=1) <= 2).all(), "two of four are zero along the input channels"
