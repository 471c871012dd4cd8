"""The composition root's own pieces."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.app import App, only_daemon_of, percentiles
from agent.config import parse
from agent.errors import AgentError, ConfigError, MissingError

CONFIG = """
[agent]
name = "node"
state_dir = "{state}"
[model]
path = "{model}"
[[camera]]
name = "cam"
source = "synthetic://desk"
{more}
"""


def app(state: Path, *, model: str = "desk", more: str = "") -> App:
    return App(parse(CONFIG.format(state=state, model=model, more=more)), entry_points=[])


def test_percentiles_are_by_nearest_rank() -> None:
    assert percentiles([float(number) for number in range(1, 101)]) == {"p50": 50.0, "p95": 95.0, "p99": 99.0}
    assert percentiles([2.0, 1.0]) == {"p50": 1.0, "p95": 2.0, "p99": 2.0}
    assert percentiles([]) == {"p50": 0.0, "p95": 0.0, "p99": 0.0}


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_percentiles_never_fall(values: list[float]) -> None:
    found = percentiles(values)
    assert found["p50"] <= found["p95"] <= found["p99"]


def test_a_state_folder_has_one_daemon_and_is_free_again_after_it(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with only_daemon_of(state), pytest.raises(AgentError, match="another edgewarden uses it"), only_daemon_of(state):
        pass
    with only_daemon_of(tmp_path / "state"):
        pass


def test_a_start_that_fails_lets_go_of_everything(tmp_path: Path) -> None:
    for wrong, error in (
        (app(tmp_path, model="nothing"), MissingError),
        (app(tmp_path, more="[plugins.x]"), ConfigError),
    ):
        with pytest.raises(error):
            wrong.start()
        with only_daemon_of(tmp_path):
            pass


def test_a_state_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AgentError, match="cannot hold state"):
        app(tmp_path / "file" / "state").start()


SECOND_SIGNAL = """
import os, signal, threading
from agent.service import stop_on_signals
stop = threading.Event()
with stop_on_signals(stop):
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop.wait(5)
    print("asked", flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(5)
    print("still here", flush=True)
"""


def test_the_first_signal_asks_and_the_second_ends_at_once() -> None:
    done = subprocess.run([sys.executable, "-c", SECOND_SIGNAL], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (143, "asked\n")
