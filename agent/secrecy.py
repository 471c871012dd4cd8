"""The last line against a secret in a log: what was read as one is known here, and hidden wherever it turns up.

Whoever makes a message leaves secrets out of it in the first place; this is for those that others' code puts there.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

HIDDEN = "***"
SHORTEST = 4
"""A shorter secret would hide half of every text, and is none."""
_USERINFO = re.compile(r"(?<=://)[^\s/?#]*@")
SECRET_QUERY = re.compile(
    r"(?i)([?&;][^=&;#\s]*(?:pass|pwd|user|usr|login|token|key|secret|auth|sig)[^=&;#\s]*=)[^&;#\s\"']+"
)
_known: frozenset[str] = frozenset()


def hide_secret(secret: str) -> str:
    """Know it as a secret from now on, also as it stands in a URL; the secret itself. Safe from any thread."""
    global _known
    forms = {secret, quote(secret, safe=""), quote(secret), unquote(secret)}
    _known |= {form for form in forms if len(form) >= SHORTEST}
    return secret


def redacted(text: str) -> str:
    """The text without any secret that is known, and without names, passwords and what looks like a key in URLs."""
    for secret in sorted(_known, key=len, reverse=True):  # one may be part of another
        text = text.replace(secret, HIDDEN)
    return SECRET_QUERY.sub(rf"\g<1>{HIDDEN}", _USERINFO.sub(f"{HIDDEN}@", text))
