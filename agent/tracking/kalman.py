"""A constant-velocity Kalman filter over many boxes at once, in seconds, so that any frame rate will do.

It knows boxes and their motion alone; which box belongs to which track is the tracker's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Rows = NDArray[np.intp]

ACCELERATION = 1.0
"""Root of the spectral density of the acceleration noise, in body lengths / s^1.5: within a second a walker's speed
changes by about one body length a second."""
MEASUREMENT = 0.05
"""Standard deviation of a measured centre or side, in body lengths."""
FIRST_SPEED = 1.5
"""Standard deviation of the speed of a box seen once, in body lengths / s."""


class BoxFilter:
    """N independent filters with the state (centre x, centre y, width, height) and its velocities.

    A body length is ``sqrt(width * height)`` of the box itself, so all noise is relative to its size. The four axes
    do not influence each other; each has position x, velocity u and the covariance [[p, c], [c, v]]. The noise of all
    four is the same, and they are measured together or not at all, so that one covariance does for them: x and u are
    arrays ``[4, N]``, p, c and v ``[N]``. With dt in seconds, q and r the spectral density of the acceleration and the
    measurement's variance:

        predict    x += u dt    p += 2 c dt + v dt^2 + q dt^3 / 3    c += v dt + q dt^2 / 2    v += q dt
        update     k = p / (p + r)    l = c / (p + r)    x += k y    u += l y    v -= l c    c *= 1 - k    p *= 1 - k

    where y is measured minus predicted. Source: the continuous white noise acceleration model, Bar-Shalom, Li,
    Kirubarajan, Estimation with Applications to Tracking and Navigation (2001), 6.2.2, and the Kalman filter, 5.2.
    """

    def __init__(self) -> None:
        self._x = np.empty((4, 0))
        self._u = np.empty((4, 0))
        self._p = np.empty(0)
        self._c = np.empty(0)
        self._v = np.empty(0)
        self._long: Array | None = None

    def __len__(self) -> int:
        return len(self._p)

    def predict(self, dt: float) -> None:
        """Move every box ``dt`` seconds on."""
        if dt <= 0.0 or not len(self):
            return
        q = (ACCELERATION * self.lengths()) ** 2
        self._x += self._u * dt
        self._long = None
        self._p += dt * (2.0 * self._c + dt * (self._v + q * (dt / 3.0)))
        self._c += dt * (self._v + q * (dt / 2.0))
        self._v += q * dt

    def update(self, rows: Rows, measured: Array) -> None:
        """Correct the filters ``rows`` by what was measured for them, as ``centred`` gives it ``[4, K]``."""
        place, variance = self._x.copy(), np.full(len(self), np.inf)  # unmeasured: k and l come out as 0
        place[:, rows] = measured
        variance[rows] = (MEASUREMENT * _lengths(measured)) ** 2
        total = self._p + variance
        k, slope, innovation = self._p / total, self._c / total, place - self._x
        self._x += k * innovation
        self._long = None
        self._u += slope * innovation
        self._v -= slope * self._c
        kept = 1.0 - k
        self._c *= kept
        self._p *= kept

    def add(self, measured: Array) -> None:
        """Begin one filter, at rest, for each of the boxes as ``centred`` gives them ``[4, K]``."""
        variance = _lengths(measured) ** 2
        self._x, self._long = np.concatenate([self._x, measured], axis=1), None
        self._u = np.concatenate([self._u, np.zeros_like(measured)], axis=1)
        self._p = np.concatenate([self._p, variance * MEASUREMENT**2])
        self._c = np.concatenate([self._c, np.zeros_like(variance)])
        self._v = np.concatenate([self._v, variance * FIRST_SPEED**2])

    def keep(self, mask: NDArray[np.bool_]) -> None:
        """Forget the filters whose ``mask`` is False."""
        self._x, self._u, self._long = self._x[:, mask], self._u[:, mask], None
        self._p, self._c, self._v = self._p[mask], self._c[mask], self._v[mask]

    def hold_sizes(self, rows: Rows) -> None:
        """Stop the growth of boxes that nobody measures: their size would run away before their place does."""
        self._u[2:, rows] = 0.0

    def rest(self, rows: Rows) -> None:
        """Boxes that stand still and that nobody measures stay where they are."""
        self._u[:, rows] = 0.0

    def confine(self, rows: Rows, size: tuple[int, int]) -> None:
        """Boxes that nobody measures wait at the picture's border, where they would come in again."""
        centres = self._x[:2].take(rows, axis=1)
        inside = np.minimum(np.maximum(centres, 0.0), [[size[0]], [size[1]]])
        for axis, which in zip(*(inside != centres).nonzero(), strict=True):
            self._u[axis, rows[which]] = 0.0
            self._x[axis, rows[which]] = inside[axis, which]

    def centres(self) -> Array:
        """Where the centres are, ``[2, N]``."""
        return self._x[:2]

    def shift(self, by: Array) -> None:
        """Move all boxes by ``[2]`` pixels: the camera moved, not they."""
        self._x[:2] += by[:, None]

    def speeds(self) -> Array:
        """How fast the centres move, body lengths a second ``[N]``."""
        return np.asarray(np.hypot(self._u[0], self._u[1]) / self.lengths())

    def boxes(self) -> Array:
        """Where the boxes are, xyxy ``[4, N]``; no side is below one pixel."""
        centres, half = self._x[:2], np.maximum(self._x[2:], 1.0) / 2.0
        return np.concatenate([centres - half, centres + half])

    def lengths(self) -> Array:
        """The body length of each box, pixels ``[N]``. Not to be written to."""
        if self._long is None:
            self._long = _lengths(self._x)
        return self._long

    def spread(self) -> Array:
        """Standard deviation of the centre along either axis, pixels ``[N]``."""
        return np.asarray(np.sqrt(self._p))


def centred(boxes: Array) -> Array:
    """xyxy ``[4, N]`` as (centre x, centre y, width, height) ``[4, N]``."""
    low, high = boxes[:2], boxes[2:]
    return np.concatenate([(low + high) / 2.0, high - low])


def _lengths(x: Array) -> Array:
    sides = np.maximum(x[2:], 1.0)
    return np.asarray(np.sqrt(sides[0] * sides[1]))
