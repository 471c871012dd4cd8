"""POSTs an alert's JSON to a URL of the user's. No redirects are followed; what may be secret is never shown."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from agent import PluginError
from plugins.alert.config import Webhook


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_args: Any, **_keywords: Any) -> None:
        return None  # the 3xx answer then stands as the error that it is here


class Poster:
    """One webhook. A call returns after an answer of 2xx and raises PluginError otherwise."""

    def __init__(self, webhook: Webhook) -> None:
        self._webhook = webhook
        parts = urlsplit(webhook.url)
        self._where = f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
        self._opener = urllib.request.build_opener(_NoRedirect)

    def __call__(self, body: bytes) -> None:
        request = urllib.request.Request(self._webhook.url, body, self._headers(), method="POST")  # noqa: S310
        try:
            with self._opener.open(request, timeout=self._webhook.timeout) as answer:
                answer.read(1024)
        except urllib.error.HTTPError as error:
            error.close()
            raise PluginError(f"{self._where} answered {error.code} {_meaning(error.code)}") from None
        except urllib.error.URLError as error:
            raise PluginError(f"{self._where} cannot be reached: {error.reason}") from None
        except (OSError, http.client.HTTPException) as error:
            raise PluginError(f"{self._where} broke off: {error or type(error).__name__}") from None

    def _headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "User-Agent": "edgewarden", **self._webhook.headers}
        if self._webhook.token_file:
            headers["Authorization"] = f"Bearer {_read_token(self._webhook.token_file)}"
        return headers


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
    return token
