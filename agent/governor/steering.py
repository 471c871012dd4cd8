"""What the monitor does with each second's Health: ask the governor and the plugins, apply the rung, count the time.

It owns no thread and no sensor. Where a rung goes (``govern``) the user's limits stand above it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import msgspec

from agent.data import Decision, Health
from agent.governor.governing import Governor
from agent.governor.limits import Rung

log = logging.getLogger(__name__)

Chooser = Callable[[Health, Sequence[Decision], int, float], tuple[str, int] | None]
"""Shows each second's Health to the plugins and asks them: who answered, and the rung; None where nobody did."""


class Steering:
    """``govern(rung, reason)`` applies a rung, ``choose`` asks the plugins. ``governor`` None: nothing is governed."""

    def __init__(
        self,
        governor: Governor | None,
        ladder: Sequence[Rung],
        govern: Callable[[int, str], None],
        choose: Chooser = lambda health, ladder, current, now: None,
    ) -> None:
        self._governor = governor
        self._ladder = [
            Decision(rung=number, precision=rung.precision, rate=rung.rate, reason="")
            for number, rung in enumerate(ladder)
        ]
        self._govern = govern
        self._choose = choose
        self._spent = [0.0] * len(ladder)
        self._at: float | None = None
        self._rung: int | None = None

    def tick(self, health: Health, now: float) -> Health:
        """The Health with what the governor has to say; the rung that follows is applied. ``now``: monotonic."""
        self._count(health.rung, now)
        governor = self._governor
        if governor is None:
            return self.told(health)
        governor.observe(health, now)
        told = self.told(health)
        rung, reason = self._wanted(governor, told, health.rung, now)
        if rung != self._rung:
            log.info("rung %d: %s", rung, reason)
            self._rung = rung
        self._govern(rung, reason)
        return told

    def told(self, health: Health) -> Health:
        """The Health with what is known so far; nothing is learned of it."""
        told = msgspec.structs.replace(health, rung_seconds=tuple(round(spent, 1) for spent in self._spent))
        return told if self._governor is None else self._governor.told(told)

    def _wanted(self, governor: Governor, health: Health, current: int, now: float) -> tuple[int, str]:
        """A plugin's word counts, but nobody goes above what is safe, or off the ladder."""
        own = governor.decide()
        asked = self._choose(health, self._ladder, current, now)
        if asked is None:
            return own.rung, own.reason
        plugin, rung = asked
        if rung < governor.highest:
            return governor.highest, f"{own.reason}; plugin {plugin} wanted rung {rung}"
        return rung, f"plugin {plugin}"

    def _count(self, rung: int, now: float) -> None:
        if self._at is not None and 0 <= rung < len(self._spent):
            self._spent[rung] += now - self._at
        self._at = now
