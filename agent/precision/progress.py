"""How far long work has come, told to whoever asked for it: a count of steps, which the caller shows as it likes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

Steps = Callable[[str, "int | None"], AbstractContextManager[Callable[[], object]]]
"""Called with what is counted, in the plural, and how many there are (None where nobody knows); gives a context whose
value is to be called after each step."""


@contextmanager
def untold(_what: str, _total: int | None) -> Iterator[Callable[[], object]]:
    """Steps that nobody wants to hear of."""
    yield lambda: None
