"""The whole daemon over a dark city full of billboards: what it would wake somebody for."""

from __future__ import annotations

import json
import re
from pathlib import Path

from daemon import Daemon, add_model, write_config

from plugins.alert.config import DEFAULT_RULE, Rule

BILLBOARDS_END = 110
"""Row of the 240 below which people walk: two do, in frames 44 to 75 and from 243 on, seen by eye."""
RULES = """
[plugins.alert]
mqtt = false
[[plugins.alert.rule]]
name = "default"
labels = ["person"]
min_score = {score}
dwell = {dwell}
[[plugins.alert.rule]]
name = "unlimited"
labels = ["person"]
min_score = 0.6
cooldown = 0
group = 0
[plugins.snapshot]
folder = "{pictures}"
"""


def test_billboards_at_night_raise_at_most_one_false_alert_by_the_default_rule_and_without_any_cooldown(
    material: Path, tmp_path: Path
) -> None:
    assert Rule(name="person", labels=("person",), min_score=DEFAULT_RULE.min_score, dwell=1.0) == DEFAULT_RULE
    model = add_model(tmp_path / "models", material / "models" / "yolox_nano_416.onnx", "street")
    folder = tmp_path / "pictures"
    config = write_config(
        tmp_path / "agent.toml",
        source=material / "video" / "rf_example_video.mp4",
        model=model,
        camera="realtime = false",
        more=RULES.format(pictures=folder, score=DEFAULT_RULE.min_score, dwell=DEFAULT_RULE.dwell),
    )
    daemon = Daemon(config)
    code, _ = daemon.finish(300)
    assert code == 0, daemon.stderr
    sidecars = [json.loads(path.read_bytes()) for path in folder.rglob("*.json")]
    boxes = {sidecar["event"]["id"]: sidecar["event"]["best_box"] for sidecar in sidecars}
    for rule in ("default", "unlimited"):
        alerts = re.findall(rf"alert {rule} raised: .*\(event (\S+)\)", daemon.stderr)
        assert 1 <= len(alerts) <= 3, rule
        assert sum(boxes[event][3] < BILLBOARDS_END for event in alerts) <= 1, rule
