"""How long it must be calm before a step is tried that did not last before. Pure."""

from __future__ import annotations

from typing import Protocol


class Patience(Protocol):
    """Seconds: what is waited at first and at most; a step that lasted for ``proved`` was right."""

    @property
    def calm_for(self) -> float:
        """At first."""

    @property
    def calm_most(self) -> float:
        """At most."""

    @property
    def proved(self) -> float:
        """So long."""


def caution(before: float, stepped: float | None, now: float, patience: Patience) -> float:
    """The calm, in seconds, that is waited for next, and at least what is waited at first: twice as much as ``before``
    after a step that did not last, 0 after one that did, and as before where none was made since. ``stepped``: when."""
    if stepped is None:
        return before
    if now - stepped >= patience.proved:
        return 0.0
    return min(patience.calm_most, 2 * max(before, patience.calm_for))
