"""Real brokers and real subscribers for the tests: mosquitto on a free loopback port, paho beside it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions
from waiting import wait_until


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _program(name: str) -> str:
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    found = shutil.which(name, path=path)
    if found is None:
        pytest.skip(f"{name} is not installed (Debian: apt-get install mosquitto)")
    return found


class Mosquitto:
    """A mosquitto process of the test's own. Retained messages and sessions (see ``keep``) survive ``kill``.

    What it acknowledged to a publisher it has by then written to every subscriber that is connected, so a ``kill``
    takes nothing from a Subscriber with ``acknowledge=False`` (one that acknowledges finds the socket broken while
    unread messages are still in it). What the broker kept for absent subscribers dies with it.

    ``passwords``: user names and passwords, none for an open broker. ``extra``: further lines of its configuration.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        passwords: Mapping[str, str] | None = None,
        persistence: bool = True,
        extra: Sequence[str] = (),
    ) -> None:
        self._program = _program("mosquitto")
        self.folder = folder
        self.port = port or free_port()
        self._persistence = persistence
        self._extra = list(extra)
        self._passwords = dict(passwords or {})
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        for user, password in self._passwords.items():
            self.set_password(user, password)
        self._write_configuration()

    @property
    def pid(self) -> int:
        """Of the running broker."""
        assert self._process is not None, "the broker is not running"
        return self._process.pid

    @property
    def log(self) -> str:
        """What the broker wrote so far."""
        return (self.folder / "mosquitto.log").read_text(encoding="utf-8", errors="replace")

    def start(self) -> Mosquitto:
        """Start, and return once it accepts connections."""
        with (self.folder / "mosquitto.log").open("ab") as sink:
            command = [self._program, "-v", "-c", str(self._configuration)]
            self._process = subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT)
        wait_until(self._accepts, 10, f"mosquitto on port {self.port}")
        return self

    def stop(self) -> None:
        """SIGTERM, and wait for its end; nothing happens when it is not running."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL: no goodbye, no saved state but what was saved at the last change."""
        self._end(signal.SIGKILL)

    def keep(self, subscriber: Subscriber) -> None:
        """Return once the subscriber's session is on disk, so that it outlives a ``kill`` from here on."""
        wanted = [subscriber.client_id.encode() + topic.encode() for topic in subscriber.topics]
        database = self.folder / "mosquitto.db"

        def saved() -> bool:
            content = database.read_bytes() if database.exists() else b""
            return all(subscription in content for subscription in wanted)

        assert self._process is not None
        self._process.send_signal(signal.SIGUSR1)
        wait_until(saved, 10, "the broker saves the subscriber's session")

    def set_password(self, user: str, password: str) -> None:
        """Add or change a user; a running broker is told to read the file again."""
        create = [] if self._password_file.exists() else ["-c"]
        command = [_program("mosquitto_passwd"), "-b", *create, str(self._password_file), user, password]
        subprocess.run(command, check=True, capture_output=True)
        if self._process is not None:
            self._process.send_signal(signal.SIGHUP)

    def __enter__(self) -> Mosquitto:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def _password_file(self) -> Path:
        return self.folder / "passwords"

    @property
    def _configuration(self) -> Path:
        return self.folder / "mosquitto.conf"

    def _write_configuration(self) -> None:
        lines = [
            f"listener {self.port} 127.0.0.1",
            "max_queued_messages 0",
            "max_inflight_messages 0",
            "set_tcp_nodelay true",
            *self._extra,
        ]
        if os.geteuid() == 0:
            lines.append("user root")  # else it gives up the right to read the test's folder
        if self._passwords:
            lines += ["allow_anonymous false", f"password_file {self._password_file}"]
        else:
            lines.append("allow_anonymous true")
        if self._persistence:
            lines += ["persistence true", f"persistence_location {self.folder}/"]
            lines.append("autosave_interval 0")
        self._configuration.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def _accepts(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"mosquitto ended at once:\n{self.log}"
        with socket.socket() as probe:
            probe.settimeout(1.0)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            process.wait(10)


@dataclass(frozen=True)
class Received:
    """One message as it came. ``properties``: MQTT 5 user properties; ``retain``: published to be kept."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    content_type: str
    properties: dict[str, str]


class Subscriber:
    """A subscriber that keeps what it gets, reconnects for ever, and has a session that outlives the connection.

    QoS 1; without ``acknowledge`` the broker sends everything again after an orderly restart, nothing after a kill.
    """

    def __init__(
        self,
        port: int,
        topics: str | Sequence[str] = "#",
        *,
        username: str = "",
        password: str = "",
        version: int = 5,
        acknowledge: bool = True,
    ) -> None:
        self.messages: list[Received] = []
        self.client_id = f"test-{uuid.uuid4().hex[:12]}"
        self.topics = [topics] if isinstance(topics, str) else list(topics)
        self._arrived = threading.Condition()
        self._subscribed = threading.Event()
        self._client = self._make(version)
        self._client.manual_ack_set(not acknowledge)
        if username:
            self._client.username_pw_set(username, password)
        self._client.reconnect_delay_set(1, 1)
        self._connect(port, version)
        assert self._subscribed.wait(10), "the subscriber found no broker"

    @property
    def connected(self) -> bool:
        """Whether the broker accepted it and it is there."""
        return self._client.is_connected()

    def on(self, topic: str) -> list[Received]:
        """What came on topics that match, wildcards allowed."""
        with self._arrived:
            return [message for message in self.messages if paho.topic_matches_sub(topic, message.topic)]

    def wait_for(self, n: int, timeout: float = 10.0, topic: str = "#") -> list[Received]:
        """Wait until ``n`` messages came on matching topics; all of them."""
        self.wait_until(lambda: len(self.on(topic)) >= n, timeout, f"{n} messages on {topic}")
        return self.on(topic)

    def wait_until(self, condition: Callable[[], bool], timeout: float = 10.0, what: str = "") -> None:
        """Wait for a condition that messages make true; fail the test otherwise."""
        deadline = time.monotonic() + timeout
        with self._arrived:
            while not condition():
                left = deadline - time.monotonic()
                got = [f"{message.topic} {message.payload[:60]!r}" for message in self.messages[-20:]]
                assert left > 0, f"not within {timeout} s: {what}; the last messages: {got}"
                self._arrived.wait(left)

    def close(self) -> None:
        """Disconnect and end the thread."""
        self._client.disconnect()
        self._client.loop_stop()

    def __enter__(self) -> Subscriber:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _make(self, version: int) -> paho.Client:
        api = CallbackAPIVersion.VERSION2
        if version == 5:
            client = paho.Client(api, client_id=self.client_id, protocol=MQTTProtocolVersion.MQTTv5)
        else:
            client = paho.Client(
                api, client_id=self.client_id, protocol=MQTTProtocolVersion.MQTTv311, clean_session=False
            )
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        return client

    def _connect(self, port: int, version: int) -> None:
        if version == 5:
            session = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            session.SessionExpiryInterval = 3600
            self._client.connect_async("127.0.0.1", port, 5, clean_start=False, properties=session)
        else:
            self._client.connect_async("127.0.0.1", port, 5)
        self._client.loop_start()

    def _on_connect(self, client: paho.Client, _data: Any, flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure or flags.session_present:
            return  # a session that the broker kept is subscribed already
        if client.protocol == MQTTProtocolVersion.MQTTv5:
            options = SubscribeOptions(qos=1, retainAsPublished=True)
            client.subscribe([(topic, options) for topic in self.topics])
        else:
            client.subscribe([(topic, 1) for topic in self.topics])

    def _on_subscribe(self, *_: Any) -> None:
        self._subscribed.set()

    def _on_message(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        received = Received(
            message.topic,
            bytes(message.payload),
            message.qos,
            message.retain,
            getattr(message.properties, "ContentType", ""),
            dict(getattr(message.properties, "UserProperty", [])),
        )
        with self._arrived:
            self.messages.append(received)
            self._arrived.notify_all()
