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


def test_the_tally_lets_live_events_overtake_late_ones_but_not_their_own_occurrence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from storm_tally import tally
    from storm_watch import Arrival, Seen

    def disorder(*came: tuple[str, int, bool]) -> int:
        promised = {"door": [(name, seq) for name in ("old", "older", "new", "newer") for seq in range(2)]}
        seen = [Seen(camera="door", id=name, seq=seq, captured_at=0.0, late=late) for name, seq, late in came]
        return tally(promised, [Arrival(0.0, each, False) for each in seen]).disorder

    late = [(name, seq, True) for name in ("old", "older") for seq in range(2)]
    live = [(name, seq, False) for name in ("new", "newer") for seq in range(2)]
    assert disorder(*live[:2], late[0], live[2], *late[1:], live[3]) == 0
    assert disorder(late[1], late[0], *live) == 1
    assert disorder(*late, live[2], live[1]) == 1
    assert disorder(("new", 1, False), ("new", 0, True)) == 1


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
