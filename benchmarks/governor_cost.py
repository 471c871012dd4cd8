"""What monitoring costs: the processor time of the monitor's thread in a running daemon, as a share of one core.

    python benchmarks/governor_cost.py [--seconds 60] [--tree FOLDER]

``--tree``: a recorded sysfs tree whose zones, rails and GPU load are read as well, as on that board. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
from pathlib import Path
from typing import Any

import psutil

import agent.app
from agent.config import parse
from agent.governor.sensors.board import board_sensors
from agent.governor.sensors.sysfs import Sysfs

CONFIG = """
[agent]
name = "cost"
state_dir = "{folder}"
[model]
threads = 1
[[camera]]
name = "cam"
source = "synthetic://desk?fps=10"
"""


def seconds_of(thread: threading.Thread) -> float:
    """Processor time that a thread of this process took so far."""
    times = {one.id: one.user_time + one.system_time for one in psutil.Process().threads()}
    return float(times[thread.native_id or 0])


def measure(seconds: float, tree: Path | None) -> dict[str, Any]:
    """Start the daemon, let it settle, count."""
    if tree is not None:
        vars(agent.app)["board_sensors"] = lambda: board_sensors(Sysfs(tree))
    with tempfile.TemporaryDirectory() as folder:
        app = agent.app.App(parse(CONFIG.format(folder=folder)))
        with app:
            monitor = next(thread for thread in threading.enumerate() if thread.name == "monitor")
            app.wait(5.0)
            before = seconds_of(monitor)
            app.wait(seconds)
            took = seconds_of(monitor) - before
            zones = len(app.monitor.latest.temperatures)
    return {
        "seconds": seconds,
        "zones": zones,
        "cpu_seconds": round(took, 3),
        "share_of_a_core": round(took / seconds, 5),
    }


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--tree", type=Path)
    options = parser.parse_args()
    print(json.dumps(measure(options.seconds, options.tree)))


if __name__ == "__main__":
    main()
