"""A real Home Assistant beside the MQTT plugin on one mosquitto: which states it shows, and that it forgets us again.

    python benchmarks/homeassistant_run.py /tmp/ha/bin/hass

``hass`` comes from an environment of its own, see homeassistant_schema.py. Its configuration is made here: the MQTT
integration, and mqtt_statestream, which tells every state on ``shown/…``. Takes about a minute; exit 1 when a state is
not what was told.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from storm_broker import Broker

from agent import Health
from agent.data import CameraHealth, LogHealth, Temperature
from agent.testing import NODE, PluginHarness, make_event, make_frame
from plugins.mqtt import Mqtt

PATIENCE = 60.0
ENTRY = {
    "entry_id": "edgewarden",
    "domain": "mqtt",
    "title": "mqtt",
    "version": 1,
    "minor_version": 2,
    "source": "user",
    "options": {},
    "unique_id": None,
    "disabled_by": None,
    "pref_disable_new_entities": False,
    "pref_disable_polling": False,
    "discovery_keys": {},
    "subentries": [],
    "created_at": "2026-01-01T00:00:00+00:00",
    "modified_at": "2026-01-01T00:00:00+00:00",
}
SHOWN = {
    "sensor/node_throttle_rung": "2",
    "sensor/node_temperature": "61.5",
    "sensor/node_events_waiting": "7",
    "sensor/node_cam_state": "up",
    "sensor/node_cam_frame_age": "41.5",
    "binary_sensor/node_cam_motion": "on",
    "binary_sensor/node_cam_person": "on",
    "sensor/node_shed_1_state": "frozen",
    "binary_sensor/node_shed_1_motion": "off",
}
PICTURE = "image/node_cam_last_event"
HEALTH = Health(
    node=NODE,
    at=1.0,
    rung=2,
    temperatures={"cpu": Temperature(celsius=61.5), "gpu": Temperature(celsius=40.0)},
    cameras={"cam": CameraHealth(state="up", frame_age_ms=41.5), "shed/1": CameraHealth(state="frozen")},
    log=LogHealth(waiting={"mqtt": 7}),
)


class States:
    """What Home Assistant shows, by kind and name."""

    def __init__(self, port: int) -> None:
        self.shown: dict[str, str] = {}
        self.born = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id="states")
        self._client.on_connect = lambda client, *_: client.subscribe(
            [("shown/+/+/state", 1), ("homeassistant/status", 1)]
        )
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        if message.topic == "homeassistant/status":
            self.born.set()
        else:
            self.shown[message.topic.removeprefix("shown/").removesuffix("/state")] = message.payload.decode()

    def wrong(self, wanted: dict[str, str]) -> dict[str, str | None]:
        """What is shown instead."""
        return {name: self.shown.get(name) for name, state in wanted.items() if self.shown.get(name) != state}


def main() -> None:
    """See the module."""
    with tempfile.TemporaryDirectory() as temporary:
        folder, port = Path(temporary), _free_port()
        broker = Broker(folder / "broker", "127.0.0.1", port)
        broker.start()
        states = States(port)
        _configure(folder / "home", port)
        with (folder / "hass.log").open("wb") as log:
            home = subprocess.Popen([sys.argv[1], "-c", str(folder / "home")], stdout=log, stderr=log)
        try:
            problem = _play(states, port, folder)
        finally:
            home.terminate()
            home.wait(PATIENCE)
            broker.abort()
        problem = problem or _left_behind(folder / "home")
    if problem:
        sys.exit(problem)
    print("all as told; removed without a trace")


def _play(states: States, port: int, folder: Path) -> str:
    if not _wait(states.born.is_set):
        return "Home Assistant did not come online"
    with _plugin(port, folder, True) as node:
        node.wait_until(lambda: node.metrics.get("published", 0) > 0)
        node.health_tick(HEALTH)
        node.send(make_event(id="1"), make_frame())

        def shows_all() -> bool:
            node.health_tick(HEALTH)
            return not states.wrong(SHOWN) and states.shown.get(PICTURE, "").startswith("20")

        _wait(shows_all)
        for name in sorted(states.shown):
            print(f"  {name}: {states.shown[name]}") if "/node_" in name else None
        if wrong := states.wrong(SHOWN):
            return f"wrong: {wrong}"
    unavailable = dict.fromkeys(SHOWN, "unavailable")
    if not _wait(lambda: not states.wrong(unavailable)):
        return f"the node is away, and yet: {states.wrong(unavailable)}"
    with _plugin(port, folder, False):
        removed = folder / "state" / "plugins" / "mqtt" / "homeassistant.json"
        _wait(lambda: not removed.exists())
        time.sleep(2.0)
    return ""


def _plugin(port: int, folder: Path, announced: bool) -> PluginHarness:
    table = {"host": "127.0.0.1", "port": port, "homeassistant": announced}
    return PluginHarness(Mqtt, table, state_dir=folder / "state", name="mqtt")


def _left_behind(home: Path) -> str:
    registry = json.loads((home / ".storage" / "core.entity_registry").read_text("utf-8"))
    left = [entity["entity_id"] for entity in registry["data"]["entities"] if entity["platform"] == "mqtt"]
    return f"not removed: {left}" if left else ""


def _configure(home: Path, port: int) -> None:
    (home / ".storage").mkdir(parents=True)
    http = f"http:\n  server_port: {_free_port()}\n"
    (home / "configuration.yaml").write_text(f"{http}mqtt_statestream:\n  base_topic: shown\n", encoding="utf-8")
    entry = {**ENTRY, "data": {"broker": "127.0.0.1", "port": port, "protocol": "5"}}
    stored = {"version": 1, "minor_version": 5, "key": "core.config_entries", "data": {"entries": [entry]}}
    (home / ".storage" / "core.config_entries").write_text(json.dumps(stored), encoding="utf-8")


def _wait(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return met


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
