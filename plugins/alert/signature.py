"""Signs a webhook by the Standard Webhooks specification (standardwebhooks.com), so that its receiver may trust it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from pathlib import Path

from agent import PluginError

PREFIX = "whsec_"
SHORTEST = 16


def signature(secret: bytes, name: str, at: int, body: bytes) -> str:
    """``v1,`` and the base64 of HMAC-SHA256 over ``name.at.body``; ``at`` in UNIX seconds."""
    digest = hmac.new(secret, f"{name}.{at}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def read_secret(path: str) -> bytes:
    """The key in a file: base64 after ``whsec_``, anything else as it stands. PluginError for none, or a short one."""
    try:
        text = Path(path).read_text(encoding="utf-8").strip()
        secret = base64.b64decode(text[len(PREFIX) :], validate=True) if text.startswith(PREFIX) else text.encode()
    except (OSError, UnicodeDecodeError, binascii.Error) as error:
        reason = getattr(error, "strerror", None) or "not base64 after whsec_"
        raise PluginError(f"secret_file {path} cannot be read: {reason}") from None
    if len(secret) < SHORTEST:
        raise PluginError(f"secret_file {path} holds {len(secret)} bytes; a key needs {SHORTEST} or more")
    return secret
