"""POSTs an alert's JSON to a URL of the user's. No redirects are followed; what may be secret is never shown."""

from __future__ import annotations

import base64
import http.client
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from agent import PluginError, hide_secret, to_json
from plugins.alert.config import Webhook
from plugins.alert.message import AlertMessage
from plugins.alert.refusal import RefusedError
from plugins.alert.signature import read_secret, signature

FOR_GOOD = frozenset({400, 405, 406, 410, 413, 414, 415, 422})
"""Answers about the message, not about the moment."""
LONGEST_ASKED = 300.0


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_args: Any, **_keywords: Any) -> None:
        return None  # the 3xx answer then stands as the error that it is here


class Poster:
    """One webhook. A call returns after an answer of 2xx; PluginError otherwise, RefusedError where trying again is in
    vain. ``picture``: an alert's file, for one that wants it. ``wall``: UNIX seconds, for the signature."""

    def __init__(
        self,
        webhook: Webhook,
        picture: Callable[[AlertMessage], Path | None] = lambda alert: None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._webhook = webhook
        self._picture = picture
        self._wall = wall
        parts = urlsplit(webhook.url)
        self._where = f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
        self._opener: urllib.request.OpenerDirector | None = None

    def __call__(self, alert: AlertMessage) -> None:
        body = self._body(alert)
        request = urllib.request.Request(self._webhook.url, body, self._headers(alert, body), method="POST")  # noqa: S310
        try:
            with self._open(request) as answer:
                answer.read(1024)
        except urllib.error.HTTPError as error:
            error.close()
            raise self._answered(error) from None
        except urllib.error.URLError as error:
            self._opener = None  # certificates are read anew: they may have been what was wrong
            raise PluginError(f"{self._where} cannot be reached: {error.reason}") from None
        except (OSError, http.client.HTTPException) as error:
            self._opener = None
            raise PluginError(f"{self._where} broke off: {error or type(error).__name__}") from None

    def _body(self, alert: AlertMessage) -> bytes:
        path = self._picture(alert) if self._webhook.picture else None
        try:
            picture = path.read_bytes() if path else b""
        except OSError:
            picture = b""  # it was cleared away meanwhile: the alert is what matters
        if not picture:
            return to_json(alert)
        return to_json({**msgspec.to_builtins(alert), "picture": base64.b64encode(picture).decode()})

    def _open(self, request: urllib.request.Request) -> Any:
        if self._opener is None:
            secure = self._webhook.url.startswith("https:")
            handlers = [urllib.request.HTTPSHandler(context=self._tls())] if secure else []
            self._opener = urllib.request.build_opener(_NoRedirect, *handlers)
        return self._opener.open(request, timeout=self._webhook.timeout)

    def _tls(self) -> ssl.SSLContext:
        webhook = self._webhook
        try:
            context = ssl.create_default_context(cafile=webhook.ca_file or None)
        except (OSError, ssl.SSLError) as error:
            raise PluginError(f"ca_file {webhook.ca_file} cannot be used: {_reason(error)}") from None
        if webhook.cert_file:
            try:
                context.load_cert_chain(webhook.cert_file, webhook.key_file or None, password=_no_password)
            except (OSError, ssl.SSLError, ValueError) as error:
                raise PluginError(f"cert_file {webhook.cert_file} cannot be used: {_reason(error)}") from None
        return context

    def _headers(self, alert: AlertMessage, body: bytes) -> dict[str, str]:
        webhook = self._webhook
        name = f"{alert.alert}.{alert.state}"
        headers = {"Content-Type": "application/json", "User-Agent": "edgewarden", "webhook-id": name}
        headers |= webhook.headers
        if webhook.token_file:
            headers["Authorization"] = f"Bearer {_read_token(webhook.token_file)}"
        if webhook.secret_file:
            at = int(self._wall())
            headers["webhook-timestamp"] = str(at)
            headers["webhook-signature"] = signature(read_secret(webhook.secret_file), name, at, body)
        return headers

    def _answered(self, error: urllib.error.HTTPError) -> PluginError:
        text = f"{self._where} answered {error.code} {_meaning(error.code)}"
        if error.code in FOR_GOOD:
            return RefusedError(text)
        asked = error.headers.get("Retry-After", "") if error.code in (429, 503) else ""
        return PluginError(text, retry_after=min(float(asked), LONGEST_ASKED) if asked.isdecimal() else None)


def _no_password() -> str:
    raise ValueError("its key has a password; store it without")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _meaning(code: int) -> str:
    if 300 <= code < 400:
        return "(a redirect, which is not followed; set url to where it leads)"
    return http.client.responses.get(code, "")


def _read_token(path: str) -> str:
    try:
        token = Path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not ASCII text"
        raise PluginError(f"token_file {path} cannot be read: {reason}") from None
    if not token.isprintable():
        raise PluginError(f"token_file {path} holds more than one line")
    return hide_secret(token)
