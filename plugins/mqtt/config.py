"""The keys of ``[plugins.mqtt]`` and the arguments of its command; what they mean stands in README.md."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Text = Annotated[str, Meta(min_length=1)]


CommandName = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_.-]{0,63}$")]
COMMANDS: tuple[str, ...] = ("snapshot", "pause", "resume", "limit", "reload", "ping")
"""What ``commands = true`` allows. Those of other plugins are allowed by name alone."""


class Tls(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[plugins.mqtt.tls]``: its presence turns TLS on. Paths of PEM files; empty means the system's authorities."""

    ca: str = ""
    cert: str = ""
    key: str = ""
    alpn: tuple[Text, ...] = ()
    insecure: bool = False

    def __post_init__(self) -> None:
        if self.key and not self.cert:
            raise ValueError("key needs cert, the certificate it belongs to")


class MqttConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[plugins.mqtt]``. Times in seconds, sizes in bytes, rates in messages a second."""

    host: Text
    port: Annotated[int, Meta(ge=1, le=65535)] = 1883
    base: Annotated[str, Meta(min_length=1, pattern=r"^[^+#/\x00-\x1f\x7f$][^+#\x00-\x1f\x7f]*$")] = "edgewarden"
    protocol: Literal["auto", "5", "3.1.1"] = "auto"
    username: str = ""
    username_file: str = ""
    password_file: str = ""
    tls: Tls | None = None
    keepalive: Annotated[int, Meta(ge=5, le=3600)] = 15
    detections_rate: Annotated[float, Meta(ge=0, le=1000)] = 2.0
    health_interval: Annotated[float, Meta(ge=1, le=3600)] = 10.0
    event_expiry: Annotated[int, Meta(ge=0, le=0xFFFFFFFF)] = 0
    snapshot: bool = True
    snapshot_quality: Annotated[int, Meta(ge=10, le=100)] = 80
    homeassistant: bool = False
    commands: bool | tuple[CommandName, ...] = False
    group_commands: bool = False
    max_snapshot_bytes: Annotated[int, Meta(ge=1024, le=64 << 20)] = 1 << 20

    def __post_init__(self) -> None:
        if self.username and self.username_file:
            raise ValueError("username_file: username is given already; leave one of them out")
        if self.password_file and not (self.username or self.username_file):
            raise ValueError("password_file needs username, the name the password belongs to")
        if self.group_commands and not self.commands:
            raise ValueError("group_commands needs commands")
        if self.base.endswith("/"):
            raise ValueError("base must not end with a slash")

    @property
    def allowed(self) -> tuple[str, ...]:
        """The names of the commands that may come from the broker."""
        if isinstance(self.commands, bool):
            return COMMANDS if self.commands else ()
        return self.commands


class SnapshotArgs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``snapshot``: the newest picture of one camera."""

    camera: Annotated[str, Meta(min_length=1, max_length=200)]


class PublishArgs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``mqtt.publish``: ``topic`` is relative to ``<base>/<node>``."""

    topic: Text
    payload: str
    qos: Annotated[int, Meta(ge=0, le=1)] = 1
    retain: bool = False
