"""What the daemon and the service manager say to each other: sd_notify, and the signals that end it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from types import FrameType


def notify(*lines: str) -> bool:
    """Tell systemd (``READY=1``, ``STATUS=…``, ``STOPPING=1``); False when nobody listens.

    The protocol: sd_notify(3), a datagram to the socket that ``$NOTIFY_SOCKET`` names.
    """
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as datagrams:
        try:
            datagrams.sendto("\n".join(lines).encode(), "\0" + address[1:] if address[0] == "@" else address)
        except OSError:
            return False
    return True


@contextlib.contextmanager
def reload_on_signal(reload: Callable[[], None]) -> Iterator[None]:
    """Within the block SIGHUP calls ``reload``, on the main thread."""
    before = signal.signal(signal.SIGHUP, lambda _number, _frame: reload())
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


@contextlib.contextmanager
def stop_on_signals(stop: threading.Event) -> Iterator[None]:
    """Within the block SIGTERM and SIGINT set ``stop``; a second one ends the process at once."""

    def ask(number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
