"""Whether the broker and the cameras of a configuration are there: connected to, and hung up on."""

from __future__ import annotations

import os
import queue
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from agent.board.configured import Reached
    from agent.board.finding import Finding
    from agent.config import CameraConfig, Config

PATIENCE = 2.0
"""Seconds for a connection; for all of them together twice that, with the time that names take."""


def network_findings(config: Config) -> Iterator[Finding]:
    """The broker and the cameras: whether anybody is there. Nobody is asked for pictures, no password is sent."""
    from agent.board.configured import local_camera, reached

    for camera in config.camera:
        if camera.source.startswith("/dev/"):
            yield local_camera(camera.name, camera.source, there=os.path.exists(camera.source))
    yield from map(reached, reach(dict(_addresses(config))))


def reach(addresses: Mapping[str, tuple[str, int]], patience: float = PATIENCE) -> list[Reached]:
    """Connect to each and hang up, all at once: a name server that does not answer holds nobody up for long."""
    from agent.board.configured import Reached

    answers: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
    for what, (host, port) in addresses.items():
        threading.Thread(
            target=lambda *it: answers.put((it[0], _fault(*it[1:]))), args=(what, host, port, patience), daemon=True
        ).start()
    faults, deadline = dict.fromkeys(addresses, "no answer"), time.monotonic() + 2 * patience
    for _ in addresses:
        try:
            what, fault = answers.get(timeout=max(deadline - time.monotonic(), 0.0))
        except queue.Empty:
            break
        faults[what] = fault
    return [Reached(what, f"{host}:{port}", faults[what]) for what, (host, port) in addresses.items()]


def _fault(host: str, port: int, patience: float) -> str:
    try:
        socket.create_connection((host, port), patience).close()
    except socket.gaierror:
        return "the name is not known"
    except TimeoutError:
        return "no answer"
    except (OSError, UnicodeError, OverflowError, ValueError) as error:
        return (getattr(error, "strerror", None) or str(error)).lower()
    return ""


def _addresses(config: Config) -> Iterator[tuple[str, tuple[str, int]]]:
    for camera in config.camera:
        if address := _address(camera):
            yield f"camera {camera.name}", address
    mqtt = config.plugins.get("mqtt", {})
    host, port = mqtt.get("host"), mqtt.get("port", 1883)
    if isinstance(host, str) and isinstance(port, int) and host:
        yield "broker", (host, port)


def _address(camera: CameraConfig) -> tuple[str, int] | None:
    from agent.sources.probe import PORTS

    try:
        parts = urlsplit(camera.source)
        if parts.scheme in PORTS and parts.hostname:
            return parts.hostname, parts.port or PORTS[parts.scheme]
    except ValueError:
        return None  # the configuration's own faults are told elsewhere
    return None
