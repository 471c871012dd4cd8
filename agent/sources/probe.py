"""Why a stream cannot be opened: FFmpeg does not tell, so the server is asked once more, without credentials."""

from __future__ import annotations

import contextlib
import re
import socket
from urllib.parse import urlsplit

PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}
ANSWER = {
    401: "it wants a user name and password (401)",
    403: "it refuses access (403)",
    404: "there is no such path (404)",
}


def diagnose(url: str, *, credentials: bool, timeout: float = 2.0) -> str:
    """One clause that says what is wrong with the server, as far as can be told. Takes ``timeout`` s or little more.

    ``credentials``: whether the URL had any; a server that asks for some then did not like them.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or PORTS[parts.scheme]
    except ValueError:
        return "not a valid URL"
    if not host:
        return "names no host"
    try:
        with socket.create_connection((host, port), timeout) as connection:
            status = _ask(connection, parts.scheme, host, parts.path or "/", parts.query)
    except (OSError, UnicodeError) as error:
        return f"{host} port {port}: {_plain(error)}"
    if status == 401 and credentials:
        return "it does not accept the user name and password, or the path is wrong (401)"
    return ANSWER.get(
        status, f"it answered {status}" if status >= 400 else "it answers, but sends no video we can read"
    )


def _ask(connection: socket.socket, scheme: str, host: str, path: str, query: str) -> int:
    """The status of the server's answer, 0 where there is none in plain text."""
    target = path + (f"?{query}" if query else "")
    requests = {
        "http": f"GET {target} HTTP/1.0\r\nHost: {host}\r\n\r\n",
        "rtsp": f"DESCRIBE rtsp://{host}{target} RTSP/1.0\r\nCSeq: 1\r\nAccept: application/sdp\r\n\r\n",
    }
    if scheme not in requests:
        return 0
    answer = b""
    with contextlib.suppress(OSError):  # it let us connect and then said nothing: there is no status
        connection.sendall(requests[scheme].encode("ascii", "replace"))
        answer = connection.recv(64)
    match = re.match(rb"(?:HTTP|RTSP)/\d\.\d (\d{3})", answer)
    return int(match.group(1)) if match else 0


def _plain(error: Exception) -> str:
    if isinstance(error, socket.gaierror):
        return "the name is not known"
    if isinstance(error, TimeoutError):
        return "no answer"
    return (getattr(error, "strerror", None) or str(error)).lower()
