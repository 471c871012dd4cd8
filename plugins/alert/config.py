"""The keys of ``[plugins.alert]``; what they mean stands in README.md."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

Text = Annotated[str, Meta(min_length=1)]


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[plugins.alert.rule]]``. Empty ``labels`` and ``cameras`` mean all; ``cooldown`` in seconds."""

    name: Annotated[str, Meta(min_length=1, max_length=100)]
    labels: tuple[Text, ...] = ()
    cameras: tuple[Text, ...] = ()
    min_score: Annotated[float, Meta(ge=0, le=1)] = 0.5
    cooldown: Annotated[float, Meta(ge=0)] = 60.0


class Webhook(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[plugins.alert.webhook]``. ``timeout`` in seconds."""

    url: Text
    timeout: Annotated[float, Meta(gt=0, le=60)] = 5.0
    headers: dict[str, str] = {}
    token_file: str = ""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("url must be http://HOST… or https://HOST…")
        if parts.username is not None or parts.password is not None:
            raise ValueError("url must not hold a name or password; put the secret into token_file")
        if self.url != "".join(self.url.split()) or not self.url.isprintable():
            raise ValueError("url must not hold white space or control characters")
        for name, value in self.headers.items():
            if not name or not (name + value).isprintable() or not (name + value).isascii() or ":" in name:
                raise ValueError("headers must be printable ASCII, names without a colon")


class AlertConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[plugins.alert]``: the rules, and where alerts go."""

    rule: Annotated[tuple[Rule, ...], Meta(min_length=1)]
    log: bool = True
    mqtt: bool = True
    webhook: Webhook | None = None

    def __post_init__(self) -> None:
        names = [rule.name for rule in self.rule]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ValueError(f"two rules are named {', '.join(map(repr, doubled))}; names must differ")
