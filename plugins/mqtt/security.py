"""What proves who we are and who the broker is: the password's file and the TLS context. Neither is ever logged."""

from __future__ import annotations

import logging
import os
import ssl
from pathlib import Path

from agent import PluginError, hide_secret
from plugins.mqtt.config import MqttConfig, Tls

log = logging.getLogger(__name__)


CREDENTIAL = "credential:"


def read_password(path: str) -> str:
    """The password in a file, without the white space around it. PluginError when it cannot be read or is empty."""
    return _read("password_file", path)


def read_username(config: MqttConfig) -> str:
    """The user name, from its file if one is named; may be empty. PluginError as for the password."""
    return _read("username_file", config.username_file) if config.username_file else config.username


def secret_path(named: str) -> Path:
    """Where a secret stands: ``credential:NAME`` means the one of that name which systemd's LoadCredential= passed on.

    Raises PluginError when the service manager passed none.
    """
    if not named.startswith(CREDENTIAL):
        return Path(named).expanduser()
    folder, name = os.environ.get("CREDENTIALS_DIRECTORY"), named.removeprefix(CREDENTIAL)
    if not folder or Path(name).name != name:
        raise PluginError(f"mqtt: {named}: no credential of this name; add LoadCredential={name}:PATH to the unit")
    return Path(folder) / name


def _read(key: str, named: str) -> str:
    try:
        secret = secret_path(named).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise PluginError(f"mqtt: {key} {named} cannot be read: {reason}") from error
    if not secret:
        raise PluginError(f"mqtt: {key} {named} is empty")
    return hide_secret(secret)


def warn_if_exposed(path: str) -> None:
    """One warning when anyone on this machine may read the password."""
    try:
        exposed = secret_path(path).stat().st_mode & 0o004
    except (OSError, PluginError):
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
