"""The thermal half of the governor: what is learned of the heat, and the rung that follows, for one or many.

The daemon has one board, the simulator many side by side; both run this. Rules are policy.py's, the model heat.py's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agent.governor.heat import Floats, Forecast, HeatBank
from agent.governor.policy import Choice, Memory, Settings, Situation, choose

NEWS = 0.35
"""How much of a sample's surprise moves the forecasts at once. What it teaches of gains is used from the next sample
on: so a hotter newest sample can never speak for a higher rung."""


class Thermal:
    """``heats`` and ``precisions`` of the ladder's rungs, hottest first. All boards begin at the bottom, and the first
    sample decides how far up they go. ``rungs`` and ``forecasts``: of each board, after the last ``step``."""

    def __init__(self, heats: Sequence[float], precisions: Sequence[str], settings: Settings, count: int = 1) -> None:
        self._bank = HeatBank(count)
        self._heats = list(heats)
        self._precisions = list(precisions)
        self._settings = settings
        self._memories = [Memory()] * count
        self.rungs = [len(heats) - 1] * count
        self.forecasts: list[Forecast] = []

    def step(
        self, over: Floats, heat: Floats, time: float, seconds: float = 1.0, heats: Sequence[float] | None = None
    ) -> list[Choice]:
        """``over``: kelvin over the limit, NaN where no sensor answered; ``heat``: put in during the last ``seconds``.

        ``heats``: what the rungs would cost now, where that is less than the ladder says (the cameras give no more).
        """
        self._bank.advance(over, heat, seconds)
        level, ahead, gain, doubt = self._bank.forecasts(heat)
        known = np.isfinite(over)
        news = np.where(known, NEWS * (np.where(known, over, 0.0) - level), 0.0)
        self._bank.learn(over)
        # A sensor that says that the limit is passed is believed at once, whatever the model thinks.
        passed = np.where(known & (over >= 0.0), over, -np.inf)
        rows = zip(
            np.maximum(level + news, passed).tolist(),
            (ahead + news[:, None]).tolist(),
            gain.tolist(),
            doubt.tolist(),
            strict=True,
        )
        self.forecasts = [Forecast(*row) for row in rows]
        costs = self._heats if heats is None else heats
        choices = [
            choose(Situation(forecast, costs, self._precisions, rung, put), memory, time, self._settings)
            for forecast, rung, put, memory in zip(
                self.forecasts, self.rungs, heat.tolist(), self._memories, strict=True
            )
        ]
        self.rungs = [choice.rung for choice in choices]
        self._memories = [choice.memory for choice in choices]
        return choices
