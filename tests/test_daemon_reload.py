"""A reload of the real daemon at awkward moments: again while it reloads, and with a plugin's table that is wrong."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from broker import Mosquitto
from daemon import Daemon, write_config
from waiting import wait_until

from agent.detection.model import find_package


class ServiceManager:
    """The socket of systemd's that a daemon reports to, and what it was told."""

    def __init__(self, folder: Path) -> None:
        self.address = str(folder / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._socket.setblocking(False)
        self.told: list[str] = []
        self.described: list[str] = []

    def states(self) -> list[str]:
        """The words before ``=1``, in order; without those that only describe."""
        with contextlib.suppress(BlockingIOError):
            while True:
                lines = self._socket.recv(4096).decode().splitlines()
                self.told += [line.removesuffix("=1") for line in lines if line.endswith("=1")]
                self.described += [line.partition("=")[2] for line in lines if line.startswith("STATUS=")]
        return self.told

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker") as broker:
        yield broker


@pytest.fixture
def config(tmp_path: Path, broker: Mosquitto) -> Path:
    source = "synthetic://desk?fps=10&size=320x240"
    return write_config(tmp_path / "agent.toml", source=source, port=broker.port)


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[ServiceManager]:
    manager = ServiceManager(tmp_path)
    yield manager
    manager.close()


@pytest.fixture
def daemon(config: Path, manager: ServiceManager) -> Iterator[Daemon]:
    daemon = Daemon(config, env={"NOTIFY_SOCKET": manager.address})
    wait_until(lambda: "mqtt: connected" in daemon.stderr, 30, "the daemon is up")
    yield daemon
    if daemon.process.poll() is None:
        daemon.kill()


def test_sighup_at_any_moment_of_a_reload_ends_nothing(daemon: Daemon, manager: ServiceManager) -> None:
    def reloaded() -> bool:
        assert daemon.process.poll() is None, f"ended with {daemon.process.returncode}: {daemon.stderr[-2000:]}"
        daemon.process.send_signal(signal.SIGHUP)
        return manager.states().count("RELOADING") >= 5

    wait_until(reloaded, 60, "it reloads under a hail of SIGHUP")
    daemon.terminate()
    code, _ = daemon.finish(60)
    assert code == 0, daemon.stderr


def test_the_service_manager_hears_of_a_reload_and_of_no_stop_before_the_end(
    daemon: Daemon, manager: ServiceManager, config: Path
) -> None:
    wait_until(lambda: manager.states() == ["READY"], 20, "it is up")
    good = config.read_text(encoding="utf-8")
    config.write_text("[", encoding="utf-8")
    daemon.process.send_signal(signal.SIGHUP)
    wait_until(lambda: manager.states()[1:] == ["RELOADING", "READY"], 20, "a refused reload is over, too")
    wait_until(
        lambda: manager.states() and any(line.startswith("reload refused: ") for line in manager.described),
        20,
        "as told",
    )
    config.write_text(good, encoding="utf-8")
    daemon.process.send_signal(signal.SIGHUP)
    wait_until(lambda: manager.states()[3:] == ["RELOADING", "READY"], 30, "it is over")
    daemon.terminate()
    daemon.finish(60)
    assert manager.states()[5:] == ["STOPPING"]


def test_a_reload_with_a_wrong_table_of_a_plugin_is_refused_whole(daemon: Daemon, config: Path) -> None:
    good = config.read_text(encoding="utf-8")
    config.write_text(good + "\n[plugins.snapshot]\nqualty = 3\n", encoding="utf-8")
    daemon.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "reload refused: " in daemon.stderr, 20, "the wrong table is told")
    assert "plugins.snapshot" in daemon.stderr
    assert "configuration read again" not in daemon.stderr


def test_a_new_model_is_swapped_in_between_frames_and_open_events_go_on(config: Path, daemon: Daemon) -> None:
    copy = config.parent / "copy"
    shutil.copytree(find_package("desk").folder, copy)
    config.write_text(config.read_text(encoding="utf-8").replace('path = "desk"', f'path = "{copy}"'), encoding="utf-8")
    daemon.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "configuration read again: 1 change(s)" in daemon.stderr, 60, "the new one is in use")
    manifest = (copy / "model.toml").read_text(encoding="utf-8")
    (copy / "model.toml").write_text(manifest.replace('name = "', 'name = "new-', 1), encoding="utf-8")
    daemon.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "its files have changed" in daemon.stderr, 60, "other files under the same name are noticed")
    (copy / "model.toml").write_text("[", encoding="utf-8")
    daemon.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "reload refused: " in daemon.stderr, 60, "a broken one is refused")
    daemon.terminate()
    code, summary = daemon.finish(60)
    assert code == 0
    assert summary["events"]["start"] == summary["events"]["end"] > 0
