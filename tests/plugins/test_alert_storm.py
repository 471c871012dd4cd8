"""The alert plugin in a real host over a real log, its receiver failing at random, restarted again and again."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from receiver import Receiver, receiving
from waiting import wait_until

from agent import Event
from agent.testing import PluginHarness, make_event
from plugins.alert import Alert

RULE = {"name": "all", "cooldown": 0, "group": 0, "rate": 10_000}
ANSWERS = [200, 200, 200, 200, 500, 503, 404, 422]


@pytest.mark.parametrize("seed", range(3))
def test_every_alert_arrives_once_and_in_order_whatever_the_receiver_does(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plugins.alert.courier.FIRST_DELAY", 0.01)
    monkeypatch.setattr("plugins.alert.courier.REFUSALS", 1000)
    rng = random.Random(seed)
    with receiving() as receiver:
        table = {"rule": [RULE], "mqtt": False, "webhook": {"url": receiver.url}}
        with PluginHarness(Alert, table, state_dir=tmp_path) as harness:
            sent = _storm(harness, receiver, rng)
            receiver.status = 200
            wait_until(lambda: len(receiver.taken) >= 2 * len(sent), timeout=60)
            harness.restart()
            harness.settle()
        told = [(alert["alert"], alert["state"]) for alert in receiver.taken]
    assert max(Counter(told).values()) == 1
    assert sorted(receiver.told) == sorted((event, state) for event in sent for state in ("raised", "resolved"))
    for event in sent:
        assert receiver.told.index((event, "raised")) < receiver.told.index((event, "resolved"))


def _storm(harness: PluginHarness, receiver: Receiver, rng: random.Random) -> list[str]:
    """Events that begin and end while the receiver's mood and the plugin change; their ids."""
    open_events: list[Event] = []
    sent: list[str] = []
    for n in range(60):
        receiver.status = rng.choice(ANSWERS)
        if open_events and rng.random() < 0.5:
            event = open_events.pop(rng.randrange(len(open_events)))
            harness.send(msgspec.structs.replace(event, kind="end", seq=1))
        else:
            open_events.append(make_event(id=f"e{n}"))
            sent.append(open_events[-1].id)
            harness.send(open_events[-1])
        if rng.random() < 0.05:
            harness.restart()
    for event in open_events:
        harness.send(msgspec.structs.replace(event, kind="end", seq=1))
    return sent
