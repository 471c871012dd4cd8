"""The keys of ``[plugins.alert]``; what they mean stands in README.md."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from plugins.alert.schedule import Weekday, parse_hours

Text = Annotated[str, Meta(min_length=1)]
Seconds = Annotated[float, Meta(ge=0)]
SinkName = Annotated[str, Meta(min_length=1, max_length=32, pattern=r"^[a-z0-9][a-z0-9-]*$")]


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[plugins.alert.rule]]``. Empty lists mean all; durations in seconds."""

    name: Annotated[str, Meta(min_length=1, max_length=100)]
    labels: tuple[Text, ...] = ()
    cameras: tuple[Text, ...] = ()
    zones: tuple[Text, ...] = ()
    lines: tuple[Text, ...] = ()
    signs: tuple[Literal["loitering", "left_behind", "removed"], ...] = ()
    min_score: Annotated[float, Meta(ge=0, le=1)] = 0.5
    dwell: Seconds = 0.0
    count: Annotated[int, Meta(ge=1, le=1000)] = 1
    hours: tuple[Text, ...] = ()
    weekdays: tuple[Weekday, ...] = ()
    cooldown: Seconds = 60.0
    per: Literal["rule", "camera", "zone", "track"] = "zone"
    group: Seconds = 5.0
    rate: Annotated[int, Meta(ge=1, le=100_000)] = 30
    rate_period: Annotated[float, Meta(gt=0)] = 3600.0
    escalate_after: Seconds = 0.0
    to: tuple[SinkName, ...] = ()
    escalate_to: tuple[SinkName, ...] = ()
    late: Literal["tell", "drop"] = "tell"

    def __post_init__(self) -> None:
        for span in self.hours:
            parse_hours(span)
        if self.escalate_to and not self.escalate_after:
            raise ValueError("escalate_to needs escalate_after, the seconds until then")


class Webhook(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[plugins.alert.webhook]``, or several as ``[[plugins.alert.webhook]]``. ``timeout`` in seconds."""

    url: Text
    name: SinkName = "webhook"
    timeout: Annotated[float, Meta(gt=0, le=60)] = 5.0
    headers: dict[str, str] = {}
    token_file: str = ""
    secret_file: str = ""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    picture: bool = False

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("url must be http://HOST… or https://HOST…")
        if parts.username is not None or parts.password is not None:
            raise ValueError("url must not hold a name or password; put the secret into token_file")
        if self.url != "".join(self.url.split()) or not self.url.isprintable():
            raise ValueError("url must not hold white space or control characters")
        if parts.scheme == "http" and (self.ca_file or self.cert_file):
            raise ValueError("ca_file and cert_file need an https:// url")
        if self.key_file and not self.cert_file:
            raise ValueError("key_file needs cert_file")
        for name, value in self.headers.items():
            if not name or not (name + value).isprintable() or not (name + value).isascii() or ":" in name:
                raise ValueError("headers must be printable ASCII, names without a colon")


class AppriseSink(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[plugins.alert.apprise]``, or several. ``urls_file``: one Apprise URL a line; they hold secrets."""

    urls_file: Text
    name: SinkName = "apprise"
    title: str = "edgewarden {node}: {rule}"
    timeout: Annotated[float, Meta(gt=0, le=300)] = 30.0
    picture: bool = False

    def __post_init__(self) -> None:
        try:
            self.title.format(node="", rule="", state="", camera="", label="")
        except (KeyError, IndexError, ValueError):
            raise ValueError("title may name {node}, {rule}, {state}, {camera} and {label} alone") from None


class CommandSink(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[plugins.alert.command]]``: another plugin, asked by a command of its own. ``timeout`` in seconds."""

    name: SinkName
    command: Text
    timeout: Annotated[float, Meta(gt=0, le=60)] = 5.0


DEFAULT_RULE = Rule(name="person", labels=("person",), min_score=0.6, dwell=1.0)


class AlertConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[plugins.alert]``: the rules, and where alerts go. Without a rule there is one, about people."""

    rule: tuple[Rule, ...] = (DEFAULT_RULE,)
    log: bool = True
    mqtt: bool = True
    webhook: Webhook | tuple[Webhook, ...] = ()
    apprise: AppriseSink | tuple[AppriseSink, ...] = ()
    command: tuple[CommandSink, ...] = ()
    expire: Seconds = 0.0
    max_frame_age: Annotated[float, Meta(gt=0)] = 5.0

    def __post_init__(self) -> None:
        if not self.rule:
            raise ValueError("rule: an empty list raises nothing; leave it out for the one that ships, or name some")
        for what, names in (("rules", [rule.name for rule in self.rule]), ("sinks", list(self.sinks()))):
            doubled = sorted({name for name in names if names.count(name) > 1})
            if doubled:
                raise ValueError(f"two {what} are named {', '.join(map(repr, doubled))}; names must differ")
        known = set(self.sinks())
        for rule in self.rule:
            if strangers := sorted({*rule.to, *rule.escalate_to} - known):
                raise ValueError(
                    f"rule {rule.name!r} tells {', '.join(strangers)}; there is {', '.join(sorted(known))}"
                )

    def webhooks(self) -> tuple[Webhook, ...]:
        """All of them."""
        return (self.webhook,) if isinstance(self.webhook, Webhook) else self.webhook

    def apprises(self) -> tuple[AppriseSink, ...]:
        """All of them."""
        return (self.apprise,) if isinstance(self.apprise, AppriseSink) else self.apprise

    def shows_pictures(self) -> bool:
        """Whether any sink wants them."""
        return any(one.picture for one in self.webhooks()) or any(one.picture for one in self.apprises())

    def sinks(self) -> Iterator[str]:
        """The names of all sinks, the log's first."""
        yield from ["log"] * self.log
        yield from ["mqtt"] * self.mqtt
        yield from (webhook.name for webhook in self.webhooks())
        yield from (apprise.name for apprise in self.apprises())
        yield from (command.name for command in self.command)
