"""What the daemon and the service manager say to each other: sd_notify, the watchdog, and the signals.

Whether the inference loop gets on is progress.py's; what the unit file asks for stands in systemd/.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from types import FrameType

from agent.data import Health
from agent.secrecy import redacted

log = logging.getLogger(__name__)

EXTEND_EVERY = 5.0
PATIENCE = 1.0
LONGEST_STATUS = 1000


def notify(*lines: str) -> bool:
    """Tell systemd (``READY=1``, ``STATUS=…``, ``STOPPING=1``); False when nobody listens, or not within a second.

    The protocol: sd_notify(3), a datagram to the socket that ``$NOTIFY_SOCKET`` names.
    """
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as datagrams:
        datagrams.settimeout(PATIENCE)  # a manager that does not read its socket must not hold us up
        try:
            datagrams.sendto("\n".join(lines).encode(), "\0" + address[1:] if address[0] == "@" else address)
        except OSError:
            return False
    return True


def status(text: str) -> str:
    """A ``STATUS=`` line for ``notify``: one line, not endless, without secrets, whatever the text holds."""
    return "STATUS=" + " ".join(redacted(text).split())[:LONGEST_STATUS]


def status_line(health: Health, reload: str = "") -> str:
    """How the daemon is, for a person who asks ``systemctl status``. ``reload``: what the last one could not do."""
    up = [name for name, camera in health.cameras.items() if camera.state == "up"]
    others = ", ".join(
        f"{name} {camera.state}{f': {camera.reason}' if camera.reason else ''}"
        for name, camera in health.cameras.items()
        if camera.state != "up"
    )
    fps = sum(camera.fps for camera in health.cameras.values())
    parts = [
        *([reload] if reload else []),
        *([f"model {health.trial}"] if health.trial else []),
        f"{len(up)} of {len(health.cameras)} camera(s) up{f' ({others})' if others else ''}",
        f"rung {health.rung}, {health.precision}, {fps:.1f} inferences/s",
        f"frame age p95 {health.frame_age_ms.get('p95', 0.0):.0f} ms",
    ]
    return "; ".join(parts)


@contextlib.contextmanager
def reloading() -> Iterator[None]:
    """Tell systemd that within the block the configuration is being read again."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
    try:
        yield
    finally:
        notify("READY=1")


@contextlib.contextmanager
def takes_long(what: str, at_most: float = 3600.0) -> Iterator[None]:
    """Within the block, which may exceed the unit's timeout (an engine is built, say), ask for more time.

    ``what`` is shown as the status. After ``at_most`` seconds nothing is asked for any more: the unit's timeout holds.
    """
    over = threading.Event()
    until = time.monotonic() + at_most

    def ask() -> None:
        while time.monotonic() < until:
            notify(f"EXTEND_TIMEOUT_USEC={int(4 * EXTEND_EVERY * 1e6)}", status(what))
            if over.wait(EXTEND_EVERY):
                return

    if not os.environ.get("NOTIFY_SOCKET"):
        yield
        return
    thread = threading.Thread(target=ask, name="extend-timeout", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(1.0)


def watchdog_period(environment: Mapping[str, str] = os.environ, pid: int | None = None) -> float | None:
    """Seconds within which systemd wants to hear from us (``WatchdogSec=``), None for never. sd_watchdog_enabled(3)."""
    wanted = environment.get("WATCHDOG_PID")
    if wanted and wanted != str(os.getpid() if pid is None else pid):
        return None
    try:
        return int(environment.get("WATCHDOG_USEC", "")) / 1e6 or None
    except ValueError:
        return None


class Watchdog:
    """Tells systemd that we live as long as ``stuck(limit)`` finds nothing that has stood still for ``limit`` seconds.

    ``period``: see ``watchdog_period``. Half of it is the limit, every quarter of it we tell.
    """

    def __init__(
        self, period: float | None, stuck: Callable[[float], str], tell: Callable[[str], object] = notify
    ) -> None:
        self._period = period
        self._stuck = stuck
        self._tell = tell
        self._due = 0.0
        self._complained = False

    def tend(self, now: float) -> None:
        """To be called several times within ``period``; ``now``: monotonic seconds."""
        if self._period is None or now < self._due:
            return
        if why := self._stuck(self._period / 2):
            if not self._complained:
                log.critical("the watchdog is fed no more: %s", why)
                self._tell(status(f"stuck: {why}"))
            self._complained = True
            return
        if self._complained:
            log.warning("it goes on, the watchdog is fed again")
        self._complained = False
        self._due = now + self._period / 4
        self._tell("WATCHDOG=1")


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
