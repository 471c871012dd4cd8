"""The demo does the whole job with what ships, and fails when a message is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from daemon import edgewarden

from agent.cli.demo import verdict


def test_the_demo_counts_what_arrived_and_says_where_the_pictures_lie(tmp_path: Path) -> None:
    done = edgewarden("demo", "--seconds", "8", "--out", tmp_path / "out", "--json", timeout=120)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["messages"]["received"] == summary["messages"]["published"] > 0
    assert summary["events"]["start"] == summary["events"]["end"] > 0
    assert summary["messages"]["by_topic"]["events"] == sum(summary["events"].values())
    assert summary["pictures"]["count"] == len(list((tmp_path / "out" / "pictures").rglob("*.jpg"))) > 0
    assert summary["fps"] > 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"events": {"start": 0}}, "the demo saw no event"),
        ({"messages": {"published": 5, "received": 4}}, "5 messages were published but 4 received"),
        ({"problem": "desk: the engine failed"}, "desk: the engine failed"),
        ({}, None),
    ],
)
def test_a_demo_that_went_wrong_says_so(change: dict[str, object], said: str | None) -> None:
    well = {"events": {"start": 3}, "messages": {"published": 5, "received": 5}, "problem": None}
    assert verdict({**well, **change}) == said
