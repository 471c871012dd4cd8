"""Addresses of sources: how one is shown without its secrets, and how credentials are put into a URL.

What opens an address, and what scheme means which source, is factory.py's.
"""

from __future__ import annotations

import re
from urllib.parse import quote

from agent.errors import SourceError
from agent.secrecy import HIDDEN, SECRET_QUERY, hide_secret

_URL_REST = re.compile(r"(?<=://)\S+")
_SECRET_PROPERTY = re.compile(
    r"(?i)\b([\w-]*(?:user-id|user-pw|password|token|secret)\s*=\s*)(\"[^\"]*\"|'[^']*'|[^\s!]+)"
)


def scheme_of(spec: str) -> str:
    """The lower-case scheme of ``scheme://…``, empty where there is none."""
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", spec)
    return match.group(1).lower() if match else ""


def redact(spec: str) -> str:
    """The source as it may be logged: user, password and what looks like a key or a token are ``***``.

    Where it is unclear which ``@`` ends a password (one that was not percent-encoded may hold ``/`` and ``@``),
    more is hidden rather than less.
    """
    if spec.startswith("gst:"):
        hidden = _URL_REST.sub(lambda match: _without_userinfo(match.group()), spec)
        return _SECRET_PROPERTY.sub(rf"\g<1>{HIDDEN}", SECRET_QUERY.sub(rf"\g<1>{HIDDEN}", hidden))
    if not (scheme := scheme_of(spec)):
        return spec
    rest = _without_userinfo(spec[len(scheme) + 3 :])
    return SECRET_QUERY.sub(rf"\g<1>{HIDDEN}", f"{scheme}://{rest}")


def _without_userinfo(rest: str) -> str:
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in rest and ("@" in authority or ":" in authority):
        return f"{HIDDEN}@{rest.rpartition('@')[2]}"
    return rest


def hide_password(spec: str) -> None:
    """Have the password in a URL, if there is one, known as a secret, so that no log shows it."""
    authority = re.split(r"[/?#]", spec.partition("://")[2], maxsplit=1)[0]
    password = authority.rpartition("@")[0].partition(":")[2]
    if password:
        hide_secret(password)


def with_credentials(url: str, username: str | None, password: str | None) -> str:
    """The URL with ``username`` and ``password``, percent-encoded, in place of those it had.

    A user name that stands in the URL alone is completed by ``password``. Raises SourceError for a password
    without a user name.
    """
    if username is None and password is None:
        return url
    scheme, _, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    userinfo, _, host = authority.rpartition("@")
    user = quote(username, safe="") if username is not None else userinfo.partition(":")[0]
    if not user:
        raise SourceError(f"{redact(url)}: a password without a user name; set `username` beside `password_file`")
    secret = "" if password is None else ":" + quote(password, safe="")
    return f"{scheme}://{user}{secret}@{host}{slash}{path}"
