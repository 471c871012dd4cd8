"""What proves who we are and who the broker is: the password's file and the TLS context. Neither is ever logged."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

from agent import PluginError
from plugins.mqtt.config import Tls

log = logging.getLogger(__name__)


def read_password(path: str) -> str:
    """The password in a file, without the white space around it. PluginError when it cannot be read or is empty."""
    try:
        password = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise PluginError(f"mqtt: password_file {path} cannot be read: {reason}") from error
    if not password:
        raise PluginError(f"mqtt: password_file {path} is empty")
    return password


def warn_if_exposed(path: str) -> None:
    """One warning when anyone on this machine may read the password."""
    try:
        exposed = Path(path).stat().st_mode & 0o004
    except OSError:
        return  # named by read_password at every connect
    if exposed:
        log.warning("mqtt: password_file %s is readable by everyone; chmod 600 it", path)


def tls_context(tls: Tls) -> ssl.SSLContext:
    """TLS 1.2 or newer. PluginError when a PEM file cannot be loaded."""
    try:
        context = ssl.create_default_context(cafile=tls.ca or None)
        if tls.cert:
            context.load_cert_chain(tls.cert, tls.key or None)
    except OSError as error:
        files = ", ".join(path for path in (tls.ca, tls.cert, tls.key) if path)
        raise PluginError(f"mqtt: the TLS files ({files}) cannot be loaded: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls.alpn:
        context.set_alpn_protocols(list(tls.alpn))
    if tls.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
