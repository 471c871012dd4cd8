"""The manner of every contestant: a process that says when it is ready, runs a round for each line that it reads, and
prints one JSON object a round. Standard library alone: peers' environments have nothing of ours."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any


def serve(round_: Callable[[], Mapping[str, Any]], **about: Any) -> None:
    """Until standard input ends. ``about`` is told with the first line."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer
    print(json.dumps({"ready": True, **about}), file=out, flush=True)
    for _ in sys.stdin:
        print(json.dumps({**round_(), "rss_mb": round(resident_mb(), 1)}), file=out, flush=True)


def resident_mb() -> float:
    """Of this process, in 10^6 bytes."""
    with open("/proc/self/statm", encoding="ascii") as told:
        return int(told.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def timed(step: Callable[[], object], count: int) -> dict[str, float]:
    """Milliseconds by the clock and of processor time (all threads) of one of ``count`` steps."""
    wall, spent = time.perf_counter(), time.process_time()
    for _ in range(count):
        step()
    spent, wall = time.process_time() - spent, time.perf_counter() - wall
    return {"ms": wall / count * 1e3, "cpu_ms": spent / count * 1e3}
