"""`model build`, `model list` and `doctor` on the real command line, with real plans."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from daemon import Daemon, add_model, edgewarden, write_config
from waiting import wait_until

from agent.board.cuda_driver import ask_driver
from agent.engines.flavour import fault


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if reason := fault():
        pytest.skip(reason)
    monkeypatch.setenv("EDGEWARDEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("EDGEWARDEN_MODELS", str(tmp_path / "models"))


def build(*words: str | Path) -> tuple[int, list[dict[str, Any]], str]:
    done = edgewarden("model", "build", *words, "--json")
    return done.returncode, json.loads(done.stdout) if done.stdout.strip() else [], done.stderr


def listed(name: str) -> dict[str, Any]:
    done = edgewarden("model", "list", "--json")
    assert done.returncode == 0, done.stderr
    return next(row for row in json.loads(done.stdout) if row["name"] == name)


def test_plans_are_built_kept_listed_and_built_anew_only_when_they_must(tmp_path: Path) -> None:
    code, rows, told = build("desk", "--target", "sm86", "--target", "8.9", "--batch", "1,2,8")
    assert code == 0, told
    assert [(row["gpu"], row["state"], row["precision"]) for row in rows] == [
        ("sm86", "ready", "fp32"),
        ("sm89", "ready", "fp32"),
    ]
    assert rows[0]["shapes"] == "images 1x3x256x320..2x3x256x320..8x3x256x320"
    assert "desk fp32: Building engine" in told

    code, again, told = build("desk", "--target", "sm86")
    assert (code, again[0]["built_at"]) == (0, rows[0]["built_at"]), "what was asked for holds"
    assert "building" not in told

    engines = listed("desk")["engines"]
    assert {(one["gpu"], one["state"]) for one in engines} == {("sm86", "ready"), ("sm89", "ready")}

    (sidecar,) = (tmp_path / "cache" / "plans").glob("desk-fp32-sm86-*.json")
    sidecar.write_bytes(sidecar.read_bytes().replace(b"1.7.1", b"1.6.1"))
    code, rows, told = build("desk", "--target", "sm86", "--no-build")
    assert code == 1
    assert rows[0]["state"] == "refused"
    assert "not sealed by this store, so its plan is not trusted (building is off)" in rows[0]["reason"]
    code, rows, _ = build("desk", "--target", "sm86")
    assert (code, rows[0]["state"]) == (0, "ready")


def test_list_says_why_an_engine_is_stale(tmp_path: Path, material: Path) -> None:
    add_model(tmp_path / "models", material / "models" / "nanodet_m_320.onnx", "mine")
    assert build("mine", "--target", "sm86")[0] == 0
    graph = material / "models" / "yolox_nano_416.onnx"
    add_model(tmp_path / "models", graph, "mine", "--replace")
    (engine,) = listed("mine")["engines"]
    assert engine["state"] == "stale"
    assert "of another ONNX file" in engine["reason"]
    assert "built for input.1 1x3x320x320, wanted is images 1x3x416x416" in engine["reason"]
    table = edgewarden("model", "list").stdout
    assert "fp32 stale (sm86)" in table
    code, rows, _ = build("mine", "--target", "sm86", "--no-build")
    assert (code, rows[0]["state"]) == (1, "stale")
    assert build("mine", "--target", "sm86")[0] == 0
    assert listed("mine")["engines"][0]["state"] == "ready"


def test_a_graph_of_fixed_batch_says_how_it_is_opened_and_then_takes_batches(tmp_path: Path, material: Path) -> None:
    graph = material / "models" / "nanodet_m_320.onnx"
    add_model(tmp_path / "models", graph, "fixed")
    code, rows, _ = build("fixed", "--target", "sm86", "--batch", "1,2,4")
    assert (code, rows[0]["state"]) == (1, "failed")
    assert "takes batches of 1, not up to 4; `edgewarden model add --open-batch`" in rows[0]["reason"]
    add_model(tmp_path / "models", graph, "open", "--open-batch")
    code, rows, told = build("open", "--target", "sm86", "--batch", "1,2,4")
    assert code == 0, told
    assert rows[0]["shapes"] == "input.1 1x3x320x320..2x3x320x320..4x3x320x320"


def test_dynamic_int8_ends_in_a_row_that_names_the_node_and_the_way_out(tmp_path: Path, material: Path) -> None:
    add_model(tmp_path / "models", material / "models" / "yolo11n_int8_agpl.onnx", "dynamic")
    code, rows, told = build("dynamic", "--target", "sm86")
    assert (code, rows[0]["state"]) == (1, "failed")
    assert "node images_QuantizeLinear (DynamicQuantizeLinear)" in rows[0]["reason"]
    assert "edgewarden model prepare" in rows[0]["reason"]
    assert "Traceback" not in told


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a process 1")
def test_as_process_1_as_in_a_container_it_builds_too() -> None:
    words = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-m", "agent", "model", "build", "desk"]
    done = subprocess.run([*words, "--target", "sm86"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "ready" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--target", "orin"], "orin: not a compute capability such as sm87"),
        (["--target", "sm53"], "knows no target sm53"),
        (["--target", "sm86", "--precision", "int8"], "has no int8 variant, only fp32"),
        (["--batch", "4,2,1", "--target", "sm86"], "least, typical and most must grow"),
        (["--batch", "many", "--target", "sm86"], "is not LEAST,TYPICAL,MOST"),
        (["--target", "sm86", "--dla", "0", "--precision", "fp32"], "no DLA core 0 here"),
    ],
)
def test_what_cannot_be_built_is_told_in_a_line(words: list[str], said: str) -> None:
    code, rows, told = build("desk", *words)
    assert code != 0
    assert said in told + " ".join(row["reason"] for row in rows)
    assert "Traceback" not in told


@pytest.mark.skipif(bool(ask_driver().gpus), reason="this machine has a GPU")
def test_without_a_gpu_building_for_it_is_an_error_that_names_the_alternative() -> None:
    code, _, told = build("desk")
    assert code == 1
    assert "TensorRT cannot run here: " in told
    assert "--target sm87" in told


def test_doctor_says_what_is_here_and_what_the_daemon_chose(tmp_path: Path) -> None:
    config = write_config(tmp_path / "agent.toml", source="synthetic://desk?fps=5")
    daemon = Daemon(config)
    try:
        wait_until(lambda: (tmp_path / "state" / "status.json").is_file(), 60)
        done = edgewarden("doctor", "--config", config, "--json")
    finally:
        daemon.terminate()
        daemon.finish()
    rows = {row["what"]: row for row in json.loads(done.stdout)}
    assert {"machine", "GPU", "TensorRT", "pycuda", "ONNX Runtime", "OpenCV", "memory", "plans", "agent"} <= set(rows)
    assert rows["TensorRT"]["found"].startswith("tensorrt-rtx 1.7.1")
    assert "fp32 on onnxruntime" in rows["agent"]["found"]
    assert "ONNX Runtime, since TensorRT" in rows["agent"]["found"] or ask_driver().gpus
    assert f"running (pid {daemon.process.pid})" in rows["agent"]["found"]
    after = edgewarden("doctor", "--config", config)
    assert "not running" in after.stdout
    assert after.returncode == done.returncode


def test_doctor_tells_of_a_store_that_others_may_write(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "plans"
    folder.mkdir(parents=True)
    os.chmod(folder, 0o777)
    rows = {row["what"]: row for row in json.loads(edgewarden("doctor", "--json").stdout)}
    assert rows["plans"]["state"] == "warn"
    assert rows["plans"]["advice"] == f"chmod go-w {folder}"
