"""What the user allows, as one decision: the top rung of the ladder and a cap on the rate. Pure.

Which rung the board's temperature and load allow is the policy's; this is the ceiling that it never exceeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from agent.data import Decision


class Rung(NamedTuple):
    """One step of the ladder: a precision, and inferences a second in all (None for as many as come)."""

    precision: str
    rate: float | None


class Limits(NamedTuple):
    """What was asked for by command: ``fps`` inferences a second in all, and the highest ``rung`` (0 is the top)."""

    fps: float | None = None
    rung: int | None = None


def clamp(ladder: Sequence[Rung], limits: Limits, wanted: int, reason: str) -> Decision:
    """What the governor (or a plugin) wants, but never above the limits."""
    top = ceiling(ladder, limits)
    if wanted <= top.rung:
        limited = top.rung > 0 or limits.fps is not None
        return Decision(rung=top.rung, precision=top.precision, rate=top.rate, reason=top.reason if limited else reason)
    rung = ladder[min(wanted, len(ladder) - 1)]
    rates = [rate for rate in (rung.rate, limits.fps) if rate is not None]
    return Decision(
        rung=min(wanted, len(ladder) - 1), precision=rung.precision, rate=min(rates, default=None), reason=reason
    )


def ceiling(ladder: Sequence[Rung], limits: Limits) -> Decision:
    """The decision with nothing in its way but the limits. Raises ValueError for a rung that the ladder has not."""
    number = limits.rung or 0
    if not 0 <= number < len(ladder):
        raise ValueError(f"rung: expected 0 to {len(ladder) - 1}, got {number}")
    rung = ladder[number]
    rates = [rate for rate in (rung.rate, limits.fps) if rate is not None]
    asked = [f"{name} {value:g}" for name, value in limits._asdict().items() if value is not None]
    reason = f"limited by command to {', '.join(asked)}" if asked else "no limit"
    return Decision(rung=number, precision=rung.precision, rate=min(rates, default=None), reason=reason)
