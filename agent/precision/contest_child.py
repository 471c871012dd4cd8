"""``python -m agent.precision.contest_child PARENT``: times engines on a model in a process of its own.

Started by contest.py, whose process id is PARENT. A graph that crashes an engine, and the memory of the engines that
lose, are this process's. The request comes on stdin, the answer goes to stdout; what native code prints, to stderr.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from agent.detection.model import load_package
from agent.engines import on_processor
from agent.engines.build_child import die_with
from agent.errors import AgentError
from agent.precision.contest_rules import Request, Result
from agent.precision.trial import open_detector

if TYPE_CHECKING:
    from agent.detection.detector import Detector

NICENESS = 10
SECONDS = 1.0
"""Of each engine."""
LEAST = 7


def main(parent: int) -> int:
    """Measure; 0 when the answer is written."""
    die_with(parent)
    with contextlib.suppress(OSError):  # a service may be forbidden to change priorities
        os.nice(NICENESS)
    answer = os.dup(1)
    os.dup2(2, 1)
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=Request)
    with os.fdopen(answer, "wb") as out:
        out.write(msgspec.json.encode(contest(request)))
    return 0


def contest(request: Request, seconds: float = SECONDS) -> list[Result]:
    """Each entry's time, or what was in its way."""
    detectors: list[Detector | None] = []
    results = []
    for entry in request.entries:
        try:
            detectors.append(_open(request, *entry))
            results.append(Result(entry=entry))
        except AgentError as error:
            detectors.append(None)
            results.append(Result(entry=entry, fault=str(error)))
    quickest = iter(interleaved([one for one in detectors if one is not None], seconds))
    return [one if one.fault else msgspec.structs.replace(one, seconds=next(quickest)) for one in results]


def interleaved(detectors: Sequence[Detector], seconds: float) -> list[float]:
    """The quickest inference of each, one of each in turn: whatever else runs makes some longer, and none shorter."""
    quickest = [float("inf")] * len(detectors)
    ends, done = time.perf_counter() + seconds * len(detectors), 0
    while detectors and (done < LEAST or time.perf_counter() < ends):
        for place, detector in enumerate(detectors):
            started = time.perf_counter()
            detector.engine_alone()
            quickest[place] = min(quickest[place], time.perf_counter() - started)
        done += 1
    return quickest


def _open(request: Request, precision: str, backend: on_processor.Backend) -> Detector:
    package = load_package(Path(request.folder))
    variant = package.choose(precision)
    opened = partial(on_processor.open_engine, backend, threads=request.threads)
    return open_detector(
        package,
        package.file_of(variant),
        variant.optimisation or "all",
        open_engine=lambda file, level, precision: opened(file, optimisation=level, precision=precision),
        precision=precision,
    )


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
