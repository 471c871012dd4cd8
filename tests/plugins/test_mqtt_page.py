"""The examples of docs/mqtt.md run against a real broker."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from broker import Mosquitto, _program
from conftest import REPOSITORY
from waiting import wait_until

from agent import to_json
from agent.testing import PluginHarness, make_event, make_frame
from plugins.mqtt import Mqtt

PAGE = (REPOSITORY / "docs" / "mqtt.md").read_text(encoding="utf-8")
SAMPLES = [shlex.split(line) for line in re.findall(r"^    (mosquitto_sub .*)$", PAGE, re.MULTILINE)]


def _block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return str(found)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker") as mosquitto:
        yield mosquitto


class Listening:
    """A process whose output is gathered while it runs."""

    def __init__(self, command: list[str]) -> None:
        self.output = ""
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.output += line

    def end(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.wait(10)
        self._thread.join(10)


def test_the_python_example_prints_each_event_once(broker: Mosquitto, tmp_path: Path) -> None:
    script = tmp_path / "archive.py"
    script.write_text(_block("python").replace('"broker.local", 1883', f'"127.0.0.1", {broker.port}'))
    listening = Listening([sys.executable, str(script)])
    event = make_event(zones=("door",))
    try:
        wait_until(lambda: "edgewarden/+/camera/+/events" in broker.log, 20, "it subscribes")
        publish = [
            _program("mosquitto_pub"),
            "-p",
            str(broker.port),
            "-q",
            "1",
            "-t",
            "edgewarden/node/camera/cam/events",
        ]
        for message in (event, event, make_event(seq=1, kind="end", late=True)):
            subprocess.run([*publish, "-m", to_json(message).decode()], check=True)
        wait_until(lambda: listening.output.count("\n") == 2, 20, "two events of three messages")
    finally:
        listening.end()
    first, second = listening.output.splitlines()
    assert "cam start person ('door',)" in first or "cam start person ['door']" in first
    assert second.endswith("(late)")


@pytest.mark.parametrize("words", SAMPLES, ids=lambda words: words[words.index("-t") + 1])
def test_mosquitto_sub_takes_the_example(words: list[str], broker: Mosquitto, tmp_path: Path) -> None:
    until = next((i for i, word in enumerate(words) if word in ("|", ">", ">>")), len(words))
    taken = [word if word != "broker.local" else "127.0.0.1" for word in words[1:until]]
    with PluginHarness(Mqtt, {"host": "127.0.0.1", "port": broker.port}, state_dir=tmp_path / "state", name="mqtt"):
        command = [_program("mosquitto_sub"), "-p", str(broker.port), "-W", "2", *taken]
        done = subprocess.run(command, capture_output=True, check=False, env={**os.environ})
    assert done.returncode in (0, 27), done.stderr  # 27: the time was over


def test_the_node_red_flow_is_whole() -> None:
    flow = {node["id"]: node for node in json.loads(_block("json"))}
    assert all(target in flow for node in flow.values() for wire in node.get("wires", []) for target in wire)
    assert flow["in"]["broker"] in flow


def test_the_snapshot_example_writes_a_picture(broker: Mosquitto, tmp_path: Path) -> None:
    with PluginHarness(Mqtt, {"host": "127.0.0.1", "port": broker.port}, state_dir=tmp_path / "state") as harness:
        harness.wait_until(lambda: harness.plugin._publisher._link.connected)
        frame = make_frame()
        harness.send(make_event(), frame)
        words = ["-p", str(broker.port), "-W", "10", "-C", "1", "-t", "edgewarden/node/camera/cam/snapshot"]
        done = subprocess.run([_program("mosquitto_sub"), *words], capture_output=True, check=True)
    assert done.stdout.rstrip(b"\n") == frame.jpeg(80).rstrip(b"\n")
