"""Runs the builder in a process of its own and passes on what it tells; ends it when it is no longer wanted."""

from __future__ import annotations

import logging
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from agent.engines.build_request import BuildRequest
from agent.errors import EngineError

log = logging.getLogger("agent.engines.tensorrt")

POLL = 0.2
CHILD = "agent.engines.build_child"


def run_build(
    request: BuildRequest,
    plan: Path,
    progress: Callable[[str, float], None] = lambda phase, share: None,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Build into the file ``plan``. Raises EngineError: the builder's own, that it died and how, or that ``stop()``."""
    read_end, write_end = os.pipe()
    try:
        child = _start(plan, write_end)
    finally:
        os.close(write_end)
    error = ""
    try:
        _send(child, request)
        for report in _reports(read_end, stop):
            error = report.get("error", error)
            _pass_on(report, progress)
        stopped = stop()
        if stopped:
            child.kill()
        code = child.wait()
    finally:
        child.kill()
        child.wait()
        os.close(read_end)
    if stopped:
        raise EngineError(f"{request.onnx}: building was given up")
    if error or code:
        raise EngineError(error or f"{request.onnx}: {_death(code)}")


def _start(plan: Path, write_end: int) -> subprocess.Popen[bytes]:
    """The child; what native code prints goes to stderr. A session of its own: Ctrl-C is told by us, in order."""
    command = [sys.executable, "-m", CHILD, str(plan), str(write_end), str(os.getpid())]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=2, pass_fds=(write_end,), start_new_session=True)


def _send(child: subprocess.Popen[bytes], request: BuildRequest) -> None:
    assert child.stdin is not None
    try:
        child.stdin.write(msgspec.json.encode(request))
        child.stdin.close()
    except BrokenPipeError:
        pass  # it died at its start: its exit code tells


def _reports(read_end: int, stop: Callable[[], bool]) -> Iterator[dict[str, Any]]:
    """What the child tells, until it ends or ``stop()``."""
    rest = b""
    while not stop():
        if not select.select([read_end], [], [], POLL)[0]:
            continue
        block = os.read(read_end, 1 << 16)
        if not block:
            return
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            report = msgspec.json.decode(line)
            if isinstance(report, dict):
                yield report


def _pass_on(report: dict[str, Any], progress: Callable[[str, float], None]) -> None:
    if "log" in report:
        level, text, place, code = report["log"]
        where, number = f" [{place}]" if place else "", f" (error {code})" if code else ""
        fields = {"tensorrt_place": place, "tensorrt_code": code}
        log.log(level, "tensorrt: %s%s%s", text, number, where, extra=fields)
    elif "phase" in report:
        progress(report["phase"], report["share"])


def _death(code: int) -> str:
    if code == -signal.SIGKILL:
        return "the builder was killed, as the system does when memory runs out: stop what else runs, or add swap"
    if code < 0:
        return f"the builder crashed ({signal.Signals(-code).name}); keep ONNX Runtime for this model, and report it"
    return f"the builder ended with code {code}"
