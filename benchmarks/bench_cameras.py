"""Four cameras of 1080p that share the processor: fair shares, and frames that do not grow older. By hand for longer:

python benchmarks/bench_cameras.py --minutes 10 [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench_clips import repeated, scaled
from bench_daemon import Camera, Daemon, Running
from bench_host import Host
from bench_rooms import YOLOX, Bench, opened
from bench_rows import Row, spread

CLIP, CLIP_SECONDS = "car-detection.mp4", 30.0
COUNT, FPS = 4, 5.0
SHORT = 36.0
SETTLE = 5.0
EVERY = 2.5
SHARES, GROWTH = 0.05, 1.1


def cameras(bench: Bench, seconds: float = SHORT) -> None:
    """Played at their own pace, inferred five times a second each."""
    clip = scaled(bench.clip(CLIP), 1080)
    clip = repeated(clip, math.ceil((seconds + SETTLE + 10) / CLIP_SECONDS))
    four = [Camera(f"cam{number}", str(clip), fps=FPS) for number in range(COUNT)]
    daemon = Daemon(bench.folder / "cameras", bench.package(YOLOX), four, bench.broker_port)
    with daemon.start() as running:
        running.wait_for_first_frame()
        time.sleep(SETTLE)
        began, before = time.monotonic(), running.cpu_seconds()
        samples = sampled(daemon.folder / "state" / "status.json", running, seconds, bench.say)
        load = (running.cpu_seconds() - before) / (time.monotonic() - began)
        summary = running.stop()
    shares = {name: camera["inferred"] for name, camera in summary["cameras"].items()}
    growth = grown([sample["age_ms"] for sample in samples])
    bench.groups["four cameras of 1080p"] = {
        "seconds": seconds,
        "inferred": shares,
        "processors": round(load, 3),
        "frame_age_ms": summary["frame_age_ms"],
        "samples": samples,
    }
    what = f"four 1080p cameras at 5 fps for {seconds:.0f} s ({load:.2f} processors)"
    bench.add(
        Row("four cameras: shares", f"{what}: shares apart by", spread(list(shares.values())), "", SHARES, kept=False)
    )
    bench.add(
        Row(
            "four cameras: rate",
            f"{what}: inferred / wanted",
            min(shares.values()) / (FPS * (seconds + SETTLE)),
            "",
            0.95,
            "higher",
            kept=False,
        )
    )
    bench.add(
        Row("four cameras: age growth", f"{what}: frame age, last third / first third", growth, "x", GROWTH, kept=False)
    )


def sampled(status: Path, running: Running, seconds: float, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Every few seconds the ages of the cameras' newest frames, out of status.json (each is told once)."""
    samples: list[dict[str, Any]] = []
    began, told, said = time.monotonic(), 0.0, 0.0
    while (now := time.monotonic() - began) < seconds:
        time.sleep(min(EVERY, seconds - now))
        running.check()
        health = read_health(status)
        if health is None or health["at"] <= told:
            continue
        told = health["at"]
        ages = [camera.get("frame_age_p95_ms") for camera in health["cameras"].values()]
        known = [age for age in ages if age is not None]
        if known:
            samples.append({"at": round(now, 1), "age_ms": round(statistics.fmean(known), 2), **running.memory()})
        if now - said > 60:
            said = now
            say(f"four cameras: {now / 60:.0f} minutes, frame age p95 {samples[-1]['age_ms']:.1f} ms")
    return samples


def read_health(status: Path) -> dict[str, Any] | None:
    """The daemon's last; None before its first."""
    try:
        health: dict[str, Any] = json.loads(status.read_text(encoding="utf-8"))["health"]
    except (OSError, ValueError, KeyError):
        return None
    return health


def grown(ages: Sequence[float]) -> float:
    """The median of the last third over that of the first; 1 for less than three."""
    third = len(ages) // 3
    return statistics.median(ages[-third:]) / statistics.median(ages[:third]) if third else 1.0


def main() -> int:
    """On its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    host = Host()
    with opened(1, "cameras-") as bench:
        cameras(bench, 60 * options.minutes)
        for row in bench.rows:
            print(row.line())
        print(f"the machine's host took {host.whole():.1%} of the processors' time for others")
        if options.json:
            told = {"rows": [row.document() for row in bench.rows], **bench.groups}
            options.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    return 0 if all(row.met is not False for row in bench.rows) else 1


if __name__ == "__main__":
    sys.exit(main())
