"""Waiting for a condition with a deadline, the only kind of waiting the tests do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_pause = threading.Event()


def wait_until(condition: Callable[[], object], timeout: float = 10.0, what: str = "") -> None:
    """Return as soon as ``condition()`` is true; fail the test after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout} s: {what or condition}"
        _pause.wait(0.01)
