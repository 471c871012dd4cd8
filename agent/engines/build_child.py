"""``python -m agent.engines.build_child PLAN FD PARENT``: builds one plan in a process of its own.

Started by build_process.py, whose process id is PARENT.

A builder may take all memory, or crash in native code: then it is this process that ends. The request comes on stdin,
what is told (log, progress, the error) goes to the file descriptor FD as lines of JSON.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from agent.engines.build_request import BuildRequest
from agent.errors import EngineError

NICENESS = 10
PR_SET_PDEATHSIG = 1


def main(plan: str, reports: int, parent: int) -> int:
    """Build; 0 when the plan is written."""
    die_with(parent)
    os.nice(NICENESS)
    tell = partial(_tell, reports)
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=BuildRequest)
    try:
        from agent.engines.tensorrt_build import build_plan

        content = build_plan(
            request, lambda said: tell(log=list(said)), lambda phase, share: tell(phase=phase, share=share)
        )
        Path(plan).write_bytes(content)
    except EngineError as error:
        tell(error=str(error))
        return 1
    except OSError as error:
        tell(error=f"{plan}: cannot be written: {error.strerror}; make room, or set EDGEWARDEN_CACHE")
        return 1
    return 0


def _tell(reports: int, **what: Any) -> None:
    os.write(reports, msgspec.json.encode(what) + b"\n")


def die_with(parent: int) -> None:
    """End with it. A builder whose agent was killed would go on for minutes, and nobody would take its plan."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was killed before that line
        sys.exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
