"""An RTSP camera that goes away and comes back, on a cable that loses packets: how soon its newest frame is here again.

    python benchmarks/rtsp_outage.py [--outages 5] [--loss 2] [--json]

A real RTSP server (GStreamer's, by the distribution's Python) is killed and started again; our capture reads it as the
daemon does. The pictures carry the time at which they were made, so the age told is the true one, not our own stamp.
With nftables, server and capture are in network namespaces of this script's own; elsewhere on loopback, without loss.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
from numpy.typing import NDArray
from storm_network import AGENT, Network, NoNetwork, enter, obstacle

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
SERVER = HERE.parent / "tests" / "sources" / "gst_rtsp_server.py"
PYTHON = "/usr/bin/python3"
MAX_AGE = 1.0
SIDE = 40


class Seen(NamedTuple):
    """A frame that the pipeline would have inferred: when it was taken, how old it truly was, and by our stamp."""

    at: float
    age: float
    stamped_age: float


class Outage(NamedTuple):
    """Seconds from the server being ready again to the first frame made after that; frames until the next outage."""

    back: float
    frames: int


def made_at(pixels: NDArray[np.uint8], now: float) -> float:
    """The monotonic time written into a picture, by the middle of each of its 32 squares."""
    bits = pixels[SIDE // 2 :: SIDE, SIDE // 2 :: SIDE].mean(2) > 127
    stamp = sum(int(bit) << place for place, bit in enumerate(bits.ravel()))
    whole = int(now * 1000) & ~0xFFFFFFFF
    return (whole | stamp) / 1000


class Watcher:
    """Takes frames as the pipeline does: the newest, none above ``max_age``."""

    def __init__(self, url: str) -> None:
        from agent.sources.capture import Capture
        from agent.sources.stream import StreamCamera

        self.seen: list[Seen] = []
        self.stale = 0
        self._wake = threading.Event()
        self._ended = threading.Event()
        self.capture = Capture("rtsp", StreamCamera(url, timeout=2.0), stall_after=2.0, on_frame=self._wake.set)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watcher:
        self.capture.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._wake.set()
        self._thread.join(5)
        self.capture.stop(5)

    def _run(self) -> None:
        while not self._ended.is_set():
            self._wake.wait(0.5)
            self._wake.clear()
            frame, now = self.capture.take(), time.monotonic()
            if frame is None:
                continue
            if now - frame.captured_mono > MAX_AGE:
                self.stale += 1
                continue
            self.seen.append(Seen(now, now - made_at(frame.pixels, now), now - frame.captured_mono))

    def first_made_after(self, moment: float, timeout: float) -> Seen | None:
        """The first frame that was made after a moment."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            found = next((one for one in self.seen[-500:] if one.at - one.age > moment), None)
            if found is not None:
                return found
            self._ended.wait(0.01)
        return None


def start_server(prefix: Sequence[str], address: str, port: int) -> subprocess.Popen[bytes]:
    """The server, when it listens."""
    process = subprocess.Popen([*prefix, PYTHON, str(SERVER), address, str(port)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    if process.stdout.readline().strip() != b"ready":
        raise SystemExit(f"{PYTHON} cannot serve RTSP: apt-get install python3-gi gir1.2-gst-rtsp-server-1.0 …")
    return process


def one_outage(watcher: Watcher, server: subprocess.Popen[bytes], start: Any, up: float) -> tuple[Any, Outage]:
    """Kill, wait a moment, start again, and see when the picture is back."""
    server.kill()
    server.wait()
    watcher._ended.wait(1.0)
    server = start()
    ready = time.monotonic()
    first = watcher.first_made_after(ready, 20.0)
    before = len(watcher.seen)
    watcher._ended.wait(up)
    return server, Outage(float("inf") if first is None else first.at - ready, len(watcher.seen) - before)


def measure(args: argparse.Namespace, network: Network | NoNetwork, address: str) -> dict[str, Any]:
    """All outages; true ages, descriptors and memory of this process before and after."""
    own = psutil.Process()

    def start() -> subprocess.Popen[bytes]:
        return start_server(network.prefix(), address, args.port)

    server = start()
    outages, holds = [], []
    if args.loss and isinstance(network, Network):
        network.lose(args.loss)
    with Watcher(f"rtsp://{address}:{args.port}/live") as watcher:
        if watcher.first_made_after(0.0, 20.0) is None:
            raise SystemExit(f"no picture came: {watcher.capture.status().reason}")
        for _ in range(args.outages):
            server, outage = one_outage(watcher, server, start, args.up)
            outages.append(outage)
            holds.append((own.num_fds(), own.memory_info().rss))
        server.kill()
        ages = [one.age for one in watcher.seen]
        stale = watcher.stale
        errors = [one.age - one.stamped_age for one in watcher.seen]
    server.wait()
    later = holds[len(holds) // 2 :]
    return {
        "loss_percent": args.loss if isinstance(network, Network) else 0,
        "outages": [outage._asdict() for outage in outages],
        "frames": len(ages),
        "age_ms": {name: round(float(np.percentile(ages, share)) * 1e3, 1) for name, share in PERCENTILES.items()},
        "late_stamp_ms": round(statistics.median(errors) * 1e3, 1),
        "refused_as_stale": stale,
        "descriptors": [fds for fds, _ in holds],
        "rss_mb": [round(rss / 1e6, 1) for _, rss in holds],
        "rss_growth_mb": round((later[-1][1] - later[0][1]) / 1e6, 1),
    }


PERCENTILES = {"p50": 50, "p95": 95, "p99": 99, "most": 100}


def main() -> int:
    """Run, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--outages", type=int, default=5, help="how often the server goes (default %(default)s)")
    parser.add_argument("--up", type=float, default=5.0, help="seconds between two outages (default %(default)s)")
    parser.add_argument("--loss", type=int, default=2, help="per cent of packets lost, each way (default %(default)s)")
    parser.add_argument("--port", type=int, default=18554, help="of the server (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    args = parser.parse_args()
    why_not = obstacle()
    if why_not:
        print(f"no packet is lost here: {why_not}", file=sys.stderr)
        result = measure(args, NoNetwork(), "127.0.0.1")
    else:
        enter()
        with Network() as network:
            result = measure(args, network, AGENT)
    if args.json:
        print(json.dumps(result))
        return 0
    for number, outage in enumerate(result["outages"], 1):
        after = f"{outage['back']:.2f} s after the return, {outage['frames']} frames until the next"
        print(f"outage {number}: newest frame {after}")
    for name in ("loss_percent", "frames", "age_ms", "late_stamp_ms", "refused_as_stale", "descriptors", "rss_mb"):
        print(f"{name}: {result[name]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
