"""What the daemon and the service manager say to each other: sd_notify, and the signals that end it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
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


class ReloadSignal:
    """SIGHUP within the block asks for a reload; it never ends the process, whatever is going on meanwhile."""

    def __init__(self) -> None:
        self._asked = False  # no Event: the handler may interrupt the very thread that holds its lock

    def take(self) -> bool:
        """Whether it was asked for since the last call."""
        if not self._asked:
            return False
        self._asked = False
        return True

    def __enter__(self) -> ReloadSignal:
        self._before = signal.signal(signal.SIGHUP, self._ask)
        return self

    def __exit__(self, *_exc: object) -> None:
        signal.signal(signal.SIGHUP, self._before)

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self._asked = True


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
