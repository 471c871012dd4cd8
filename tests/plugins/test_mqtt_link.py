"""The link to the broker, against real mosquitto and amqtt: nothing that was promised is lost, refusals are named."""

from __future__ import annotations

import logging
import os
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import wait as wait_for
from pathlib import Path
from typing import Any

import pytest
from amqtt_broker import amqtt_broker
from broker import Mosquitto, Subscriber, free_port
from waiting import wait_until

from agent import PluginError
from plugins.mqtt.config import MqttConfig
from plugins.mqtt.connection import Message
from plugins.mqtt.link import Link

ONLINE = Message("e/n/status", b"online", 1, True)
OFFLINE = Message("e/n/status", b"offline", 1, True)


class Links:
    """Makes links and closes them after the test."""

    def __init__(self) -> None:
        self.made: list[Link] = []
        self.counted: Counter[str] = Counter()

    def __call__(self, port: int, **keys: Any) -> Link:
        config = MqttConfig(host="127.0.0.1", port=port, **keys)
        link = Link(config, "edgewarden-n", OFFLINE, lambda: [ONLINE], lambda name: self.counted.update([name]))
        link.start()
        self.made.append(link)
        return link


@pytest.fixture
def links() -> Iterator[Links]:
    links = Links()
    yield links
    for link in links.made:
        link.close(OFFLINE, 1.0)


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker") as broker:
        yield broker


def _event(n: int) -> Message:
    return Message("e/n/camera/c/events", b'{"n": %d}' % n, 1, False, "application/json")


def _connected(link: Link, timeout: float = 10.0) -> None:
    wait_until(lambda: link.connected, timeout, "the link connects")


def test_a_delivery_completes_at_the_acknowledgement_and_arrives_with_its_content_type(
    mosquitto: Mosquitto, links: Links
) -> None:
    with Subscriber(mosquitto.port, "e/n/camera/#") as subscriber:
        links(mosquitto.port).deliver(_event(1)).result(10)
        (message,) = subscriber.wait_for(1)
    assert (message.payload, message.qos, message.content_type) == (b'{"n": 1}', 1, "application/json")


def test_what_is_delivered_while_the_broker_is_away_waits_and_arrives_in_order(tmp_path: Path, links: Links) -> None:
    broker = Mosquitto(tmp_path / "broker")
    link = links(broker.port)
    futures = [link.deliver(_event(n)) for n in range(250)]
    assert not any(future.done() for future in futures)
    with broker, Subscriber(broker.port, "e/n/camera/#") as subscriber:
        assert wait_for(futures, 10).not_done == set()
        messages = subscriber.wait_for(1) and subscriber.wait_for(250)
    assert [message.payload for message in messages][-250:] == [_event(n).payload for n in range(250)]


def test_nothing_is_lost_when_the_broker_is_killed_and_started_again_in_the_middle(
    mosquitto: Mosquitto, links: Links
) -> None:
    link = links(mosquitto.port)
    with Subscriber(mosquitto.port, "e/n/camera/#", acknowledge=False) as subscriber:
        mosquitto.keep(subscriber)
        sent: list[Message] = []
        for round_number in range(3):
            futures = [link.deliver(_event(round_number * 1000 + n)) for n in range(200)]
            mosquitto.kill()
            futures.append(link.deliver(_event(round_number * 1000 + 999)))
            mosquitto.start()
            assert wait_for(futures, 20).not_done == set()
            assert [future.exception() for future in futures if future.exception()] == []
            sent += [_event(round_number * 1000 + n) for n in (*range(200), 999)]
            wanted = {message.payload for message in sent}
            subscriber.wait_until(lambda: {message.payload for message in subscriber.messages} >= wanted, 20)  # noqa: B023
        assert [*dict.fromkeys(message.payload for message in subscriber.messages)] == [event.payload for event in sent]


def test_the_link_is_back_within_its_cap_after_a_longer_outage(mosquitto: Mosquitto, links: Links) -> None:
    link = links(mosquitto.port)
    _connected(link)
    mosquitto.stop()
    wait_until(lambda: not link.connected)
    wait_until(lambda: link._reconnect._tries >= 5, 20, "the back-off has reached its cap")
    mosquitto.start()
    _connected(link, 5.0)


def test_a_frozen_broker_is_noticed_by_its_silence_and_nothing_is_lost(mosquitto: Mosquitto, links: Links) -> None:
    link = links(mosquitto.port)
    _connected(link)
    with Subscriber(mosquitto.port, "e/n/camera/#") as subscriber:
        os.kill(mosquitto.pid, signal.SIGSTOP)
        try:
            future = link.deliver(_event(7))
            picture = Message("e/n/picture", b"x" * (1 << 20), 0)
            assert sum(link.tell(picture) for _ in range(12)) < 12
        finally:
            os.kill(mosquitto.pid, signal.SIGCONT)
        future.result(10)
        subscriber.wait_for(1)
    assert links.counted["unwritten_dropped"] > 0


def test_a_refused_password_is_named_once_fails_what_waits_and_heals_when_corrected(
    tmp_path: Path, links: Links, caplog: pytest.LogCaptureFixture
) -> None:
    secret = tmp_path / "password"
    secret.write_text("wrong-horse\n", encoding="utf-8")
    secret.chmod(0o600)
    broker = Mosquitto(tmp_path / "broker", passwords={"eve": "right-horse"})
    link = links(broker.port, username="eve", password_file=str(secret))
    waiting = link.deliver(_event(1))
    with broker:
        with pytest.raises(
            PluginError, match=r"refused the connection: .*'eve'.*check username and password_file"
        ) as no:
            waiting.result(20)
        assert no.value.retry_after
        with pytest.raises(PluginError, match="refused"):
            link.deliver(_event(2))
        wait_until(lambda: broker.log.count("not authorised") >= 3, 20, "it is tried again")
        secret.write_text("  right-horse\n", encoding="utf-8")
        _connected(link, 20)
        link.deliver(_event(3)).result(10)
    refusals = [record for record in caplog.records if "refused the connection" in record.getMessage()]
    assert len(refusals) == 1
    assert f"broker 127.0.0.1:{broker.port} refused" in refusals[0].getMessage()
    assert "horse" not in caplog.text


def test_a_password_file_that_is_missing_is_named_and_read_when_it_comes(tmp_path: Path, links: Links) -> None:
    with Mosquitto(tmp_path / "broker", passwords={"eve": "horse"}) as broker:
        link = links(broker.port, username="eve", password_file=str(tmp_path / "later"))
        wait_until(lambda: link._refusal)
        with pytest.raises(PluginError, match=r"password_file .*later cannot be read: No such file"):
            link.deliver(_event(1))
        (tmp_path / "later").write_text("horse", encoding="utf-8")
        _connected(link, 20)


def test_a_message_that_the_broker_rejects_fails_with_its_reason_and_the_link_stays(
    tmp_path: Path, links: Links
) -> None:
    rules = tmp_path / "acl"
    rules.write_text("topic write e/n/status\ntopic write e/n/camera/#\n", encoding="utf-8")
    with Mosquitto(tmp_path / "broker", extra=[f"acl_file {rules}"]) as broker:
        link = links(broker.port)
        _connected(link)
        with pytest.raises(PluginError, match="rejected a message on e/n/secret: not authorized"):
            link.deliver(Message("e/n/secret", b"x", 1)).result(10)
        link.deliver(_event(1)).result(10)


def test_a_message_larger_than_the_broker_takes_is_refused_before_it_breaks_the_link(
    tmp_path: Path, links: Links
) -> None:
    with Mosquitto(tmp_path / "broker", extra=["max_packet_size 5000"]) as broker:
        link = links(broker.port)
        early = link.deliver(Message("e/n/early", b"x" * 6000, 1))
        with pytest.raises(PluginError, match="max_packet_size"):
            early.result(10)
        with pytest.raises(PluginError, match="max_packet_size"):
            link.deliver(Message("e/n/large", b"x" * 6000, 1))
        assert not link.tell(Message("e/n/large", b"x" * 6000))
        link.deliver(_event(1)).result(10)


def test_a_broker_with_a_small_window_gets_no_more_at_a_time_than_it_named(tmp_path: Path, links: Links) -> None:
    with Mosquitto(tmp_path / "broker", extra=["max_inflight_messages 5"]) as broker:
        link = links(broker.port)
        futures = [link.deliver(_event(n)) for n in range(200)]
        _connected(link)
        futures += [link.deliver(_event(n)) for n in range(200)]
        assert link._window == 5
        assert wait_for(futures, 10).not_done == set()
        assert link.connected


def test_closing_says_offline_and_fails_what_nobody_acknowledged(mosquitto: Mosquitto, links: Links) -> None:
    link = links(mosquitto.port)
    with Subscriber(mosquitto.port, "e/n/#") as subscriber:
        last = link.deliver(_event(1))
        _connected(link)
        link.close(OFFLINE, 5.0)
        last.result(0)
        messages = subscriber.wait_for(2, topic="e/n/status")
    assert [message.payload for message in messages] == [b"online", b"offline"]
    away = links(free_port())
    lost = away.deliver(_event(2))
    away.close(OFFLINE, 5.0)
    with pytest.raises(PluginError, match="stopped before"):
        lost.result(0)
    with pytest.raises(PluginError, match="closed"):
        away.deliver(_event(3))


def test_the_broker_publishes_the_will_when_the_connection_breaks_and_online_follows(
    mosquitto: Mosquitto, links: Links
) -> None:
    link = links(mosquitto.port)
    with Subscriber(mosquitto.port, "e/n/status") as subscriber:
        subscriber.wait_for(1)
        assert link._live is not None
        link._live.abort()
        messages = subscriber.wait_for(3)
    assert [message.payload for message in messages] == [b"online", b"offline", b"online"]


def test_two_nodes_of_the_same_name_that_push_each_other_out_are_named(
    mosquitto: Mosquitto, links: Links, caplog: pytest.LogCaptureFixture
) -> None:
    _connected(links(mosquitto.port))
    links(mosquitto.port)
    wait_until(lambda: "is there a second node of this name" in caplog.text)


@pytest.fixture
def old_broker() -> Iterator[int]:
    """amqtt, which speaks 3.1.1 alone."""
    with amqtt_broker() as port:
        yield port


def test_a_broker_of_the_old_protocol_is_spoken_to_in_it(
    old_broker: int, links: Links, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "plugins.mqtt")
    link = links(old_broker)
    early = link.deliver(_event(1))
    with Subscriber(old_broker, "e/n/camera/#", version=4) as subscriber:
        early.result(10)
        link.deliver(_event(2)).result(10)
        subscriber.wait_until(lambda: any(message.payload == b'{"n": 2}' for message in subscriber.messages))
    assert "connected to broker" in caplog.text
    assert "(MQTT 3.1.1)" in caplog.text
