"""The MQTT plugin in a real host, against a real mosquitto: every topic of its table, over restarts of everything."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from broker import Mosquitto, Subscriber, free_port
from waiting import wait_until

from agent import ConfigError, Health, PluginError
from agent.data import CameraHealth
from agent.testing import NODE, PluginHarness, make_detections, make_event, make_frame
from plugins.mqtt import Mqtt

ROOT = f"edgewarden/{NODE}"


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker") as broker:
        yield broker


def _harness(port: int, tmp_path: Path, **keys: object) -> PluginHarness:
    return PluginHarness(Mqtt, {"host": "127.0.0.1", "port": port, **keys}, state_dir=tmp_path / "state")


def _connected(harness: PluginHarness) -> None:
    publisher = harness.plugin._publisher
    wait_until(lambda: publisher._link.connected, what="the plugin connects")


def _payloads(subscriber: Subscriber, topic: str) -> list[bytes]:
    return [message.payload for message in subscriber.on(f"{ROOT}/{topic}")]


def test_an_event_arrives_whole_and_counts_as_handled(mosquitto: Mosquitto, tmp_path: Path) -> None:
    event = make_event(zones=("door",), attributes={"plate": "B-XY 1"})
    with Subscriber(mosquitto.port) as subscriber, _harness(mosquitto.port, tmp_path) as harness:
        harness.send(event)
        (message,) = subscriber.wait_for(1, topic=f"{ROOT}/camera/cam/events")
        assert harness.health.handled == 1
    told = msgspec.json.decode(message.payload)
    wanted = msgspec.json.decode(msgspec.json.encode(event))
    assert {key: told[key] for key in wanted if key not in ("late", "queued_at")} == {
        key: value for key, value in wanted.items() if key not in ("late", "queued_at")
    }
    assert (message.qos, message.retain, message.content_type) == (1, False, "application/json")


def test_states_are_retained_and_told_again_to_a_broker_that_forgot_them(tmp_path: Path) -> None:
    cameras = {
        "cam": CameraHealth(state="up"),
        "a/b": CameraHealth(state="frozen"),
        "new": CameraHealth(state="starting"),
    }
    health = Health(node=NODE, at=1.0, cameras=cameras)
    broker = Mosquitto(tmp_path / "broker", persistence=False).start()
    with _harness(broker.port, tmp_path) as harness:
        _connected(harness)
        harness.health_tick(health)
        for _ in range(2):
            with Subscriber(broker.port) as late_subscriber:
                messages = late_subscriber.wait_for(4)
            broker.kill()
            wait_until(lambda: not harness.plugin._publisher._link.connected)
            broker.start()
            _connected(harness)
        states = {message.topic: message.payload for message in messages if not message.topic.endswith("/health")}
    broker.stop()
    assert states == {
        f"{ROOT}/status": b"online",
        f"{ROOT}/camera/cam/status": b"up",
        f"{ROOT}/camera/a%2Fb/status": b"frozen",
    }
    assert all(message.retain for message in messages)


def test_health_is_published_and_a_rung_change_at_once(mosquitto: Mosquitto, tmp_path: Path) -> None:
    with Subscriber(mosquitto.port, f"{ROOT}/health") as subscriber, _harness(mosquitto.port, tmp_path) as harness:
        _connected(harness)
        for rung in range(3):
            for _ in range(2):
                harness.health_tick(Health(node=NODE, at=1.0, rung=rung))
            subscriber.wait_for(rung + 1)
        harness.stop()
        assert [msgspec.json.decode(payload)["rung"] for payload in _payloads(subscriber, "health")] == [0, 1, 2]


def test_detections_are_rate_limited(mosquitto: Mosquitto, tmp_path: Path) -> None:
    with (
        Subscriber(mosquitto.port, f"{ROOT}/camera/+/detections") as subscriber,
        _harness(mosquitto.port, tmp_path, detections_rate=0.01) as harness,
    ):
        _connected(harness)
        harness.detections(make_detections(seq=0))
        subscriber.wait_for(1)
        harness.detections(make_detections(camera="other", seq=0))
        subscriber.wait_for(2)
        for seq in range(1, 5):
            harness.detections(make_detections(seq=seq))
        harness.stop()
        told = [msgspec.json.decode(message.payload) for message in subscriber.messages]
    assert [(detections["camera"], detections["seq"]) for detections in told] == [("cam", 0), ("other", 0)]
    assert told[0]["labels"] == ["person"]
    assert len(told[0]["boxes"][0]) == 4


def test_the_snapshot_is_the_newest_better_picture_with_its_id_and_time(mosquitto: Mosquitto, tmp_path: Path) -> None:
    event, frame, better = make_event(), make_frame(), make_frame(seed=1)
    box = (1.0, 2.0, 30.0, 40.0)
    topic = f"{ROOT}/camera/cam/snapshot"
    with Subscriber(mosquitto.port, topic) as subscriber, _harness(mosquitto.port, tmp_path) as harness:
        _connected(harness)
        harness.send(event, frame)
        harness.send(msgspec.structs.replace(event, seq=1, kind="update"), frame)
        harness.send(msgspec.structs.replace(event, seq=2, kind="update", best_box=box), better)
        harness.send(msgspec.structs.replace(event, seq=3, kind="end", best_box=box), better)
        first, second = subscriber.wait_for(2)
        with Subscriber(mosquitto.port, topic) as newcomer:
            (kept,) = newcomer.wait_for(1)
        harness.stop()
        assert len(subscriber.messages) == 2
    assert first.payload == frame.jpeg(80)
    assert second.payload == kept.payload == better.jpeg(80)
    assert (kept.retain, kept.content_type) == (True, "image/jpeg")
    assert kept.properties == {"id": event.id, "captured_at": f"{better.captured_at:.3f}"}


def test_a_picture_that_is_too_large_is_told_worse_or_not_at_all(mosquitto: Mosquitto, tmp_path: Path) -> None:
    large, huge = make_frame(192, 160), make_frame(640, 480)
    limit = len(large.jpeg(60))
    with (
        Subscriber(mosquitto.port, f"{ROOT}/camera/cam/snapshot") as subscriber,
        _harness(mosquitto.port, tmp_path, max_snapshot_bytes=limit) as harness,
    ):
        _connected(harness)
        harness.send(make_event(), huge)
        harness.send(make_event(), large)
        (message,) = subscriber.wait_for(1)
        assert harness.metrics["snapshots_too_large"] == 1
    assert message.payload == large.jpeg(60)


def test_every_event_arrives_over_a_killed_broker_and_a_restarted_agent(mosquitto: Mosquitto, tmp_path: Path) -> None:
    events = [make_event(seq=seq, id=f"event-{seq // 3}") for seq in range(300)]
    with (
        Subscriber(mosquitto.port, f"{ROOT}/camera/+/events", acknowledge=False) as subscriber,
        _harness(mosquitto.port, tmp_path) as harness,
    ):
        mosquitto.keep(subscriber)
        harness.send(events[0])
        for event in events[1:100]:
            harness.offer(event)
        mosquitto.kill()
        for event in events[100:200]:
            harness.offer(event)
        harness.restart()
        for event in events[200:]:
            harness.offer(event)
        mosquitto.start()
        wanted = {(event.id, event.seq) for event in events}

        def first() -> dict[tuple[str, int], bool]:
            """What arrived, without what came again, and whether it was late."""
            told: dict[tuple[str, int], bool] = {}
            for message in subscriber.on("#"):
                event = msgspec.json.decode(message.payload)
                told.setdefault((event["id"], event["seq"]), event["late"])
            return told

        subscriber.wait_until(lambda: set(first()) >= wanted, 30)
        assert set(first()) == wanted
        for late in (True, False):
            seqs = [seq for (_, seq), was_late in first().items() if was_late is late]
            assert seqs == sorted(seqs), "in order among the late ones, and among the live ones"
        for name in {event.id for event in events}:
            seqs = [seq for id_, seq in first() if id_ == name]
            assert seqs == sorted(seqs), "and within each occurrence"


def test_a_refused_password_is_the_plugins_status_until_it_is_corrected(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("wrong", encoding="utf-8")
    secret.chmod(0o600)
    with Mosquitto(tmp_path / "broker", passwords={"eve": "right"}) as broker:
        keys = {"username": "eve", "password_file": str(secret)}
        with (
            Subscriber(broker.port, f"{ROOT}/#", username="eve", password="right") as subscriber,
            _harness(broker.port, tmp_path, **keys) as harness,
        ):
            harness.offer(make_event())
            harness.wait_until(lambda: "refused the connection" in harness.health.reason)
            assert "username 'eve'" in harness.health.reason
            secret.write_text("right", encoding="utf-8")
            subscriber.wait_for(1, 30, f"{ROOT}/camera/cam/events")
            harness.wait_until(lambda: harness.health.handled == 1)


def test_the_reserved_name_and_a_wrong_table_disable_the_plugin(tmp_path: Path) -> None:
    class Named:
        name = "all"
        metrics = None

    with pytest.raises(ConfigError, match="reserved"):
        Mqtt().startup(Named(), Mqtt.Config(host="h"))  # type: ignore[arg-type]
    with PluginHarness(Mqtt, {"host": "127.0.0.1", "prot": 1}, state_dir=tmp_path) as harness:
        assert harness.health.state == "disabled"
        assert "prot" in harness.health.reason


def test_an_orderly_end_says_offline_after_the_last_event(mosquitto: Mosquitto, tmp_path: Path) -> None:
    with Subscriber(mosquitto.port) as subscriber:
        with _harness(mosquitto.port, tmp_path) as harness:
            _connected(harness)
            harness.send(make_event())
        messages = subscriber.wait_for(3)
    assert [(message.topic, message.payload) for message in messages if message.topic.endswith("status")] == [
        (f"{ROOT}/status", b"online"),
        (f"{ROOT}/status", b"offline"),
    ]
    assert messages[1].topic.endswith("events")


DAEMON = """
import sys, threading
from pathlib import Path
from agent.testing import PluginHarness, make_event
from plugins.mqtt import Mqtt
with PluginHarness(Mqtt, {"host": "127.0.0.1", "port": int(sys.argv[1])}, state_dir=Path(sys.argv[2])) as harness:
    harness.send(make_event())
    threading.Event().wait()
"""


def test_the_will_says_offline_when_the_agent_is_killed(mosquitto: Mosquitto, tmp_path: Path) -> None:
    with Subscriber(mosquitto.port) as subscriber:
        command = [sys.executable, "-c", DAEMON, str(mosquitto.port), str(tmp_path / "state")]
        daemon = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
        try:
            subscriber.wait_for(1, 20, f"{ROOT}/camera/cam/events")
        finally:
            daemon.send_signal(signal.SIGKILL)
            daemon.wait(10)
        subscriber.wait_until(lambda: _payloads(subscriber, "status") == [b"online", b"offline"], 10)


def test_another_plugin_publishes_by_command_below_the_root(mosquitto: Mosquitto, tmp_path: Path) -> None:
    with Subscriber(mosquitto.port, f"{ROOT}/#") as subscriber, _harness(mosquitto.port, tmp_path) as harness:
        _connected(harness)
        answer = harness.command("mqtt.publish", {"topic": "alerts", "payload": '{"a":1}', "qos": 1, "retain": False})
        assert answer == {"topic": f"{ROOT}/alerts", "sent": True}
        harness.command("mqtt.publish", {"topic": "a/+/#", "payload": "", "qos": 0})
        (message,) = subscriber.wait_for(1, topic=f"{ROOT}/alerts")
        subscriber.wait_for(1, topic=f"{ROOT}/a/%2B/%23")
        with pytest.raises(ConfigError, match="qos"):
            harness.command("mqtt.publish", {"topic": "alerts", "payload": "", "qos": 3})
    assert (message.payload, message.qos, message.content_type) == (b'{"a":1}', 1, "application/json")


def test_a_command_fails_at_once_while_there_is_no_broker(tmp_path: Path) -> None:
    with (
        _harness(free_port(), tmp_path) as harness,
        pytest.raises(PluginError, match="not connected"),
    ):
        harness.command("mqtt.publish", {"topic": "alerts", "payload": ""})


def test_hooks_before_startup_and_after_shutdown_fail_by_name(tmp_path: Path) -> None:
    plugin = Mqtt()
    with pytest.raises(PluginError, match="not started"):
        plugin.on_event(make_event(), None)
