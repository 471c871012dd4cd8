"""Commands to the real daemon through a real broker: paused, limited, reloaded, and told nonsense."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.publish as publish
import pytest
from broker import Mosquitto, Subscriber
from daemon import Daemon, write_config
from paho.mqtt.client import MQTTv5

KEYS = "commands = true\ngroup_commands = true\nhealth_interval = 1\n"
LADDER = '[governor]\nladder = [{ precision = "fp32" }, { precision = "fp32", rate = 2.0 }]\n'


class Node:
    """The daemon, its broker and someone who listens."""

    def __init__(self, folder: Path, broker: Mosquitto) -> None:
        self.broker = broker
        self.config = folder / "agent.toml"
        self.write()
        self.subscriber = Subscriber(broker.port)
        self.daemon = Daemon(self.config)
        self.subscriber.wait_until(lambda: self.state == "up", 30, "the camera is up")

    def write(self, more: str = "") -> None:
        source = "synthetic://desk?fps=15&size=320x240"
        write_config(self.config, source=source, port=self.broker.port, more=KEYS + LADDER + more)

    def close(self) -> None:
        if self.daemon.process.poll() is None:
            self.daemon.kill()
        self.subscriber.close()

    @property
    def state(self) -> str:
        told = self.subscriber.on("edgewarden/node/camera/cam/status")
        return told[-1].payload.decode() if told else ""

    @property
    def health(self) -> dict[str, Any]:
        told = self.subscriber.on("edgewarden/node/health")
        return dict(json.loads(told[-1].payload)) if told else {}

    def ask(self, name: str, group: bool = False, **payload: Any) -> dict[str, Any]:
        """Publish a command and wait for its answer, by its id."""
        topic = f"edgewarden/{'all' if group else 'node'}/command/{name}"
        self.tell(topic, json.dumps(payload))

        def answers() -> list[dict[str, Any]]:
            results = self.subscriber.on(f"edgewarden/node/command/{name}/result")
            return [found for found in (json.loads(one.payload) for one in results) if found["id"] == payload.get("id")]

        self.subscriber.wait_until(lambda: bool(answers()), 10, f"an answer to {name} {payload}")
        return answers()[-1]

    def tell(self, topic: str, payload: str) -> None:
        publish.single(topic, payload, qos=1, hostname="127.0.0.1", port=self.broker.port, protocol=MQTTv5)

    def wait_for(self, condition: Any, what: str, timeout: float = 20.0) -> None:
        self.subscriber.wait_until(condition, timeout, what)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with Mosquitto(tmp_path / "broker") as broker:
        node = Node(tmp_path, broker)
        yield node
        node.close()


def test_a_daemon_does_what_it_is_told_and_answers(node: Node) -> None:
    ping = node.ask("ping", id="1")
    assert ping["ok"]
    assert ping["version"]
    assert node.ask("ping", group=True, id="2")["ok"], "as one of all nodes"
    assert node.ask("pause", id="3", camera="cam") == {"id": "3", "ok": True, "paused": ["cam"]}
    node.wait_for(lambda: node.state == "paused", "the camera is told as paused")
    paused_at = node.health["cameras"]["cam"]["inferred"]
    assert node.ask("resume", id="4")["resumed"] == ["cam"]
    node.wait_for(lambda: node.state == "up", "the camera is up again")
    node.wait_for(lambda: node.health["cameras"]["cam"]["inferred"] > paused_at, "frames are inferred again")
    picture = node.ask("snapshot", id="5", camera="cam")
    assert picture["ok"]
    shown = [one.payload for one in node.subscriber.on("edgewarden/node/camera/cam/snapshot")]
    assert all(one.startswith(b"\xff\xd8") for one in shown)
    assert picture["bytes"] in map(len, shown), "beside those of events"


def test_a_limit_is_kept_shown_and_lifted(node: Node) -> None:
    assert node.ask("limit", id="1", rung=1)["ok"]
    node.wait_for(lambda: node.health.get("rate") == 2.0, "the limit stands in health")
    assert node.health["rung"] == 1
    node.wait_for(lambda: 0 < node.health["cameras"]["cam"]["fps"] <= 2.6, "the rate is kept")
    assert node.ask("limit", id="2", rung=None, fps=None)["ok"]
    node.wait_for(lambda: node.health["cameras"]["cam"]["fps"] > 4, "the rate is back")


def test_nonsense_is_answered_and_changes_nothing(node: Node) -> None:
    node.tell("edgewarden/node/command/limit", "{")
    node.wait_for(
        lambda: bool(node.subscriber.on("edgewarden/node/command/limit/result")), "an answer to what is no JSON"
    )
    assert not node.ask("limit", id="2", fps=-1)["ok"]
    assert not node.ask("limit", id="3", rung=7)["ok"]
    assert not node.ask("pause", id="4", camera="../../etc")["ok"]
    assert "unknown key" in node.ask("ping", id="5", rm="-rf /")["error"]
    assert node.ask("ping", id="6")["ok"]
    assert node.state == "up"
    assert node.health["rate"] is None


def test_a_reload_changes_what_can_change_and_refuses_what_is_wrong(node: Node) -> None:
    node.wait_for(lambda: "cam" in node.health.get("cameras", {}), "its health is told")
    before = node.health["cameras"]["cam"]["inferred"]
    node.config.write_text(node.config.read_text().replace("threads = 1", "threads = 0"))
    answer = node.ask("reload", id="1")
    assert not answer["ok"]
    assert "model.threads" in answer["error"]
    node.wait_for(lambda: node.health["reload"].startswith("reload refused: "), "it stands in health")
    assert "model.threads" in node.health["reload"]
    node.daemon.process.send_signal(signal.SIGHUP)
    node.wait_for(lambda: node.daemon.stderr.count("reload refused: ") >= 2, "SIGHUP refuses it too")

    node.write('[tracker]\npatience = 3.0\n[[camera]]\nname = "two"\nsource = "synthetic://desk?fps=5"\n')
    assert node.ask("reload", id="2") == {
        "id": "2",
        "ok": True,
        "changed": ["tracker.patience: 2.0 -> 3.0", "camera two: added"],
        "restart": [],
    }
    node.wait_for(lambda: node.health["cameras"].get("two", {}).get("inferred", 0) > 3, "the new camera is inferred")
    assert node.health["reload"] == ""
    status = [one.payload for one in node.subscriber.on("edgewarden/node/status")]
    assert status == [b"online"], "nothing else was touched"
    assert node.health["cameras"]["cam"]["inferred"] > before, "its counts go on"

    node.config.write_text(node.config.read_text().replace('path = "desk"', 'path = "nosuchmodel"'))
    answer = node.ask("reload", id="3")
    assert not answer["ok"]
    assert "nosuchmodel" in answer["error"]
    node.write("[log]\nmax_bytes = 20000000\n")
    node.config.write_text(node.config.read_text().replace('name = "node"', 'name = "other"'))
    answer = node.ask("reload", id="4")
    assert (answer["ok"], answer["restart"]) == (True, ["agent.name"])
    assert "camera two: removed" in answer["changed"]
    node.wait_for(lambda: node.health["reload"] == "needs a restart: agent.name", "health says so")
    assert set(node.health["cameras"]) == {"cam"}
    node.daemon.terminate()
    code, _ = node.daemon.finish(60)
    assert code == 0


def test_the_plugin_that_carries_the_reload_is_changed_too_and_answers_first(node: Node) -> None:
    node.config.write_text(node.config.read_text().replace("health_interval = 1", "health_interval = 2"))
    assert node.ask("reload", id="1")["changed"] == ["plugin mqtt: started anew for health_interval"]
    status = "edgewarden/node/status"
    node.wait_for(
        lambda: [one.payload for one in node.subscriber.on(status)][-2:] == [b"offline", b"online"], "again up"
    )
    assert node.ask("ping", id="2")["ok"]
