"""Where alerts go: webhooks over TLS, signed, refused; Apprise in its own process; `edgewarden alert test`."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
from authority import Authority
from broker import Mosquitto, Subscriber
from click.testing import CliRunner
from daemon import Daemon, write_config
from receiver import Receiver, receiving
from waiting import wait_until

from agent import Health, PluginError
from agent.cli import main
from agent.data import CameraHealth, LogHealth
from agent.testing import NODE, PluginHarness, make_event, make_frame
from plugins.alert import Alert
from plugins.alert.command import command
from plugins.alert.config import AppriseSink, Webhook
from plugins.alert.message import AlertMessage
from plugins.alert.notifier import Notifier
from plugins.alert.notify_process import urls_of
from plugins.alert.portraits import Portraits
from plugins.alert.refusal import RefusedError
from plugins.alert.signature import read_secret, signature
from plugins.alert.webhook import Poster

RULE = {"name": "people", "labels": ["person"], "cooldown": 0, "group": 0, "rate": 1000}
ALERT = AlertMessage(
    node=NODE, rule="people", state="raised", alert="a1", id="e1", seq=0, camera="cam", label="person", score=0.9,
    started_at=1.0, raised_at=2.0,
)  # fmt: skip


def _harness(tmp_path: Path, **keys: Any) -> PluginHarness:
    return PluginHarness(Alert, {"rule": [RULE], "mqtt": False, **keys}, state_dir=tmp_path / "state")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as server:
        yield server


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "ca")


@pytest.fixture
def secure(authority: Authority) -> Iterator[Receiver]:
    """It wants a client certificate of the same authority."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.path("ca.pem"))
    context.load_cert_chain(authority.path("broker.pem"), authority.path("broker.key"))
    context.verify_mode = ssl.CERT_REQUIRED
    with receiving(context) as server:
        yield server


def test_a_webhook_over_tls_knows_its_server_and_shows_its_own_certificate(
    authority: Authority, secure: Receiver
) -> None:
    ca, cert, key = (authority.path(name) for name in ("ca.pem", "node.pem", "node.key"))
    Poster(Webhook(url=secure.url, ca_file=ca, cert_file=cert, key_file=key))(ALERT)
    assert secure.told == [("e1", "raised")]
    with pytest.raises(PluginError, match="CERTIFICATE_VERIFY_FAILED"):
        Poster(Webhook(url=secure.url, cert_file=cert, key_file=key))(ALERT)
    with pytest.raises(PluginError, match=r"cannot be reached|broke off"):
        Poster(Webhook(url=secure.url, ca_file=ca))(ALERT)
    with pytest.raises(PluginError, match=r"other\.pem cannot be used: No such file"):
        Poster(Webhook(url=secure.url, ca_file=str(authority.folder / "no" / "other.pem")))(ALERT)
    with pytest.raises(PluginError, match=r"cert_file .*node\.pem cannot be used"):
        Poster(Webhook(url=secure.url, ca_file=ca, cert_file=cert, key_file=authority.path("ca.key")))(ALERT)
    assert len(secure.taken) == 1


def test_a_renewed_certificate_is_used_without_a_restart(
    authority: Authority, secure: Receiver, tmp_path: Path
) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_bytes(Path(authority.path("other.pem")).read_bytes())
    cert, key = authority.path("node.pem"), authority.path("node.key")
    post = Poster(Webhook(url=secure.url, ca_file=str(ca), cert_file=cert, key_file=key))
    with pytest.raises(PluginError, match="VERIFY_FAILED"):
        post(ALERT)
    ca.write_bytes(Path(authority.path("ca.pem")).read_bytes())
    post(ALERT)
    assert secure.told == [("e1", "raised")]


def test_the_signature_is_that_of_the_specification() -> None:
    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    wanted = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}') == wanted


@pytest.mark.parametrize("text", ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n", "a key of thirty-two characters !\n"])
def test_a_webhook_is_signed_and_carries_one_id_over_all_its_tries(
    text: str, receiver: Receiver, tmp_path: Path
) -> None:
    path = tmp_path / "secret"
    path.write_text(text, encoding="utf-8")
    post = Poster(Webhook(url=receiver.url, secret_file=str(path)), wall=lambda: 1.7e9)
    post(ALERT)
    post(ALERT)
    headers, body = receiver.headers[0], receiver.bodies[0]
    assert [one["Webhook-Id"] for one in receiver.headers] == ["a1.raised", "a1.raised"]
    assert headers["Webhook-Timestamp"] == "1700000000"
    signed = b"a1.raised.1700000000." + body
    digest = hmac.new(read_secret(str(path)), signed, hashlib.sha256).digest()
    assert headers["Webhook-Signature"] == "v1," + base64.b64encode(digest).decode()


@pytest.mark.parametrize(
    ("text", "fault"), [("whsec_@@@", "not base64"), ("short", "holds 5 bytes"), (None, "No such")]
)
def test_a_key_that_cannot_be_used_is_named_without_being_told(text: str | None, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(PluginError, match=fault) as error:
        read_secret(str(path))
    assert text is None or text not in str(error.value)


def test_a_message_that_the_receiver_refuses_is_given_up_and_those_behind_it_arrive(
    receiver: Receiver, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plugins.alert.courier.FIRST_DELAY", 0.02)
    receiver.status = 422
    with _harness(tmp_path, webhook={"url": receiver.url}) as harness:
        harness.send(make_event(id="bad"))
        wait_until(lambda: harness.metrics.get("webhook_refused"), timeout=30)
        receiver.status = 200
        harness.send(make_event(id="good"))
        wait_until(lambda: receiver.taken)
        assert receiver.told == [("good", "raised")]
        assert harness.metrics["webhook_failed"] == 4
    assert "refuses people raised for good" in caplog.text
    assert "answered 422" in caplog.text


def test_a_receiver_that_asks_for_time_gets_it(receiver: Receiver) -> None:
    post = Poster(Webhook(url=receiver.url))
    for status, asked, wanted in ((503, "7", 7.0), (429, "9999", 300.0), (503, "Wed, 21 Oct", None), (500, "7", None)):
        receiver.status, receiver.retry_after = status, asked
        with pytest.raises(PluginError) as error:
            post(ALERT)
        assert error.value.retry_after == wanted
        assert not isinstance(error.value, RefusedError)


def test_health_says_which_sink_fails_until_it_works(receiver: Receiver, tmp_path: Path) -> None:
    receiver.status = 500
    with _harness(tmp_path, webhook={"url": receiver.url}) as harness:

        def state() -> str:
            harness.health_tick()
            return harness.health.state

        harness.send(make_event())
        wait_until(lambda: state() == "degraded")
        assert "the sink webhook fails: http://127.0.0.1" in harness.health.reason
        receiver.status = 200
        wait_until(lambda: state() == "running")


def test_several_webhooks_and_an_escalation_to_one_that_is_told_nothing_else(tmp_path: Path) -> None:
    rule = {**RULE, "to": ["log", "first"], "escalate_after": 0.01, "escalate_to": ["boss"]}
    with receiving() as first, receiving() as boss:
        hooks = [{"name": "first", "url": first.url}, {"name": "boss", "url": boss.url}]
        with _harness(tmp_path, rule=[rule], webhook=hooks) as harness:
            event = make_event(id="e1")
            harness.send(event)
            up = Health(node=NODE, at=0.0, cameras={"cam": CameraHealth(state="up")})

            def escalated() -> bool:
                harness.health_tick(up)
                return bool(boss.taken)

            wait_until(escalated)
            harness.send(msgspec.structs.replace(event, kind="end", seq=1))
            wait_until(lambda: len(boss.taken) == 2 and len(first.taken) == 2)
        assert first.told == [("e1", "raised"), ("e1", "resolved")]
        assert boss.told == [("e1", "escalated"), ("e1", "resolved")]


def test_time_means_nothing_while_events_wait_to_be_heard_or_the_camera_is_frozen(
    receiver: Receiver, tmp_path: Path
) -> None:
    rule = {**RULE, "dwell": 0.05}
    with _harness(tmp_path, rule=[rule], webhook={"url": receiver.url}) as harness:
        harness.send(make_event())
        behind = LogHealth(waiting={"alert": 3})
        for camera in ("frozen", "black", "down"):
            harness.health_tick(Health(node=NODE, at=0.0, cameras={"cam": CameraHealth(state=camera)}))
        up = Health(node=NODE, at=0.0, cameras={"cam": CameraHealth(state="up")})
        harness.health_tick(msgspec.structs.replace(up, log=behind))
        assert "raised" not in harness.metrics

        def raised() -> bool:
            harness.health_tick(up)
            return bool(receiver.taken)

        wait_until(raised)


def test_a_rate_holds_and_its_summary_comes_when_there_is_room(receiver: Receiver, tmp_path: Path) -> None:
    rule = {**RULE, "rate": 2, "rate_period": 1.5}
    with _harness(tmp_path, rule=[rule], webhook={"url": receiver.url}, log=False) as harness:
        for n in range(6):
            event = make_event(id=f"e{n}")
            harness.send(event)
            harness.send(msgspec.structs.replace(event, kind="end", seq=1))
        wait_until(lambda: any(alert["state"] == "suppressed" for alert in receiver.taken))
    raised = [alert["id"] for alert in receiver.taken if alert["state"] == "raised"]
    (summary,) = [alert for alert in receiver.taken if alert["state"] == "suppressed"]
    assert len(raised) + summary["suppressed"] == 6
    assert raised[:2] == ["e0", "e1"]


def _shown(message: dict[str, Any]) -> tuple[int, ...]:
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(message["picture"]), np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return tuple(picture.shape)


def test_an_alert_carries_the_events_picture_also_after_an_outage_and_a_restart(
    receiver: Receiver, tmp_path: Path
) -> None:
    receiver.status = 503
    event = make_event(id="e1", best_box=(10.0, 10.0, 600.0, 500.0))
    hooks = [{"url": receiver.url, "picture": True}]
    with _harness(tmp_path, webhook=hooks) as harness:
        harness.send(event, make_frame(1280, 720))
        wait_until(lambda: receiver.tries >= 1)
    receiver.status = 200
    with _harness(tmp_path, webhook=hooks) as harness:
        wait_until(lambda: receiver.taken)
        harness.send(msgspec.structs.replace(event, kind="end", seq=1))
        wait_until(lambda: len(receiver.taken) == 2)
    assert _shown(receiver.taken[0]) == (360, 640, 3)
    assert "picture" not in receiver.taken[1]


def test_an_alert_that_only_time_raised_carries_the_best_picture_so_far(receiver: Receiver, tmp_path: Path) -> None:
    rule = {**RULE, "dwell": 0.05}
    with _harness(tmp_path, rule=[rule], webhook={"url": receiver.url, "picture": True}) as harness:
        harness.send(make_event(), make_frame(320, 240))

        def raised() -> bool:
            harness.health_tick(Health(node=NODE, at=0.0, cameras={"cam": CameraHealth(state="up")}))
            return bool(receiver.taken)

        wait_until(raised)
    assert _shown(receiver.taken[0]) == (240, 320, 3)


def test_pictures_of_alerts_are_bounded_on_disk_and_in_memory(tmp_path: Path) -> None:
    portraits = Portraits(tmp_path / "p", budget=60_000)
    frame = make_frame(128, 96)
    names = [f"a{n}" for n in range(8)]
    for name in names:
        portraits.see(make_event(id=name), frame)
        portraits.keep(msgspec.structs.replace(ALERT, id=name, alert=name))
    kept = {path.stem for path in (tmp_path / "p").iterdir()}
    assert kept
    assert kept == set(names[-len(kept) :])
    assert len(kept) < 8
    assert portraits.path_of(msgspec.structs.replace(ALERT, alert="a7")) is not None
    assert portraits.path_of(msgspec.structs.replace(ALERT, alert="a7", state="resolved")) is None
    assert portraits.path_of(msgspec.structs.replace(ALERT, alert="a0")) is None


# Apprise


@pytest.fixture
def apprise() -> None:
    pytest.importorskip("apprise", reason="the extra notify is not installed")


def _notifier(tmp_path: Path, *lines: str, **keys: Any) -> Notifier:
    path = tmp_path / "apprise.urls"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Notifier(AppriseSink(urls_file=str(path), **keys))


def _json_url(receiver: Receiver) -> str:
    return f"json://127.0.0.1:{receiver.server_address[1]}/secret-path"


@pytest.mark.usefixtures("apprise")
def test_apprise_tells_its_services_from_a_process_of_its_own(receiver: Receiver, tmp_path: Path) -> None:
    _notifier(tmp_path, "# my phone", "", _json_url(receiver))(ALERT)
    (told,) = receiver.taken
    assert told["title"] == "edgewarden node: people"
    assert told["message"] == "alert people raised: person at cam, score 0.90 (event e1)"
    assert told["type"] == "warning"


@pytest.mark.usefixtures("apprise")
def test_apprise_gets_the_picture_as_an_attachment(receiver: Receiver, tmp_path: Path) -> None:
    portraits = Portraits(tmp_path / "p")
    portraits.see(make_event(id="e1"), make_frame())
    portraits.keep(ALERT)
    urls = tmp_path / "urls"
    urls.write_text(_json_url(receiver), encoding="utf-8")
    Notifier(AppriseSink(urls_file=str(urls), picture=True), portraits.path_of)(ALERT)
    (attached,) = receiver.taken[0]["attachments"]
    assert attached["mimetype"] == "image/jpeg"
    assert _shown({"picture": attached["base64"]}) == (48, 64, 3)


@pytest.mark.usefixtures("apprise")
def test_of_several_services_only_those_that_failed_are_told_again(receiver: Receiver, tmp_path: Path) -> None:
    with receiving() as other:
        other.status = 500
        notify = _notifier(tmp_path, _json_url(receiver), _json_url(other), title="{rule} {state}")
        with pytest.raises(PluginError, match=r"JSON \(line 2 of .*apprise.urls\) did not take it") as error:
            notify(ALERT)
        assert "secret-path" not in str(error.value)
        other.status = 200
        notify(ALERT)
        assert [len(receiver.taken), len(other.taken)] == [1, 1]
        notify(ALERT)
        assert len(receiver.taken) == 2


@pytest.mark.usefixtures("apprise")
def test_a_service_that_hangs_is_ended_with_its_process(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        notify = _notifier(tmp_path, f"json://127.0.0.1:{deaf.getsockname()[1]}/", timeout=2.0)
        with pytest.raises(PluginError, match=r"not done in 2 s and was ended"):
            notify(ALERT)


@pytest.mark.usefixtures("apprise")
@pytest.mark.parametrize(
    ("lines", "fault"), [([""], "names no service"), (["secret://x"], r"line 1 of .* is no Apprise URL")]
)
def test_a_file_of_urls_that_is_wrong_is_named(lines: list[str], fault: str, tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=fault) as error:
        _notifier(tmp_path, *lines)(ALERT)
    assert "secret" not in str(error.value)


@pytest.mark.usefixtures("apprise")
def test_a_file_of_urls_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"nowhere cannot be read: No such file"):
        Notifier(AppriseSink(urls_file=str(tmp_path / "nowhere")))(ALERT)


def test_urls_come_one_a_line_with_comments() -> None:
    assert urls_of("# phone\nntfy://a\n\n  json://b  \n") == [(2, "ntfy://a"), (4, "json://b")]


@pytest.mark.usefixtures("apprise")
def test_the_daemon_itself_never_imports_apprise(receiver: Receiver, tmp_path: Path) -> None:
    import sys

    notify = _notifier(tmp_path, _json_url(receiver))
    had = "apprise" in sys.modules
    notify(ALERT)
    assert ("apprise" in sys.modules) == had


# edgewarden alert test


def _config(tmp_path: Path, table: str, port: int | None = None) -> Path:
    return write_config(tmp_path / "agent.toml", source="synthetic://desk?fps=5", port=port, more=table)


def _table(receiver: Receiver, mqtt: bool) -> str:
    return (
        f'[plugins.alert]\nmqtt = {str(mqtt).lower()}\n[[plugins.alert.rule]]\nname = "yard"\nzones = ["yard"]\n'
        f'[plugins.alert.webhook]\nurl = "{receiver.url}"\n'
    )


def test_a_trial_without_a_daemon_tells_what_it_can_from_here(receiver: Receiver, tmp_path: Path) -> None:
    config = _config(tmp_path, _table(receiver, mqtt=False))
    done = CliRunner().invoke(command, ["test", "yard", "--config", str(config)])
    assert done.exit_code == 0, done.output
    assert "webhook      arrived" in done.output
    (told,) = receiver.taken
    assert (told["state"], told["rule"], told["zone"]) == ("test", "yard", "yard")
    receiver.status = 500
    failed = CliRunner().invoke(command, ["test", "yard", "--config", str(config), "--json"])
    assert failed.exit_code == 1
    answer = json.loads(next(line for line in failed.output.splitlines() if line.startswith("{")))
    assert answer["sinks"]["webhook"]["error"].endswith("answered 500 Internal Server Error")
    assert answer["sinks"]["log"] == {"ok": True, "error": ""}


def test_a_trial_by_mqtt_without_a_daemon_says_why_not(receiver: Receiver, tmp_path: Path) -> None:
    done = CliRunner().invoke(command, ["test", "yard", "--config", str(_config(tmp_path, _table(receiver, True)))])
    assert done.exit_code == 1
    assert "mqtt         the agent is not running" in done.output


@pytest.mark.parametrize(
    ("words", "table", "code", "text"),
    [
        (["yrad"], '[[plugins.alert.rule]]\nname = "yard"\n', 69, "rule 'yrad': there is none"),
        (["yard"], "", 78, "there is no [plugins.alert]"),
        (["yard"], "[plugins.alert]\nrules = 1\n", 78, "plugins.alert: "),
    ],
)
def test_a_trial_that_cannot_be_names_what_is_wrong(
    words: list[str], table: str, code: int, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["alert", "test", *words, "--config", str(_config(tmp_path, table))])
    assert end.value.code == code
    assert text in capsys.readouterr().err


def test_a_trial_goes_through_the_running_daemon_to_its_broker(
    receiver: Receiver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Mosquitto(tmp_path / "broker") as broker, Subscriber(broker.port, "edgewarden/node/alerts") as subscriber:
        config = _config(tmp_path, _table(receiver, mqtt=True), broker.port)
        daemon = Daemon(config, "--seconds", "60")
        try:
            status = tmp_path / "state" / "status.json"
            wait_until(lambda: _has_both_plugins(status), timeout=60)
            done = CliRunner().invoke(command, ["test", "yard", "--config", str(config)])
            assert done.exit_code == 0, done.output
            (message,) = subscriber.wait_for(1)
        finally:
            daemon.terminate()
            daemon.finish()
    assert json.loads(message.payload)["state"] == "test"
    assert [alert["state"] for alert in receiver.taken if alert["state"] == "test"] == ["test"]
    assert "alert yard test" in daemon.stderr
    assert not list((tmp_path / "state" / "plugins" / "alert" / "trials").iterdir())


def _has_both_plugins(status: Path) -> bool:
    """Both run, and the broker has us."""
    try:
        plugins = json.loads(status.read_bytes())["health"]["plugins"]
    except (OSError, ValueError):
        return False
    return all(plugins[name]["state"] == "running" for name in ("mqtt", "alert"))
