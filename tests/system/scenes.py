"""What the service must show under a real systemd: each scene does something to it and measures what becomes of it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from broker import Mosquitto, Subscriber, free_port
from container import PYTHON, REPOSITORY, VENV, Container
from waiting import wait_until

UNIT = "edgewarden.service"
NODE = "edgewarden/node"
PASSWORD = "geheim-im-Container"
SITE = f"{VENV}/lib/python{PYTHON}/site-packages"
WATCHDOG = 6.0
STOP_TIMEOUT = 45.0

CONFIG = """
[agent]
name = "node"
[model]
path = "/opt/models/sabotaged"
threads = 1
[[camera]]
name = "cam"
source = "synthetic://desk?fps=10&size=320x240"
[[camera]]
name = "gone"
source = "rtsp://viewer:{password}@127.0.0.1:{nobody}/stream"
{more}
[plugins.mqtt]
host = "127.0.0.1"
port = {port}
username = "edge"
password_file = "credential:mqtt.password"
commands = true
detections_rate = 20
health_interval = 1
[plugins.saboteur]
deadline = 2
"""
TEST_DROP_IN = f"""
# Quicker than the unit's own, for the test.
[Service]
WatchdogSec={WATCHDOG:g}
LoadCredential=mqtt.password:/etc/edgewarden/credentials/mqtt.password
"""


class Stage:
    """The container, the broker of this machine, and somebody who listens to it."""

    def __init__(self, container: Container, folder: Path, wheels: Path) -> None:
        self.container = container
        self.folder = folder
        self.wheels = wheels
        self.broker = Mosquitto(folder / "broker", passwords={"edge": PASSWORD}).start()
        self.subscriber = self._listen()
        self._nobody = free_port()

    def close(self) -> None:
        self.subscriber.close()
        self.broker.stop()

    def _listen(self) -> Subscriber:
        return Subscriber(self.broker.port, username="edge", password=PASSWORD)

    def install(self) -> None:
        """As docs/service.md says."""
        systemd = REPOSITORY / "systemd"
        self.container.write(f"/etc/systemd/system/{UNIT}", (systemd / UNIT).read_text())
        self.container.write(f"/etc/systemd/system/{UNIT}.d/test.conf", TEST_DROP_IN)
        for kind in ("sysusers", "tmpfiles"):
            self.container.write(
                f"/etc/{kind}.d/edgewarden.conf", (systemd / f"{kind}.d" / "edgewarden.conf").read_text()
            )
        self.container.run("systemd-sysusers")
        self.container.run("systemd-tmpfiles", "--create", "/etc/tmpfiles.d/edgewarden.conf")
        self.container.write("/etc/edgewarden/credentials/mqtt.password", PASSWORD + "\n", "0600")
        self.container.write(f"{SITE}/saboteur.py", (Path(__file__).parent / "saboteur.py").read_text())
        self.container.write(
            f"{SITE}/saboteur-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: saboteur\nVersion: 1.0\n"
        )
        points = "[edgewarden.plugins]\nsaboteur = saboteur:Saboteur\n"
        self.container.write(f"{SITE}/saboteur-1.0.dist-info/entry_points.txt", points)
        self.container.run("mkdir", "-p", "/opt/models")
        self.container.run("cp", "-r", f"{SITE}/agent/models/desk", "/opt/models/sabotaged")
        self.container.run("sed", "-i", 's/^family = .*/family = "sabotaged"/', "/opt/models/sabotaged/model.toml")
        self.configure()
        self.container.run("systemctl", "daemon-reload")

    def configure(self, more: str = "", text: str | None = None) -> None:
        """Write agent.toml."""
        config = CONFIG.format(port=self.broker.port, nobody=self._nobody, password=PASSWORD, more=more)
        self.container.write("/etc/edgewarden/agent.toml", config if text is None else text, "0640")
        self.container.run("chown", "root:edgewarden", "/etc/edgewarden/agent.toml")

    def systemctl(self, *words: str, check: bool = True) -> float:
        """Seconds that it took."""
        began = time.monotonic()
        self.container.run("systemctl", *words, UNIT, check=check)
        return time.monotonic() - began

    def state(self, name: str) -> str:
        return self.container.show(UNIT, name)[name]

    @property
    def pid(self) -> int:
        return int(self.state("MainPID"))

    @property
    def restarts(self) -> int:
        return int(self.state("NRestarts"))

    @property
    def health(self) -> dict[str, Any]:
        told = self.subscriber.on(f"{NODE}/health")
        return dict(json.loads(told[-1].payload)) if told else {}

    def count(self, topic: str) -> int:
        return len(self.subscriber.on(f"{NODE}/{topic}"))

    def more(self, topic: str, than: int | None = None, timeout: float = 60.0, at_least: int = 1) -> float:
        """Seconds until another message on that topic has come."""
        began, before = time.monotonic(), self.count(topic) if than is None else than
        wait_until(lambda: self.count(topic) >= before + at_least, timeout, f"another message on {topic}")
        return time.monotonic() - began

    def pause(self, seconds: float) -> None:
        """Let time pass: what must not happen needs some in which it could."""
        threading.Event().wait(seconds)

    def inferring_again(self, do: Callable[[], object], timeout: float = 90.0) -> float:
        """Seconds from what is done to the first detections of a daemon that has greeted the broker anew."""
        began = time.monotonic()
        before = len([one for one in self.subscriber.on(f"{NODE}/status") if one.payload == b"online"])
        do()

        def greeted() -> bool:
            return len([one for one in self.subscriber.on(f"{NODE}/status") if one.payload == b"online"]) > before

        wait_until(greeted, timeout, "it is online again")
        self.more("camera/cam/detections", timeout=timeout)
        return time.monotonic() - began


def first_start(stage: Stage) -> str:
    """Start to READY, with a camera that is not there; events at a subscriber."""
    took = stage.systemctl("start")
    assert stage.state("ActiveState") == "active"
    began = int(stage.state("ExecMainStartTimestampMonotonic"))
    ready = (int(stage.state("ActiveEnterTimestampMonotonic")) - began) / 1e6
    stage.more("camera/cam/detections", than=0)
    stage.more("camera/cam/events", than=0)
    wait_until(lambda: stage.health.get("cameras", {}).get("gone", {}).get("state") == "down", 30, "the other is down")
    wait_until(lambda: "1 of 2 camera(s) up (gone down: " in stage.state("StatusText"), 30, "the status says so")
    wait_until(lambda: "first frame inferred" in stage.container.journal(UNIT), 30, "the start is split")
    line = next(line for line in stage.container.journal(UNIT).splitlines() if "first frame inferred" in line)
    return f"READY after {ready:.2f} s ({took:.2f} s of systemctl); {line.rpartition(']: ')[2]}"


def killed(stage: Stage) -> str:
    """kill -9 -> inferring again."""
    pid = stage.pid
    seconds = stage.inferring_again(lambda: stage.container.run("kill", "-9", str(pid)))
    assert stage.pid != pid
    assert any(one.payload == b"offline" for one in stage.subscriber.on(f"{NODE}/status")), "the broker told its will"
    return f"inferring again {seconds:.2f} s after kill -9 (RestartSec=1 among them)"


def hung_inference(stage: Stage) -> str:
    """A hung inference loop: restarted by the watchdog, with a stack in the journal."""
    before, pid = stage.restarts, stage.pid
    seconds = stage.inferring_again(lambda: stage.container.run("touch", "/run/edgewarden/hang-inference"))
    assert stage.restarts == before + 1
    assert stage.pid != pid
    said = stage.container.journal(UNIT)
    for wanted in ("the_inference_hangs_here", "the watchdog is fed no more", "Watchdog timeout", "Fatal Python error"):
        assert wanted in said, f"not in the journal: {wanted}"
    return f"WatchdogSec={WATCHDOG:g}: inferring again {seconds:.1f} s after it hung; the stack is in the journal"


def hung_plugin(stage: Stage) -> str:
    """A hung plugin does not restart the daemon, and the rest goes on."""
    before, pid = stage.restarts, stage.pid
    stage.container.run("touch", "/run/edgewarden/hang-plugin")

    def hangs() -> bool:
        return bool(stage.health["plugins"]["saboteur"]["state"] == "set aside")

    wait_until(hangs, 60, "the plugin is set aside")
    detections, events = stage.count("camera/cam/detections"), stage.count("camera/cam/events")
    stage.pause(2.5 * WATCHDOG)
    told = stage.count("camera/cam/detections") - detections
    assert (stage.restarts, stage.pid) == (before, pid)
    assert told > 2.5 * WATCHDOG, f"only {told} detections"
    assert stage.count("camera/cam/events") > events
    stage.container.run("rm", "/run/edgewarden/hang-plugin")
    return f"in {2.5 * WATCHDOG:g} s no restart, {told} detections, {stage.count('camera/cam/events') - events} events"


def paused(stage: Stage) -> str:
    """A camera that is paused, beside one that is down: nothing is inferred, and nothing is restarted."""
    before = stage.restarts
    answers = stage.count("command/pause/result")
    stage.subscriber._client.publish(f"{NODE}/command/pause", json.dumps({"id": "p"}), qos=1)
    stage.more("command/pause/result", than=answers)
    stage.pause(2.0 * WATCHDOG)
    assert stage.restarts == before
    stage.subscriber._client.publish(f"{NODE}/command/resume", json.dumps({"id": "r"}), qos=1)
    stage.more("camera/cam/detections")
    return f"{2.0 * WATCHDOG:g} s without any inference, no restart"


def reloaded(stage: Stage) -> str:
    """SIGHUP with good and bad files."""
    pid, starts = stage.pid, stage.count("status")
    stage.configure(text="[agent]\nnam = 'x'\n[model\n")
    stage.systemctl("reload")
    wait_until(lambda: "reload refused" in stage.state("StatusText"), 30, "the status says that it was refused")
    wait_until(lambda: stage.health["reload"].startswith("reload refused"), 30, "health says so")
    stage.configure('[[camera]]\nname = "third"\nsource = "synthetic://desk?fps=5&size=320x240"\n')
    began = time.monotonic()
    stage.systemctl("reload")
    stage.more("camera/third/detections", than=0)
    seconds = time.monotonic() - began
    wait_until(lambda: stage.health["reload"] == "", 30, "health has forgotten it")
    wait_until(lambda: stage.state("ActiveState") == "active", 30, "ready again")
    stage.configure()
    stage.systemctl("reload")
    wait_until(lambda: "third" not in stage.health["cameras"], 30, "the camera has left")
    assert (stage.pid, stage.count("status")) == (pid, starts), "the same process, never offline"
    return f"bad file refused and told; a new camera's first detections {seconds:.2f} s after `systemctl reload`"


def broker_down(stage: Stage) -> str:
    """The broker is down at boot."""
    stage.systemctl("stop")
    stage.broker.stop()
    took = stage.systemctl("start")
    wait_until(lambda: "camera(s) up" in stage.state("StatusText"), 30, "it runs")
    stage.pause(6.0)
    events, back_at = stage.count("camera/cam/events"), time.time()
    stage.broker.start()

    def from_before() -> int:
        told = [json.loads(one.payload) for one in stage.subscriber.on(f"{NODE}/camera/cam/events")[events:]]
        return sum(event["kind"] == "start" and event["started_at"] < back_at for event in told)

    wait_until(from_before, 60, "what happened meanwhile arrives")
    stage.more("camera/cam/detections")
    return f"READY after {took:.2f} s without it; {from_before()} events that began meanwhile arrived when it was back"


def disk_full(stage: Stage) -> str:
    """The disk is full, and has room again."""
    stage.systemctl("stop")
    user = stage.container.run("id", "-u", "edgewarden").strip()
    options = f"size=4M,mode=0700,uid={user},gid={stage.container.run('id', '-g', 'edgewarden').strip()}"
    stage.container.run("mount", "-t", "tmpfs", "-o", options, "tmpfs", "/var/lib/edgewarden")
    stage.systemctl("start")
    stage.more("camera/cam/events")
    stage.container.run("dd", "if=/dev/zero", "of=/var/lib/edgewarden/fill", "bs=4k", check=False)
    wait_until(lambda: "memory" in stage.health["log"]["state"], 90, "the event log says so")
    said = stage.health["log"]["state"]
    events = stage.more("camera/cam/events", timeout=60, at_least=2)
    assert stage.restarts == 0
    stage.container.run("rm", "/var/lib/edgewarden/fill")
    began = time.monotonic()
    wait_until(lambda: stage.health["log"]["state"] == "ok", 120, "it is well again")
    well = time.monotonic() - began
    return f"log {said!r}, events go on ({events:.1f} s for two); well {well:.1f} s after there was room"


def wrong_configuration(stage: Stage) -> str:
    """A wrong configuration stays down and says why."""
    stage.systemctl("stop")
    stage.configure(text="[agent]\nnam = 'x'\n")
    stage.systemctl("start", check=False)
    wait_until(lambda: stage.state("ActiveState") == "failed", 30, "it has failed")
    stage.pause(4.0)
    assert stage.state("ExecMainStatus") == "78"
    assert (stage.state("ActiveState"), stage.restarts) == ("failed", 0)
    assert "agent.nam: unknown key" in stage.container.journal(UNIT)
    stage.configure()
    stage.container.run("systemctl", "reset-failed", UNIT)
    stage.systemctl("start")
    stage.more("camera/cam/detections")
    return "exit 78, no restart in 4 s, the fault is in the journal"


def stopped(stage: Stage) -> str:
    """Stop within the timeout, `offline` published."""
    stage.more("camera/cam/events")
    took = stage.systemctl("stop")
    assert took < STOP_TIMEOUT
    assert stage.state("Result") == "success"
    wait_until(lambda: stage.subscriber.on(f"{NODE}/status")[-1].payload == b"offline", 10, "offline")
    return f"{took:.2f} s of {STOP_TIMEOUT:g}, result success, offline published"


def in_order(stage: Stage) -> str:
    """Nothing that the hardening forbids was missed, no secret told, fields in the journal."""
    journal = stage.container.journal(UNIT)
    for unwanted in ("Operation not permitted", "affinity", "Read-only file system", "Permission denied", PASSWORD):
        assert unwanted not in journal, f"in the journal: {unwanted}"
    assert PASSWORD not in "".join(one.payload.decode("utf-8", "replace") for one in stage.subscriber.messages)
    entries = [json.loads(line) for line in stage.container.journal(UNIT, "-o", "json").splitlines()]
    fields = {entry.get("EDGEWARDEN_CAMERA") for entry in entries} & {"cam", "gone"}
    assert fields == {"cam", "gone"}
    warned = [
        entry for entry in entries if entry.get("EDGEWARDEN_CAMERA") == "gone" and "down" in str(entry["MESSAGE"])
    ]
    assert warned[0]["PRIORITY"] == "4"
    said = stage.container.run("systemd-analyze", "security", "--no-pager", UNIT, check=False)
    return f"{len(entries)} journal entries; {said.strip().splitlines()[-1].strip()}"


SCENES: tuple[Callable[[Stage], str], ...] = (
    first_start,
    killed,
    hung_inference,
    hung_plugin,
    paused,
    reloaded,
    stopped,
    broker_down,
    disk_full,
    wrong_configuration,
    stopped,
    in_order,
)
