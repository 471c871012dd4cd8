"""The governor in the whole agent: a hot board slows it down between two frames, a cool one gives the rate back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from waiting import wait_until

import agent.app
from agent.app import App
from agent.config import parse
from agent.data import Temperature
from agent.governor.sensors.base import Reading

CONFIG = """
[agent]
name = "node"
state_dir = "{state}"
[model]
threads = 1
[governor]
dwell = 0.5
{governor}
[[camera]]
name = "cam"
source = "synthetic://desk?fps=20"
"""


class Board:
    """A board's only thermal zone; stands for hardware."""

    def __init__(self, celsius: float) -> None:
        self.celsius = celsius
        self._wobble = 0.0

    def read(self) -> Reading:
        self._wobble = 0.1 - self._wobble
        zone = Temperature(celsius=self.celsius + self._wobble, passive=95.0, critical=104.5)
        return Reading(temperatures={"tj-thermal": zone})


def _app(tmp_path: Path, board: Board, monkeypatch: pytest.MonkeyPatch, governor: str = "") -> App:
    monkeypatch.setattr(agent.app, "board_sensors", lambda: {"thermal": board})
    return App(parse(CONFIG.format(state=tmp_path / "state", governor=governor)))


def test_a_hot_board_goes_to_the_bottom_and_comes_back_when_it_has_cooled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = Board(94.8)
    with _app(tmp_path, board, monkeypatch) as app:
        wait_until(lambda: app.control.decision.rate == 1.0, 60)
        assert "tj-thermal" in app.control.decision.reason
        board.celsius = 45.0
        wait_until(lambda: app.control.decision.rung == 0, 120)
    told = json.loads((tmp_path / "state" / "status.json").read_text())["health"]
    assert told["temperatures"]["tj-thermal"]["limit"] == 95.0
    assert told["rung_seconds"][-1] > 0


def test_a_switched_off_governor_leaves_the_top_rung(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with _app(tmp_path, Board(94.8), monkeypatch, "enabled = false") as app:
        wait_until(lambda: app.monitor.latest.temperatures, 30)
        wait_until(lambda: app.pipeline.counts.inferred > 20, 60)
        assert app.control.decision.rung == 0
