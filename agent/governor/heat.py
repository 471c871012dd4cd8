"""What heats the board, learned while it runs: a bank of Kalman filters, one for each guess of its time constants.

Pure arithmetic on samples of one temperature, for any number of boards at once (the daemon has one, the simulator a
thousand). What to do about a forecast is the policy's.

The model is the two-node RC network of every board's thermal data sheet, seen from one sensor: the temperature is
``A + F f + S s`` where ``f`` and ``s`` are the heat that was put in, smoothed by the junction's and the board's time
constant, ``F`` and ``S`` (kelvin a unit of heat) what of it shows at once and what slowly, and ``A`` everything else:
the air, idling, other processes, the sun. ``A`` drifts with a rate ``V`` that dies away. Linear in ``A, V, F, S`` for
given time constants, so each filter is exact, and their likelihoods say which time constants are this board's.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

JUNCTION_SECONDS = (4.0, 8.0, 15.0)
BOARD_SECONDS = (60.0, 120.0, 240.0, 480.0, 900.0)
"""The grid of time constants. The sensor's own lag looks like a slower junction."""

HORIZONS = (10.0, 30.0, 120.0, 1e9)
"""Seconds ahead that are forecast; the last one is the steady state."""

SENSOR_VARIANCE = 0.4**2
DRIFT_SECONDS = 60.0
DRIFT_NOISE = 0.0008**2
"""Variance a second of V when nothing surprising happens."""
WANDER_NOISE = 0.01**2
LEARN_NOISE = 0.01**2
"""The same of A, and of F and S."""
PRIOR_MEAN = (20.0, 25.0)
PRIOR_DEVIATION = (20.0, 20.0)
"""F and S of a board of which nothing is known yet: with its heat sink it rises by some 45 K, a bad one by 100."""
SURPRISE = 1.1
SURPRISE_MEMORY = 0.8
"""A mean of recent errors, in standard deviations, that is no chance: its own deviation is 0.33."""
FORGET = 0.998
"""How much of a likelihood is left a second later: a board may get another fan."""


class Forecast(NamedTuple):
    """Kelvin, on the scale of what was fed in. ``level``: now. ``ahead``: at each of HORIZONS if the heat stays as it
    is; ``gain`` and ``doubt``: what one more unit of heat adds by then, and the standard deviation of that."""

    level: float
    ahead: tuple[float, ...]
    gain: tuple[float, ...]
    doubt: tuple[float, ...]


class HeatBank:
    """The filters of ``count`` boards. Once a sample: ``advance``, then ``forecasts``, then ``learn``."""

    def __init__(self, count: int = 1) -> None:
        grid = [(junction, board) for junction in JUNCTION_SECONDS for board in BOARD_SECONDS]
        self._junction = np.array([junction for junction, _ in grid])
        self._board = np.array([board for _, board in grid])
        shape = (count, len(grid))
        self._fast = np.zeros(shape)
        self._slow = np.zeros(shape)
        self._state = np.zeros((*shape, 4))
        self._state[..., 2:] = PRIOR_MEAN
        self._cov = np.zeros((*shape, 4, 4))
        for place, deviation in enumerate((5.0, 0.05, *PRIOR_DEVIATION)):
            self._cov[..., place, place] = deviation**2
        self._log_weight = np.zeros(shape)
        self._surprise = np.zeros(count)
        self._seen = np.zeros(count, dtype=bool)
        ahead = np.array(HORIZONS)[:, None]
        self._fast_rest = np.exp(-ahead / self._junction)
        self._slow_rest = np.exp(-ahead / self._board)
        self._drift_ahead = DRIFT_SECONDS * (1 - np.exp(-ahead[:, 0] / DRIFT_SECONDS))

    def advance(self, measured: Floats, heat: Floats, seconds: float = 1.0) -> None:
        """To the moment of a sample, without learning from it: ``heat`` (``[count]``) was put in for ``seconds``.

        ``measured`` (``[count]``, NaN where there is none) only gives a board of which nothing is known its level.
        """
        self._move(heat, seconds)
        new = np.isfinite(measured) & ~self._seen
        if new.any():
            self._state[new, :, 0] = measured[new, None] - self._explained()[new]
            self._seen |= new

    def learn(self, measured: Floats) -> None:
        """From the sample itself."""
        known = np.isfinite(measured)
        self._correct(np.where(known, measured, 0.0), known)

    def forecasts(self, heat: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """Level ``[count]``, then ahead, gain and doubt, each ``[count, horizons]``, if ``heat`` stays."""
        weight = self._weights()
        state, cov = self._state, self._cov
        present = state[..., 0] + self._explained()
        level = (weight * present).sum(axis=1)
        reach_f, reach_s = 1 - self._fast_rest, 1 - self._slow_rest
        gain_f, gain_s = np.maximum(state[..., 2], 0.0), np.maximum(state[..., 3], 0.0)
        put = heat[:, None]
        ahead = np.empty((len(heat), len(HORIZONS)))
        gain, doubt = np.empty_like(ahead), np.empty_like(ahead)
        for number in range(len(HORIZONS)):
            f, s = reach_f[number], reach_s[number]
            each = gain_f * f + gain_s * s
            mean = (weight * each).sum(axis=1)
            spread = (each - mean[:, None]) ** 2
            own = cov[..., 2, 2] * f * f + 2 * cov[..., 2, 3] * f * s + cov[..., 3, 3] * s * s
            later = (
                present
                + state[..., 1] * self._drift_ahead[number]
                + gain_f * f * (put - self._fast)
                + gain_s * s * (put - self._slow)
            )
            ahead[:, number] = (weight * later).sum(axis=1)
            gain[:, number] = mean
            doubt[:, number] = np.sqrt((weight * (spread + own)).sum(axis=1))
        return level, ahead, gain, doubt

    def _move(self, heat: Floats, seconds: float) -> None:
        rest_f, rest_s = np.exp(-seconds / self._junction), np.exp(-seconds / self._board)
        put = heat[:, None]
        self._fast = put + (self._fast - put) * rest_f
        self._slow = put + (self._slow - put) * rest_s
        fade = float(np.exp(-seconds / DRIFT_SECONDS))
        carry = DRIFT_SECONDS * (1 - fade)
        state, cov = self._state, self._cov
        state[..., 0] += carry * state[..., 1]
        state[..., 1] *= fade
        cov[..., 0, :] += carry * cov[..., 1, :]
        cov[..., :, 0] += carry * cov[..., :, 1]
        cov[..., 1, :] *= fade
        cov[..., :, 1] *= fade
        cov[..., 0, 0] += WANDER_NOISE * seconds
        cov[..., 1, 1] += DRIFT_NOISE * seconds
        cov[..., 2, 2] += LEARN_NOISE * seconds
        cov[..., 3, 3] += LEARN_NOISE * seconds

    def _correct(self, measured: Floats, known: NDArray[np.bool_]) -> None:
        state, cov = self._state, self._cov
        row = np.stack([np.ones_like(self._fast), np.zeros_like(self._fast), self._fast, self._slow], axis=-1)
        spread = (cov @ row[..., None])[..., 0]
        variance = (spread * row).sum(axis=-1) + SENSOR_VARIANCE
        error = np.where(known[:, None], measured[:, None] - state[..., 0] - self._explained(), 0.0)
        share = np.where(known[:, None, None], spread / variance[..., None], 0.0)
        state += share * error[..., None]
        cov -= share[..., None] * spread[..., None, :]
        weight = self._weights()
        fit = -0.5 * (error * error / variance + np.log(variance))
        self._log_weight = np.where(known[:, None], FORGET * self._log_weight + fit, self._log_weight)
        self._log_weight -= self._log_weight.max(axis=1, keepdims=True)
        self._watch((weight * error / np.sqrt(variance)).sum(axis=1), known)

    def _watch(self, error: Floats, known: NDArray[np.bool_]) -> None:
        """Errors of one sign in a row: something else heats or cools the board, and the drift is set free."""
        kept = SURPRISE_MEMORY * self._surprise + (1 - SURPRISE_MEMORY) * error
        self._surprise = np.where(known, kept, self._surprise)
        hit = np.abs(self._surprise) > SURPRISE
        if hit.any():
            self._cov[hit, :, 0, 0] += 0.5**2
            self._cov[hit, :, 1, 1] += 0.1**2
            self._surprise[hit] = 0.0

    def _explained(self) -> Floats:
        return np.asarray(self._state[..., 2] * self._fast + self._state[..., 3] * self._slow, dtype=np.float64)

    def _weights(self) -> Floats:
        weight = np.exp(self._log_weight)
        return np.asarray(weight / weight.sum(axis=1, keepdims=True), dtype=np.float64)
