"""The daemon with its model on the GPU: it finds what it finds on the CPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from daemon import edgewarden

from agent.detection.add import Wishes, add_model
from agent.engines.onnx import OnnxEngine

CONFIG = """
[agent]
name = "gpu"
state_dir = "{state}"
[model]
path = "{model}"
device = "{device}"
strict_fp32 = true
[governor]
enabled = false
[[camera]]
name = "street"
source = "{clip}"
realtime = false
"""


@pytest.fixture
def model(material: Path, tmp_path: Path) -> Path:
    path = material / "models" / "yolox_nano_416.onnx"
    package = add_model(path, Wishes(name="yolox", labels="coco80"), tmp_path, OnnxEngine, replace=False).package
    return package.folder


def config(material: Path, model: Path, state: Path, device: str) -> str:
    clip = material / "video" / "car-detection.mp4"
    return CONFIG.format(state=state, model=model, device=device, clip=clip)


def summary(material: Path, model: Path, folder: Path, device: str) -> dict[str, Any]:
    (folder / f"{device}.toml").write_text(config(material, model, folder / device, device))
    done = edgewarden("run", "--config", folder / f"{device}.toml", "--frames", "150", "--json")
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_the_daemon_finds_on_the_device_what_it_finds_on_the_cpu(material: Path, model: Path, tmp_path: Path) -> None:
    there, here = (summary(material, model, tmp_path, device) for device in ("cuda", "cpu"))
    assert there["cameras"]["street"]["inferred"] == here["cameras"]["street"]["inferred"] == 150
    assert there["events"] == here["events"]
    assert there["detections"] == pytest.approx(here["detections"], abs=2)
