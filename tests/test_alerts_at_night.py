"""The whole daemon over a dark city full of billboards: what it would wake somebody for."""

from __future__ import annotations

import json
import re
from pathlib import Path

from daemon import Daemon, add_model, write_config

BILLBOARDS_END = 110
"""Row of the 240 below which people walk: two do, in frames 44 to 75 and from 243 on, seen by eye."""
RULES = """
[plugins.alert]
mqtt = false
[plugins.snapshot]
folder = "{pictures}"
"""
UNLIMITED = """
[[plugins.alert.rule]]
name = "person"
labels = ["person"]
min_score = 0.6
cooldown = 0
group = 0
"""


def _false_ones(folder: Path, config: Path) -> tuple[int, int]:
    """Alerts raised, and those of them about somebody on a billboard."""
    daemon = Daemon(config)
    code, _ = daemon.finish(300)
    assert code == 0, daemon.stderr
    sidecars = [json.loads(path.read_bytes()) for path in folder.rglob("*.json")]
    boxes = {sidecar["event"]["id"]: sidecar["event"]["best_box"] for sidecar in sidecars}
    alerts = re.findall(r"alert person raised: .*\(event (\S+)\)", daemon.stderr)
    return len(alerts), sum(boxes[event][3] < BILLBOARDS_END for event in alerts)


def test_billboards_at_night_raise_at_most_one_false_alert_by_the_default_rule_and_without_any_cooldown(
    material: Path, tmp_path: Path
) -> None:
    model = add_model(tmp_path / "models", material / "models" / "yolox_nano_416.onnx", "street")
    for name, more in (("default", ""), ("unlimited", UNLIMITED)):
        folder = tmp_path / name
        folder.mkdir()
        config = write_config(
            folder / "agent.toml",
            source=material / "video" / "rf_example_video.mp4",
            model=model,
            camera="realtime = false",
            more=RULES.format(pictures=folder / "pictures") + more,
        )
        raised, false = _false_ones(folder / "pictures", config)
        assert 1 <= raised <= 3, name
        assert false <= 1, name
