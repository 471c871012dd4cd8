"""The real daemon with a secret in every place that may hold one, and everything failing: none of them is ever told."""

from __future__ import annotations

import json
import signal
import socket
from pathlib import Path
from urllib.parse import quote

import pytest
from broker import Mosquitto, Subscriber, free_port
from daemon import Daemon, write_config
from waiting import wait_until

SECRETS = {
    "url": "inTheAddress-1",
    "file": "in/the@file 2",
    "mqtt": "of-the-broker-3",
    "token": "of-the-webhook-4",
    "wrong": "in-the-wrong-place-5",
}

CAMERAS = """
[[camera]]
name = "lost"
source = "rtsp://viewer:{url}@127.0.0.1:{port}/stream"
[[camera]]
name = "other"
source = "http://127.0.0.1:{port}/video.mjpg"
username = "viewer"
password_file = "{folder}/file"
[[camera]]
name = "piped"
source = "gst:rtspsrc location=rtsp://me:{url}@127.0.0.1:{port}/x user-pw={url} ! fakesink"
"""
PLUGINS = """
username = "user"
password_file = "{folder}/mqtt"
[plugins.alert]
[[plugins.alert.rule]]
name = "all"
[plugins.alert.webhook]
url = "http://127.0.0.1:{port}/hook?token={url}"
token_file = "{folder}/token"
[plugins.snapshot]
folder = "{folder}/pictures"
"""


def leaks(text: str) -> list[str]:
    return [name for name, secret in SECRETS.items() if secret in text or quote(secret, safe="") in text]


def refused(daemon: Daemon) -> int:
    return daemon.stderr.count("reload refused")


@pytest.mark.parametrize("format", ["text", "json"])
def test_no_secret_reaches_a_log_a_status_or_a_message(tmp_path: Path, format: str) -> None:
    assert leaks(SECRETS["file"]) == ["file"]
    for name, secret in SECRETS.items():
        (tmp_path / name).write_text(secret + "\n", encoding="utf-8")
        (tmp_path / name).chmod(0o600)
    told: list[str] = []
    with (
        Mosquitto(tmp_path / "broker", passwords={"user": SECRETS["mqtt"]}) as broker,
        Subscriber(broker.port, username="user", password=SECRETS["mqtt"]) as subscriber,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
    ):
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)

        def listen() -> bool:
            try:
                told.append(manager.recv(65536).decode())
            except BlockingIOError:
                return False
            return listen() or True

        places = {"folder": tmp_path, "port": free_port(), **{name: SECRETS[name] for name in ("url",)}}
        config = write_config(
            tmp_path / "agent.toml",
            source="synthetic://desk?fps=10&size=320x240",
            port=broker.port,
            more=PLUGINS.format(**places) + CAMERAS.format(**places),
        )
        text = config.read_text(encoding="utf-8").replace(
            "[model]", f'log_level = "debug"\nlog_format = "{format}"\n[model]'
        )
        config.write_text(text, encoding="utf-8")
        daemon = Daemon(config, env={"NOTIFY_SOCKET": str(tmp_path / "notify"), "JOURNAL_STREAM": ""})
        try:
            for said in ("mqtt: connected", "camera lost: down", "camera other: down", "webhook"):
                wait_until(lambda said=said: listen() or said in daemon.stderr, 60, said)  # type: ignore[misc]
            for wrong in (f'[agent]\npassword = "{SECRETS["wrong"]}"\n', f'x = "rtsp://me:{SECRETS["wrong"]}@host"\n['):
                config.write_text(text + wrong, encoding="utf-8")
                before = refused(daemon)
                daemon.process.send_signal(signal.SIGHUP)
                wait_until(lambda before=before: listen() or refused(daemon) > before, 30, "refused")  # type: ignore[misc]
            (tmp_path / "mqtt").write_text("now-a-wrong-one-6", encoding="utf-8")
            broker.stop()
            broker.start()
            wait_until(lambda: listen() or "refused the connection" in daemon.stderr, 30, "refused by the broker")
            wait_until(lambda: listen() or any("reload refused" in line for line in told), 30, "the status says so")
            state = (tmp_path / "state" / "status.json").read_text(encoding="utf-8")
            messages = [message.payload.decode("utf-8", "replace") for message in subscriber.messages]
            daemon.terminate()
            daemon.finish(60)
        finally:
            if daemon.process.poll() is None:
                daemon.kill()
    assert not leaks(daemon.stderr)
    assert not leaks("\n".join(told))
    assert not leaks(state)
    assert not leaks("\n".join(messages))
    assert "now-a-wrong-one-6" not in daemon.stderr
    if format == "json":
        ours = [line for line in daemon.stderr.splitlines() if line.startswith("{")]
        assert {"camera", "plugin"} <= {key for line in ours for key in json.loads(line)}
