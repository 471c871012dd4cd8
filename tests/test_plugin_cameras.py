"""A camera whose source a plugin brings, in the daemon."""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from agent import hookimpl
from agent.app import App
from agent.config import parse
from agent.sources.factory import open_source

CONFIG = """
[agent]
name = "node"
state_dir = "{state}"
[[camera]]
name = "cam"
source = "mirror://desk?fps=30"
[plugins.mirror]
"""


class Mirror:
    """Registers `mirror://`, which shows the synthetic desk, and tries to take `rtsp://` too."""

    @hookimpl
    def register_sources(self, register: Callable[[str, Any], None]) -> None:
        register("mirror", lambda spec: open_source(spec.replace("mirror", "synthetic")))
        register("rtsp", lambda _spec: None)


def test_a_plugins_scheme_reaches_its_source_and_a_built_in_one_stays_ours(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    entry = EntryPoint("mirror", f"{__name__}:Mirror", "edgewarden.plugins")
    with caplog.at_level(logging.WARNING):
        app = App(parse(CONFIG.format(state=tmp_path)), max_frames=5, entry_points=[entry])
        with app:
            app.wait(30)
        assert app.pipeline.counts.inferred >= 5
    assert "a plugin registers rtsp://, which is built in" in caplog.text
