"""The storm, short: a broker killed, a broker frozen, an agent killed while there is none; nothing is lost."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from broker import _program, free_port
from conftest import REPOSITORY

BENCHMARKS = REPOSITORY / "benchmarks"
FAULTS = {"kill -9 the broker", "freeze the broker", "broker off, agent killed"}


@pytest.fixture
def mosquitto() -> str:
    return _program("mosquitto")


def test_the_tally_sees_what_is_lost_comes_twice_or_out_of_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from storm_tally import tally
    from storm_watch import Arrival, Seen

    promised = {"a": [("a", seq) for seq in range(5)], "b": [("b", 0)]}
    came = [("b", 0), ("a", 0), ("a", 2), ("a", 1), ("a", 2), ("a", 4), ("x", 0)]
    found = tally(
        promised, [Arrival(0.0, Seen(camera=key, id=key, seq=seq, captured_at=0.0), False) for key, seq in came]
    )
    assert (found.promised, found.arrived, found.lost) == (6, 5, (("a", 3),))
    assert (found.duplicates, found.disorder, found.unpromised) == (1, 1, 1)


@pytest.mark.usefixtures("mosquitto")
def test_every_committed_event_arrives_once_and_in_order() -> None:
    script = BENCHMARKS / "mqtt_storm.py"
    words = [
        "--rounds",
        "3",
        "--seconds",
        "21",
        "--no-network",
        "--json",
        "--faults",
        ";".join(sorted(FAULTS)),
        "--port",
        str(free_port()),
    ]
    done = subprocess.run(
        [sys.executable, str(script), *words], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.stdout, done.stderr
    result = json.loads(done.stdout)
    ours = result["totals"]["edgewarden"]
    assert {each["fault"] for each in result["rounds"]} == FAULTS
    assert ours["promised"] > 1000
    assert (ours["lost"], ours["unpromised"], ours["disorder"]) == ([], 0, 0)
    assert ours["duplicates"] < 0.01 * ours["promised"]
    assert done.returncode == 0, done.stderr
