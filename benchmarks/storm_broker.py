"""The storm's mosquitto: started, stopped, killed, frozen."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

from storm_network import program


class Broker:
    """Sessions survive a kill as they were at the last ``save``; retained messages too."""

    def __init__(self, folder: Path, address: str, port: int) -> None:
        self._folder = folder
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        listeners = [f"listener {port} {where}" for where in dict.fromkeys(("127.0.0.1", address))]
        lines = [
            *listeners,
            "allow_anonymous true",
            "max_queued_messages 0",
            "max_inflight_messages 0",
            "set_tcp_nodelay true",
            "persistence true",
            f"persistence_location {folder}/",
            "autosave_interval 0",
            *(["user root"] if os.geteuid() == 0 else []),
        ]
        self._configuration = folder / "mosquitto.conf"
        self._configuration.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def start(self) -> None:
        """Return once it accepts connections."""
        with (self._folder / "mosquitto.log").open("ab") as sink:
            command = [program("mosquitto"), "-c", str(self._configuration)]
            self._process = subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT)
        while not self._accepts():
            time.sleep(0.01)

    def stop(self) -> None:
        """SIGTERM, and wait for its end."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self._end(signal.SIGKILL)

    def abort(self) -> None:
        """SIGKILL, also when it is frozen or has ended."""
        if self._process is not None:
            self.kill()

    def freeze(self) -> None:
        """SIGSTOP: the kernel still accepts connections and data for it, nobody answers."""
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._send(signal.SIGCONT)

    def save(self) -> None:
        """Write sessions to disk, as mosquitto would do every half hour; returns once that is done."""
        database = self._folder / "mosquitto.db"
        before = database.stat().st_mtime_ns if database.exists() else 0
        self._send(signal.SIGUSR1)
        while not database.exists() or database.stat().st_mtime_ns == before:
            time.sleep(0.01)

    def _send(self, how: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(how)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            process.wait(20)

    def _accepts(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"mosquitto ended at once, see {self._folder / 'mosquitto.log'}")
        with socket.socket() as probe:
            probe.settimeout(1.0)
            return probe.connect_ex(("127.0.0.1", self._port)) == 0
