"""Contestants as processes: started once, a line for a round, a JSON object back, and none left behind."""

from __future__ import annotations

import contextlib
import json
import selectors
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CONTESTANTS = Path(__file__).resolve().parent / "contestants"
STARTS_WITHIN = 120.0
ROUND_WITHIN = 120.0


class ContestantError(Exception):
    """It could not start, ended, or did not answer; the text says which and with what last words."""


class Contestant:
    """``benchmarks/contestants/SCRIPT.py`` in an interpreter; a context manager that starts and ends it."""

    def __init__(self, name: str, script: str, *words: str | Path, python: Path | None = None, folder: Path) -> None:
        self.name = name
        self.about: dict[str, Any] = {}
        self._command = [str(python or sys.executable), str(CONTESTANTS / script), *map(str, words)]
        self._said = folder / f"{name.replace(' ', '_').replace('/', '_')}.stderr"
        self._process: subprocess.Popen[bytes] | None = None
        self._rest = b""

    def __enter__(self) -> Contestant:
        with self._said.open("wb") as sink:
            # A group of its own: Ctrl-C is for the harness, which then ends everyone.
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=sink, start_new_session=True
            )
        began = time.monotonic()
        try:
            self.about = self._answer(STARTS_WITHIN)
            self.about["seconds_to_ready"] = round(time.monotonic() - began, 2)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(OSError):
            assert process.stdin is not None
            process.stdin.close()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def round(self) -> dict[str, Any]:
        """One more round. Raises ContestantError."""
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(b"round\n")
            self._process.stdin.flush()
        except OSError:
            raise ContestantError(f"{self.name}: has ended: {self._last_words()}") from None
        return self._answer(ROUND_WITHIN)

    def _answer(self, within: float) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        deadline = time.monotonic() + within
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._rest:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise ContestantError(f"{self.name}: no answer within {within:.0f} s: {self._last_words()}")
                came = self._process.stdout.read1(65536)  # type: ignore[attr-defined]
                if not came:
                    raise ContestantError(f"{self.name}: {self._last_words()}")
                self._rest += came
        line, _, self._rest = self._rest.partition(b"\n")
        try:
            answer: dict[str, Any] = json.loads(line)
        except json.JSONDecodeError:
            raise ContestantError(f"{self.name}: said {line[:200]!r}, which is no JSON") from None
        return answer

    def _last_words(self) -> str:
        lines = self._said.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "it ended without a word"


def last_line(text: str) -> str:
    """Of what a program said; for an error's one line."""
    lines = text.strip().splitlines()
    return lines[-1][:300] if lines else "no word of why"


def run_quietly(command: Sequence[str | Path], timeout: float) -> str:
    """A command to its end; its output. Raises ContestantError with its last words."""
    shown = " ".join(map(str, command[:4]))
    try:
        done = subprocess.run(
            [str(word) for word in command], capture_output=True, text=True, timeout=timeout, check=False
        )
    except FileNotFoundError:
        raise ContestantError(f"{command[0]}: is not installed") from None
    except subprocess.TimeoutExpired:
        raise ContestantError(f"{shown} …: not done within {timeout:.0f} s") from None
    if done.returncode:
        raise ContestantError(f"{shown} …: {last_line(done.stderr or done.stdout)}")
    return done.stdout
