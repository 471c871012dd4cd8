"""The link over TLS, against a real mosquitto with certificates made for the test."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from authority import Authority
from broker import Mosquitto, free_port
from waiting import wait_until

from agent.testing import PluginHarness, make_event
from plugins.mqtt import Mqtt
from plugins.mqtt.config import Tls
from plugins.mqtt.security import tls_context


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "ca")


@pytest.fixture
def broker(authority: Authority, tmp_path: Path) -> Iterator[Mosquitto]:
    """It wants a client certificate of the same authority."""
    lines = [f"cafile {authority.path('ca.pem')}", f"certfile {authority.path('broker.pem')}"]
    lines += [f"keyfile {authority.path('broker.key')}", "require_certificate true", "tls_version tlsv1.2"]
    with Mosquitto(tmp_path / "broker", extra=lines) as broker:
        yield broker


def harness(broker: Mosquitto, folder: Path, **tls: object) -> PluginHarness:
    return PluginHarness(Mqtt, {"host": "127.0.0.1", "port": broker.port, "tls": tls}, state_dir=folder)


def test_an_event_goes_over_tls_with_a_client_certificate(
    authority: Authority, broker: Mosquitto, tmp_path: Path
) -> None:
    keys = {"ca": authority.path("ca.pem"), "cert": authority.path("node.pem"), "key": authority.path("node.key")}
    with harness(broker, tmp_path, **keys, alpn=["mqtt"]) as node:
        node.send(make_event())
        wait_until(lambda: node.health.handled == 1, what="the broker acknowledges the event")
    assert "edgewarden-" in broker.log


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"ca": "other.pem", "cert": "node.pem", "key": "node.key"}, "certificate verify failed"),
        ({"ca": "ca.pem"}, ""),
        ({"ca": "ca.pem", "cert": "stranger.pem", "key": "stranger.key"}, ""),
    ],
    ids=["an unknown authority", "no client certificate", "a stranger's certificate"],
)
def test_what_the_certificates_do_not_allow_gets_no_connection(
    authority: Authority,
    broker: Mosquitto,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    keys: dict[str, str],
    reason: str,
) -> None:
    with harness(broker, tmp_path, **{name: authority.path(file) for name, file in keys.items()}):
        wait_until(lambda: "mqtt:" in caplog.text, what="the link says what is wrong")
        if reason:
            wait_until(lambda: reason in caplog.text, what=reason)
        assert "connected to" not in caplog.text


def test_a_broker_whose_certificate_is_for_another_host_is_refused(
    authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = [
        f"cafile {authority.path('ca.pem')}",
        f"certfile {authority.path('ca.pem')}",
        f"keyfile {authority.path('ca.key')}",
    ]
    with (
        Mosquitto(tmp_path / "broker", port=free_port(), extra=lines) as broker,
        harness(broker, tmp_path, ca=authority.path("ca.pem")),
    ):
        wait_until(lambda: "mqtt: no TLS with" in caplog.text, what="the wrong name is told")


def test_nothing_older_than_tls_1_2_is_spoken() -> None:
    context = tls_context(Tls(alpn=("mqtt",)))
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
