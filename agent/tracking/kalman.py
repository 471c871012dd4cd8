"""A constant-velocity Kalman filter over many boxes at once, in seconds, so that any frame rate will do.

It knows boxes and their motion alone; which box belongs to which track is the tracker's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

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
    do not influence each other; each has position x, velocity u and the covariance [[p, c], [c, v]], held as arrays
    ``[N, 4]``. With dt in seconds, q and r the spectral density of the acceleration and the measurement's variance:

        predict    x += u dt    p += 2 c dt + v dt^2 + q dt^3 / 3    c += v dt + q dt^2 / 2    v += q dt
        update     k = p / (p + r)    l = c / (p + r)    x += k y    u += l y    v -= l c    c *= 1 - k    p *= 1 - k

    where y is measured minus predicted. Source: the continuous white noise acceleration model, Bar-Shalom, Li,
    Kirubarajan, Estimation with Applications to Tracking and Navigation (2001), 6.2.2, and the Kalman filter, 5.2.
    """

    def __init__(self) -> None:
        self._x = np.empty((0, 4))
        self._u = np.empty((0, 4))
        self._p = np.empty((0, 4))
        self._c = np.empty((0, 4))
        self._v = np.empty((0, 4))
        self._long: Array | None = None

    def __len__(self) -> int:
        return len(self._x)

    def predict(self, dt: float) -> None:
        """Move every box ``dt`` seconds on."""
        if dt <= 0.0 or not len(self):
            return
        q = (ACCELERATION * self.lengths()[:, None]) ** 2
        self._x += self._u * dt
        self._long = None
        self._p += dt * (2.0 * self._c + dt * (self._v + q * (dt / 3.0)))
        self._c += dt * (self._v + q * (dt / 2.0))
        self._v += q * dt

    def update(self, rows: NDArray[np.intp], boxes: Array) -> None:
        """Correct the filters ``rows`` by the boxes (xyxy ``[K, 4]``) that were measured for them."""
        measured, variance = self._x.copy(), np.full((len(self), 1), np.inf)  # unmeasured: k and l come out as 0
        measured[rows] = centred(boxes)
        variance[rows, 0] = (MEASUREMENT * _lengths(measured[rows])) ** 2
        total = self._p + variance
        k, slope, innovation = self._p / total, self._c / total, measured - self._x
        self._x += k * innovation
        self._long = None
        self._u += slope * innovation
        self._v -= slope * self._c
        self._c *= 1.0 - k
        self._p *= 1.0 - k

    def add(self, boxes: Array) -> None:
        """Begin one filter, at rest, for each of the boxes (xyxy ``[K, 4]``)."""
        x = centred(boxes)
        variance = np.repeat(_lengths(x)[:, None] ** 2, 4, axis=1)
        self._x, self._long = np.concatenate([self._x, x]), None
        self._u = np.concatenate([self._u, np.zeros_like(x)])
        self._p = np.concatenate([self._p, variance * MEASUREMENT**2])
        self._c = np.concatenate([self._c, np.zeros_like(x)])
        self._v = np.concatenate([self._v, variance * FIRST_SPEED**2])

    def keep(self, mask: NDArray[np.bool_]) -> None:
        """Forget the filters whose ``mask`` is False."""
        self._x, self._u, self._long = self._x[mask], self._u[mask], None
        self._p, self._c, self._v = self._p[mask], self._c[mask], self._v[mask]

    def hold_sizes(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> None:
        """Stop the growth of boxes that nobody measures: their size would run away before their place does."""
        self._u[rows, 2:] = 0.0

    def rest(self, rows: NDArray[np.bool_]) -> None:
        """Boxes that stand still and that nobody measures stay where they are."""
        self._u[rows] = 0.0

    def confine(self, rows: NDArray[np.bool_], size: tuple[int, int]) -> None:
        """Boxes that nobody measures wait at the picture's border, where they would come in again."""
        centres = self._x[rows, :2]
        inside = np.minimum(np.maximum(centres, 0.0), size)
        if (inside == centres).all():
            return
        self._u[rows, :2] = np.where(inside == centres, self._u[rows, :2], 0.0)
        self._x[rows, :2] = inside

    def centres(self) -> Array:
        """Where the centres are, ``[N, 2]``."""
        return self._x[:, :2]

    def shift(self, by: Array) -> None:
        """Move all boxes by ``[2]`` pixels: the camera moved, not they."""
        self._x[:, :2] += by

    def speeds(self) -> Array:
        """How fast the centres move, body lengths a second ``[N]``."""
        return np.asarray(np.hypot(self._u[:, 0], self._u[:, 1]) / self.lengths())

    def boxes(self) -> Array:
        """Where the boxes are, xyxy ``[N, 4]``; no side is below one pixel."""
        half = np.maximum(self._x[:, 2:], 1.0) / 2.0
        return np.concatenate([self._x[:, :2] - half, self._x[:, :2] + half], axis=1)

    def lengths(self) -> Array:
        """The body length of each box, pixels ``[N]``. Not to be written to."""
        if self._long is None:
            self._long = _lengths(self._x)
        return self._long

    def spread(self) -> Array:
        """Standard deviation of the centre, pixels ``[N]``; of the two axes the larger one."""
        return np.asarray(np.sqrt(np.maximum(self._p[:, 0], self._p[:, 1])))


def centred(boxes: Array) -> Array:
    """xyxy as (centre x, centre y, width, height)."""
    low, high = boxes[:, :2], boxes[:, 2:]
    return np.concatenate([(low + high) / 2.0, high - low], axis=1)


def _lengths(x: Array) -> Array:
    return np.asarray(np.sqrt(np.maximum(x[:, 2], 1.0) * np.maximum(x[:, 3], 1.0)))
