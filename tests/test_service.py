"""What the service manager is told: progress as it is, time while something is built, a state that people can read."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from waiting import wait_until

from agent.data import CameraHealth, Health
from agent.progress import Progress
from agent.service import Watchdog, notify, status, status_line, takes_long, watchdog_period


class Told(list[str]):
    """What the watchdog said."""

    def fed(self) -> int:
        return self.count("WATCHDOG=1")


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(tmp_path / "notify"))
    listener.settimeout(10)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    yield listener
    listener.close()


def test_the_watchdog_is_fed_while_the_loop_finishes_something_and_only_then() -> None:
    progress, told = Progress(100.0), Told()
    watchdog = Watchdog(8.0, lambda limit: progress.stuck(now, limit), told.append)
    for step in range(100):
        now = 100.0 + step * 0.5
        progress.finished(now)
        watchdog.tend(now)
    assert told.fed() == 25, "every quarter of its period"
    progress.begin("inference of camera door")
    for step in range(100):
        now = 150.0 + step * 0.5
        watchdog.tend(now)
    fed = told.fed() - 25
    assert fed <= 2, "not after half its period without progress"
    assert told[-1].startswith("STATUS=stuck: nothing was finished for ")
    assert told[-1].endswith("under way: inference of camera door")
    progress.finished(now)
    watchdog.tend(now)
    assert told.fed() == 25 + fed + 1


@given(st.lists(st.floats(0.01, 20.0), min_size=1, max_size=40), st.floats(1.0, 20.0))
def test_a_loop_that_finishes_within_half_the_period_is_never_given_up(steps: list[float], period: float) -> None:
    now, told = 0.0, Told()
    progress = Progress(now)
    watchdog = Watchdog(period, lambda limit: progress.stuck(now, limit), told.append)
    silent_since = now
    for step in steps:
        now += min(step, 0.49 * period)
        before = told.fed()
        watchdog.tend(now)
        if told.fed() > before:
            silent_since = now
        assert now - silent_since < period
        progress.finished(now)


def test_no_watchdog_is_asked_for_where_systemd_asks_for_none() -> None:
    assert watchdog_period({}) is None
    assert watchdog_period({"WATCHDOG_USEC": "30000000"}) == 30.0
    assert watchdog_period({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, pid=2) is None
    assert watchdog_period({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}) == 30.0
    assert watchdog_period({"WATCHDOG_USEC": "soon"}) is None
    told = Told()
    Watchdog(None, lambda limit: "stuck", told.append).tend(1.0)
    assert told == []


def test_while_something_is_built_more_time_is_asked_for_and_then_no_more(manager: socket.socket) -> None:
    with takes_long("building the engine of desk"):
        first = manager.recv(4096).decode().splitlines()
    assert first == ["EXTEND_TIMEOUT_USEC=20000000", "STATUS=building the engine of desk"]
    wait_until(lambda: not any(thread.name == "extend-timeout" for thread in threading.enumerate()))
    with takes_long("building", at_most=-1.0):
        pass
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.recv(4096)


def test_the_status_says_what_is_up_and_why_the_rest_is_not() -> None:
    health = Health(
        node="node",
        at=0.0,
        cameras={
            "door": CameraHealth(state="up", fps=9.96),
            "gate": CameraHealth(state="down", reason="Connection refused"),
        },
        precision="fp32",
        rung=1,
        frame_age_ms={"p95": 41.7},
    )
    line = "1 of 2 camera(s) up (gate down: Connection refused); rung 1, fp32, 10.0 inferences/s; frame age p95 42 ms"
    assert status_line(health) == line
    assert status_line(health, "reload refused: x") == f"reload refused: x; {line}"


@given(st.text())
def test_a_status_is_one_short_line_whatever_it_holds(text: str) -> None:
    line = status(text)
    assert len(line.splitlines()) == 1
    assert len(line) <= 1010


def test_a_manager_that_does_not_read_its_socket_holds_nobody_up(manager: socket.socket) -> None:
    told = [notify("STATUS=x") for _ in range(12)]
    while told[-1]:  # however much the kernel lets lie there
        told.append(notify("STATUS=x"))
    assert told[0]
    assert not told[-1]
