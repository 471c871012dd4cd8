"""The real daemon for end-to-end tests: its configuration written, its process started, killed and asked."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def edgewarden(*words: str | Path, timeout: float = 300.0, **kwargs: Any) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    command = [sys.executable, "-m", "agent", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, **kwargs)


def add_model(models: Path, onnx: Path, name: str, *words: str) -> Path:
    """A model package made by ``model add``; its folder."""
    done = edgewarden("model", "add", onnx, "--name", name, "--labels", "coco80", "--dir", models, *words)
    assert done.returncode == 0, done.stderr
    return models / name


def write_config(
    path: Path,
    *,
    source: str | Path,
    model: Path | str = "desk",
    port: int | None = None,
    camera: str = "",
    more: str = "",
) -> Path:
    """agent.toml with one camera called ``cam``, its state beside it, and mqtt when a port is given."""
    mqtt = f'[plugins.mqtt]\nhost = "127.0.0.1"\nport = {port}\n' if port else ""
    path.write_text(
        f'[agent]\nname = "node"\nstate_dir = "{path.parent / "state"}"\n[model]\npath = "{model}"\nthreads = 1\n'
        f'[[camera]]\nname = "cam"\nsource = "{source}"\n{camera}\n{mqtt}{more}\n',
        encoding="utf-8",
    )
    return path


class Daemon:
    """``edgewarden run --json`` as a process; stderr goes to a file beside the configuration."""

    def __init__(self, config: Path, *words: str, env: dict[str, str] | None = None) -> None:
        self.stderr_path = config.with_suffix(".stderr")
        self._sink = self.stderr_path.open("ab")
        command = [sys.executable, "-m", "agent", "run", "--json", "--config", str(config), *words]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=self._sink, env={**os.environ, **(env or {})}
        )

    @property
    def stderr(self) -> str:
        """What it has said so far."""
        return self.stderr_path.read_text(encoding="utf-8", errors="replace")

    def kill(self) -> None:
        """SIGKILL: no goodbye."""
        self.process.kill()
        self.process.wait(10)
        self._sink.close()

    def terminate(self) -> None:
        """SIGTERM, as a service manager stops it."""
        self.process.send_signal(signal.SIGTERM)

    def finish(self, timeout: float = 300.0) -> tuple[int, dict[str, Any]]:
        """Wait for its end: the exit code and the summary."""
        out, _ = self.process.communicate(timeout=timeout)
        self._sink.close()
        return self.process.returncode, json.loads(out) if out.strip() else {}


def events_in_log(state_dir: Path, payloads: Sequence[bytes]) -> set[tuple[str, int]]:
    """The keys (id, seq) of events in their JSON form."""
    return {(event["id"], event["seq"]) for event in map(json.loads, payloads)}
