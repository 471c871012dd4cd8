"""Boards made up for trying policies on: a two-node RC thermal network, its air, and a sensor that is not perfect.

The parameters' distributions are fixed (``draw``); nothing here knows of any policy, and a policy sees ``Sensor``
alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RELEASE = 2.0
"""Kelvin below the trip at which the hardware gives the full speed back."""
NOMINAL_ENERGY = {"fp32": 1.0, "fp16": 0.7, "int8": 0.55}


Positive = Annotated[float, Meta(gt=0)]
Share = Annotated[float, Meta(gt=0, lt=1)]
Celsius = Annotated[float, Meta(ge=-60, le=150)]


class Event(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The air: from ``at`` (seconds) it moves by ``change`` kelvin within ``over`` seconds, 0 for a step."""

    at: Annotated[float, Meta(ge=0)]
    change: float
    over: Annotated[float, Meta(ge=0)] = 0.0


class Plant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One board. Temperatures in Celsius and kelvin, times in seconds.

    ``rise``: of the junction over the air at the top rung, steady; ``junction_share``: how much of it between junction
    and board; ``idle``: share of the top rung's power that is drawn without any frame; ``energy``: of a frame by
    precision, fp32 is 1.
    """

    rise: Positive
    junction_share: Share
    junction_seconds: Positive
    board_seconds: Positive
    idle: Share
    energy: dict[str, Positive] = msgspec.field(default_factory=NOMINAL_ENERGY.copy)
    trip: Celsius
    ambient: Celsius
    events: tuple[Event, ...] = ()
    lag: Positive = 1.0
    quantum: Positive = 0.5
    noise: Annotated[float, Meta(ge=0)] = 0.3
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.02

    def air(self, seconds: int) -> Floats:
        """The air's temperature at each second."""
        at = np.arange(seconds, dtype=np.float64)
        air = np.full(seconds, float(self.ambient))
        for event in self.events:
            air += event.change * np.clip((at - event.at) / max(event.over, 1e-9), 0.0, 1.0)
        return air

    @property
    def steady_from(self) -> float:
        """From when on the air stands still."""
        return max((event.at + event.over for event in self.events), default=0.0)


def draw(count: int, seed: int) -> list[Plant]:
    """Random boards. Air of 0 to 60 °C all the time, with up to three steps (to 20 K) or ramps (to 1 K a minute), which
    end within the first half of two hours, so that each has a steady hour."""
    rng = np.random.default_rng(seed)
    return [_one(rng) for _ in range(count)]


def _one(rng: np.random.Generator) -> Plant:
    def near(value: float) -> float:
        return float(value * rng.uniform(0.85, 1.15))

    ambient = float(rng.uniform(0.0, 60.0))
    return Plant(
        rise=float(rng.uniform(15.0, 75.0)),
        junction_share=float(rng.uniform(0.1, 0.5)),
        junction_seconds=float(np.exp(rng.uniform(np.log(3.0), np.log(15.0)))),
        board_seconds=float(np.exp(rng.uniform(np.log(60.0), np.log(900.0)))),
        idle=float(rng.uniform(0.1, 0.4)),
        energy={"fp32": 1.0, "fp16": near(0.7), "int8": near(0.55)},
        trip=float(rng.uniform(80.0, 99.0)),
        ambient=ambient,
        events=tuple(_events(rng, ambient)),
        lag=float(rng.uniform(0.5, 3.0)),
    )


def _events(rng: np.random.Generator, ambient: float) -> Iterator[Event]:
    """One after the other, never two at once, the air between 0 and 60 °C."""
    starts = [float(at) for at in np.sort(rng.uniform(0.0, 3600.0, rng.integers(0, 4)))]
    for at, until in zip(starts, [*starts, 3600.0][1:], strict=True):
        over = 0.0 if rng.random() < 0.5 else float(rng.uniform(0.0, until - at))
        most = over / 60.0 if over else 20.0
        change = float(np.clip(ambient + rng.uniform(-most, most), 0.0, 60.0)) - ambient
        ambient += change
        yield Event(at=at, change=change, over=over)


class Boards:
    """Many plants side by side, one second a ``step``. ``junction`` is the truth, ``sense`` what a policy may see."""

    def __init__(self, plants: Sequence[Plant], seconds: int, seed: int, top_rate: float = 30.0) -> None:
        self.trip = np.array([plant.trip for plant in plants])
        self._air = np.stack([plant.air(seconds) for plant in plants], axis=1)
        self._top_rate = top_rate
        self._rise = np.array([plant.rise for plant in plants])
        self._idle = np.array([plant.idle for plant in plants])
        share = np.array([plant.junction_share for plant in plants])
        self._move, self._push = _exact(
            np.array([plant.junction_seconds for plant in plants]),
            np.array([plant.board_seconds for plant in plants]),
            share,
        )
        start = self._air[0] + self._rise * self._idle
        self.junction = start
        self.board = self._air[0] + self._rise * self._idle * (1 - share)
        self.throttled = np.zeros(len(plants), dtype=bool)
        self._lag = np.exp(-1.0 / np.array([plant.lag for plant in plants]))
        self._quantum = np.array([plant.quantum for plant in plants])
        self._noise = np.array([plant.noise for plant in plants])
        self._dropout = np.array([plant.dropout for plant in plants])
        self._seen = start.copy()
        self._rng = np.random.default_rng(seed)

    def sense(self) -> Floats:
        """What the sensor says now, NaN where it says nothing."""
        self._seen = self.junction + (self._seen - self.junction) * self._lag
        noisy = self._seen + self._noise * self._rng.standard_normal(len(self._seen))
        said = np.round(noisy / self._quantum) * self._quantum
        return np.where(self._rng.random(len(said)) < self._dropout, np.nan, said)

    def step(self, second: int, rate: Floats, energy: Floats) -> Floats:
        """One second at ``rate`` frames of ``energy`` each; the frames that were done."""
        done = np.where(self.throttled, rate * 0.5, rate)
        power = self._idle + (1 - self._idle) * done * energy / self._top_rate
        heat = self._rise * power
        air = self._air[min(second, len(self._air) - 1)]
        nodes = np.stack([self.junction - air, self.board - air], axis=1)
        nodes = (self._move @ nodes[..., None])[..., 0] + self._push * heat[:, None]
        self.junction, self.board = nodes[:, 0] + air, nodes[:, 1] + air
        self.throttled = np.where(self.throttled, self.junction > self.trip - RELEASE, self.junction >= self.trip)
        return done


def _exact(junction: Floats, board: Floats, share: Floats) -> tuple[Floats, Floats]:
    """One second of the network, exactly: ``nodes' = move nodes + push heat``, nodes over the air, heat in kelvin of
    steady rise. With resistances ``share`` and ``1 - share`` the capacities are time constant by resistance."""
    count = len(junction)
    flow = np.zeros((count, 3, 3))
    flow[:, 0, 0] = -1 / junction
    flow[:, 0, 1] = 1 / junction
    flow[:, 0, 2] = share / junction
    flow[:, 1, 0] = (1 - share) / share / board
    flow[:, 1, 1] = -(1 - share) / share / board - 1 / board
    steps = 20
    whole = np.eye(3) + flow / 2**steps
    for _ in range(steps):
        whole = whole @ whole
    return whole[:, :2, :2], whole[:, :2, 2]
