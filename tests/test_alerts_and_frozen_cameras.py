"""A camera that freezes, or goes black, in the whole agent: what it saw last raises no alert, however long it stays."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from waiting import wait_until

from agent import Picture, Source, hookimpl
from agent.app import App
from agent.config import parse
from agent.sources.factory import open_source

PICTURES = 25
"""At ten a second; then it fails."""
CONFIG = """
[agent]
name = "node"
state_dir = "{state}"
[[camera]]
name = "cam"
source = "failing://{how}"
stall_after = 0.5
[plugins.failing]
[plugins.alert]
mqtt = false
[[plugins.alert.rule]]
name = "at once"
group = 0
[[plugins.alert.rule]]
name = "after a while"
dwell = 3.5
group = 0
"""


class FailingSource:
    """The synthetic desk, until it shows the same picture, or nothing but black with noise."""

    live = True

    def __init__(self, how: str) -> None:
        self._how = how
        self._desk: Source = open_source("synthetic://desk?fps=10&seed=3")
        self._count = 0
        self._last: Picture | None = None

    def open(self) -> None:
        self._desk.open()

    def read(self) -> Picture | None:
        picture = self._desk.read()
        self._count += 1
        if self._count <= PICTURES or picture is None:
            self._last = picture
            return picture
        if self._how == "black":
            noise = np.random.default_rng(self._count).integers(0, 4, picture.pixels.shape, dtype=np.uint8)
            return Picture(noise)
        return self._last

    def close(self) -> None:
        self._desk.close()


class Failing:
    """Registers `failing://`."""

    @hookimpl
    def register_sources(self, register: Callable[[str, Any], None]) -> None:
        register("failing", lambda spec: FailingSource(spec.split("://")[1]))


@pytest.mark.parametrize("how", ["frozen", "black"])
def test_what_a_camera_saw_before_it_failed_raises_nothing_later(
    how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    entries = [
        EntryPoint("failing", f"{__name__}:Failing", "edgewarden.plugins"),
        EntryPoint("alert", "plugins.alert:Alert", "edgewarden.plugins"),
    ]

    def raised(rule: str) -> list[float]:
        wanted = f"alert {rule} raised"
        return [record.created for record in caplog.records if record.getMessage().startswith(wanted)]

    caplog.set_level(logging.WARNING)
    with App(parse(CONFIG.format(state=tmp_path, how=how)), entry_points=entries) as app:
        wait_until(lambda: raised("at once"), timeout=60)
        wait_until(lambda: app.health(app.monitor.latest).cameras["cam"].state == how, timeout=60)
        failed_at = time.time()
        wait_until(lambda: time.time() > failed_at + 4.0, timeout=60)  # longer than any dwell that was begun
        assert app.health(app.monitor.latest).cameras["cam"].state == how
    assert raised("after a while") == []
    assert all(at < failed_at + 1.0 for at in raised("at once"))
