"""From a start of the daemon to its first inferred frame, split: ``python benchmarks/startup.py [--runs N] [--cold]``.

With ``--cold`` the files of Python's packages are dropped from the page cache before each run, as after power-on. The
camera is drawn, or with ``--mjpeg`` a stream by HTTP that takes half a second to answer, as cameras do.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ANSWERS_AFTER = 0.5
LINE = re.compile(r"first frame inferred after ([\d.]+) s: (.*)")


class Stream(BaseHTTPRequestHandler):
    """One picture again and again, as multipart JPEG."""

    picture = b""

    def do_GET(self) -> None:
        time.sleep(ANSWERS_AFTER)
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        try:
            while True:
                head = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(self.picture)
                self.wfile.write(head + self.picture + b"\r\n")
                time.sleep(0.05)
        except OSError:
            return

    def log_message(self, *_: object) -> None:
        """Nobody wants to know."""


def serve() -> int:
    """Start the stream; its port."""
    import cv2
    import numpy as np

    pixels = np.random.default_rng(1).integers(0, 255, (240, 320, 3), dtype=np.uint8)
    Stream.picture = cv2.imencode(".jpg", pixels)[1].tobytes()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stream)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return int(server.server_address[1])


def forget() -> None:
    """Drop the files of the packages from the page cache."""
    os.sync()
    for root in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), sysconfig.get_path("stdlib"), *sys.path}:
        for path in Path(root).rglob("*") if root and Path(root).is_dir() else ():
            if (path.is_file() and path.suffix in (".so", ".py", ".pyc", ".onnx")) or ".so." in path.name:
                handle = os.open(path, os.O_RDONLY)
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(handle)


def run_once(folder: Path, source: str) -> dict[str, float]:
    """One start; seconds by part, and ``all``."""
    config = folder / "agent.toml"
    config.write_text(
        f'[agent]\nname = "node"\nstate_dir = "{folder}/state"\n[[camera]]\nname = "cam"\nsource = "{source}"\n'
        '[plugins.mqtt]\nhost = "127.0.0.1"\nport = 9\n',
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "agent", "run", "--frames", "2", "--config", str(config)]
    compiled = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300, env=compiled).stderr
    found = LINE.search(said)
    assert found, said
    parts = {name: float(seconds) for name, seconds in (part.rsplit(" ", 1) for part in found[2].split(", "))}
    return {**parts, "all": float(found[1])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--mjpeg", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    source = f"http://127.0.0.1:{serve()}/" if arguments.mjpeg else "synthetic://desk?fps=30&size=320x240"
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(arguments.runs):
            if arguments.cold:
                forget()
            runs.append(run_once(Path(folder), source))
    found = {name: [run[name] for run in runs] for name in runs[0]}
    if arguments.json:
        print(json.dumps({name: {"median": statistics.median(v), "min": min(v)} for name, v in found.items()}))
        return
    print(f"{'seconds':<12} median    min  ({len(runs)} starts, {'cold' if arguments.cold else 'warm'})")
    for name, values in found.items():
        print(f"{name:<12} {statistics.median(values):6.2f} {min(values):6.2f}")


if __name__ == "__main__":
    main()
