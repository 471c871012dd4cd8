"""The whole daemon as a contestant: configured as a user would, started by its public command line, with MQTT and
snapshots on. Its figures are its own JSON summary and what the kernel says of its process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from bench_process import ContestantError, last_line

ENDS_WITHIN = 300.0
FIRST_FRAME = b"first frame inferred"


class Camera(NamedTuple):
    """``fps``: the most that is inferred; ``realtime`` false: frame by frame, as fast as it goes."""

    name: str
    source: str
    realtime: bool = True
    fps: float | None = None

    def table(self) -> str:
        """For agent.toml."""
        fps = "" if self.fps is None else f"fps = {self.fps}\n"
        return (
            f'[[camera]]\nname = "{self.name}"\nsource = {json.dumps(self.source)}\n'
            f"realtime = {str(self.realtime).lower()}\n{fps}"
        )


@dataclass
class Daemon:
    """One configuration, run as often as is asked; its state stays from run to run, as on a board.

    ``model``: lines of the table ``[model]`` beside its path; by default the engine of an installation without extras.
    ``port``: of the broker, None for no MQTT.
    """

    folder: Path
    package: Path
    cameras: Sequence[Camera]
    port: int | None
    model: str = 'backend = "onnxruntime"'
    more: str = ""
    _sink: Path = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._sink = self.folder / "stderr"
        mqtt = f'[plugins.mqtt]\nhost = "127.0.0.1"\nport = {self.port}\n' if self.port else ""
        text = (
            f'[agent]\nname = "bench"\nstate_dir = "{self.folder / "state"}"\n'
            f'[model]\npath = "{self.package}"\n{self.model}\n'
            + "".join(camera.table() for camera in self.cameras)
            + f'{mqtt}[plugins.snapshot]\nfolder = "{self.folder / "pictures"}"\n{self.more}'
        )
        self.config.write_text(text, encoding="utf-8")

    @property
    def config(self) -> Path:
        """Its agent.toml."""
        return self.folder / "agent.toml"

    def start(self, *words: str) -> Running:
        """``edgewarden run --json``; whoever starts it ends it."""
        command = [sys.executable, "-m", "agent", "run", "--json", "--config", str(self.config), *words]
        # Compiled modules are used, as in any installation.
        env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        env["EDGEWARDEN_CACHE"] = str(self.folder / "cache")
        env["PYTHONPATH"] = str(Path(__file__).resolve().parent.parent)
        with self._sink.open("wb") as sink:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=sink, env=env, start_new_session=True)
        return Running(process, self._sink)

    def run(self, *words: str) -> dict[str, Any]:
        """From its start to its own end; the summary. Raises ContestantError."""
        with self.start(*words) as running:
            return running.finish()

    def ms_a_frame(self, frames: int, short: int) -> dict[str, Any]:
        """Milliseconds a frame without what starting and stopping costs: the difference between a run over so many
        frames and one over the first ``short`` of them, by the daemon's own clock."""
        whole, part = self.run("--frames", str(frames)), self.run("--frames", str(short))
        return {**per_frame(whole, part), "summary": whole}

    def forget_pictures(self) -> None:
        """What the snapshots wrote."""
        shutil.rmtree(self.folder / "pictures", ignore_errors=True)


def per_frame(whole: dict[str, Any], part: dict[str, Any]) -> dict[str, float]:
    """Milliseconds a frame from two summaries of runs of different length. Raises ContestantError."""
    frames = inferred(whole) - inferred(part)
    seconds = float(whole["seconds"]) - float(part["seconds"])
    if frames <= 0 or seconds <= 0:
        raise ContestantError(f"the longer run was not longer: {frames} frames, {seconds:.3f} s")
    return {"ms": seconds / frames * 1e3, "frames": frames}


def inferred(summary: dict[str, Any]) -> int:
    """Frames inferred, of all cameras."""
    return sum(int(camera["inferred"]) for camera in summary["cameras"].values())


class Running:
    """A daemon under way; a context manager that leaves none behind."""

    def __init__(self, process: subprocess.Popen[bytes], sink: Path) -> None:
        self.process = process
        self.pid = process.pid
        self._sink = sink

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    @property
    def said(self) -> str:
        """On stderr, so far."""
        return self._sink.read_text(encoding="utf-8", errors="replace")

    def wait_for_first_frame(self, within: float = 60.0) -> None:
        """Until it says that it has inferred one. Raises ContestantError."""
        deadline = time.monotonic() + within
        while FIRST_FRAME not in self._sink.read_bytes():
            self.check()
            if time.monotonic() > deadline:
                raise ContestantError(f"daemon: no frame within {within:.0f} s: {last_line(self.said)}")
            time.sleep(0.02)

    def check(self) -> None:
        """Raises ContestantError when it has ended."""
        if self.process.poll() is not None:
            raise ContestantError(f"daemon: ended with {self.process.returncode}: {last_line(self.said)}")

    def finish(self) -> dict[str, Any]:
        """Wait for its end; the summary. Raises ContestantError."""
        try:
            out, _ = self.process.communicate(timeout=ENDS_WITHIN)
        except subprocess.TimeoutExpired:
            raise ContestantError(f"daemon: not done within {ENDS_WITHIN:.0f} s: {last_line(self.said)}") from None
        if self.process.returncode or not out.strip():
            raise ContestantError(f"daemon: ended with {self.process.returncode}: {last_line(self.said)}")
        summary: dict[str, Any] = json.loads(out)
        return summary

    def stop(self) -> dict[str, Any]:
        """SIGTERM, and the summary. Raises ContestantError."""
        self.process.send_signal(signal.SIGTERM)
        return self.finish()

    def cpu_seconds(self) -> float:
        """Processor time of all its threads so far, from /proc."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> dict[str, float]:
        """Resident megabytes (10^6 bytes), descriptors and threads, from /proc."""
        lines = Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8", errors="replace").splitlines()
        told = dict(line.split(":", 1) for line in lines if ":" in line)
        return {
            "rss_mb": int(told["VmRSS"].split()[0]) * 1024 / 1e6,
            "threads": float(told["Threads"]),
            "descriptors": float(len(os.listdir(f"/proc/{self.pid}/fd"))),
        }
