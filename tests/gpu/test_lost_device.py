"""A device that answers nothing any more: it is told apart, and the daemon goes on without it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent.detection.add import Wishes, add_model
from agent.engines.onnx import OnnxEngine

HERE = Path(__file__).resolve().parent
CONFIG = """
[agent]
name = "gpu"
state_dir = "{state}"
[model]
path = "{model}"
device = "cuda"
[[camera]]
name = "street"
source = "{clip}"
max_age = 5
"""


@pytest.fixture
def model(material: Path, tmp_path: Path) -> Path:
    path = material / "models" / "yolox_nano_416.onnx"
    return add_model(path, Wishes(name="yolox", labels="coco80"), tmp_path, OnnxEngine, replace=False).package.folder


def wrecked(*words: str | Path) -> Any:
    """What a process saw that lost its device."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent), *sys.path])}
    done = subprocess.run(
        [sys.executable, HERE / "wrecked.py", *words], capture_output=True, text=True, timeout=120, env=environment
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_after_an_illegal_access_this_process_has_no_device_any_more_and_says_the_way_out(model: Path) -> None:
    for error in wrecked("detector", model):
        assert error.startswith("DeviceLostError: ")
        assert error.endswith("the device is lost until edgewarden is started anew")


def test_the_daemon_goes_on_with_the_cpu_after_one_lost_frame(material: Path, model: Path, tmp_path: Path) -> None:
    config = tmp_path / "agent.toml"
    clip = material / "video" / "car-detection.mp4"
    config.write_text(CONFIG.format(state=tmp_path / "state", model=model, clip=clip))
    saw = wrecked("daemon", config)
    assert "CUDAExecutionProvider" in saw["before"]
    assert saw["after"].endswith("CPUExecutionProvider")
    assert "the device is lost until edgewarden is started anew" in saw["why"]
    assert (saw["revived"], saw["problem"]) == (1, "")
    assert saw["lost"] <= 2
