"""Interleaved rounds: the engine's floor before and after every contestant, and the ratio of the one to the other; and
turns that are taken again."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, TypeVar

from bench_host import CALM, Host
from bench_process import ContestantError
from bench_rows import beside

Turn = Callable[[], Mapping[str, Any]]
"""One round of a contestant; milliseconds a frame are its ``ms``."""

Told = TypeVar("Told")

SPARE = 15.0
"""Seconds a group for turns that are taken again."""
LEAST = 3
"""Rounds, of which a median still says something."""


class Beside(NamedTuple):
    """What one turn told, and what the floors before and after it did, the mean of each of their figures."""

    told: Mapping[str, Any]
    floor: Mapping[str, float]


@dataclass
class Lap:
    """What one contestant did: a value a round each."""

    ms: list[float] = field(default_factory=list)
    ratio: list[float] = field(default_factory=list)
    more: list[Mapping[str, Any]] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """For the JSON: medians, and every round; resident memory where it was told."""
        memory = [float(told["rss_mb"]) for told in self.more if "rss_mb" in told]
        return {
            **({"rss_mb": statistics.median(memory)} if memory else {}),
            "ms": round(statistics.median(self.ms), 4),
            "ratio": round(statistics.median(self.ratio), 4),
            "rounds": [
                {"ms": round(ms, 4), "ratio": round(ratio, 4)} for ms, ratio in zip(self.ms, self.ratio, strict=True)
            ],
        }


class FloorError(Exception):
    """The floor failed, which is nobody's fault who is compared with it."""


class Calm:
    """Turns from which the machine's host took much are taken once more, as far as that fits into the ``spare``
    seconds; of the two the one counts from which it took less."""

    def __init__(
        self,
        spare: float = SPARE,
        *,
        stolen: Callable[[], float] | None = None,
        clock: Callable[[], float] = time.monotonic,
        say: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self._spare = spare
        self._stolen = stolen or Host().lap
        self._clock = clock
        self._say = say

    def __call__(self, turn: Callable[[], Told]) -> Told:
        """What the turn gives. Raises what the first one raises; a second that fails takes nothing back."""
        self._stolen()
        began = self._clock()
        first = turn()
        share, took = self._stolen(), self._clock() - began
        if share <= CALM or took > self._spare:
            return first
        self._spare -= took
        try:
            second = turn()
        except ContestantError as error:
            self._say(f"a turn that was taken once more failed: {error}")
            return first
        other = self._stolen()
        self._say(f"the machine's host took {share:.1%} of a turn; once more, {other:.1%}")
        return second if other < share else first


def race(
    floor: Turn,
    contestants: Mapping[str, Turn],
    rounds: int,
    *,
    failed: Callable[[str, str], None],
    progress: Callable[[str], None] = lambda _line: None,
    late: Callable[[], bool] = lambda: False,
    calm: Callable[[Callable[[], Beside]], Beside] = lambda turn: turn(),
) -> dict[str, Lap]:
    """All contestants in turn, another one first each round. Who fails is told of and left out from then on, its
    rounds with it. The floor's own lap is called ``floor``. When it is ``late``, LEAST rounds must do. ``calm`` takes
    the turns, and may take one twice. Raises FloorError."""
    laps: dict[str, Lap] = {"floor": Lap(), **{name: Lap() for name in contestants}}
    left = list(contestants)
    for number in range(rounds):
        floors = [_floor(floor)]
        for name in (*left[number % max(1, len(left)) :], *left[: number % max(1, len(left))]):
            try:
                one = calm(partial(_beside, floor, contestants[name], floors))
            except ContestantError as error:
                failed(name, str(error))
                left.remove(name)
                del laps[name]
                continue
            _note(laps[name], one.told, one.floor["ms"])
        mean = statistics.fmean(map(_ms, floors))
        _note(laps["floor"], {"ms": mean}, mean)
        if late() and LEAST <= number + 1 < rounds:
            progress(f"no time for more than {number + 1} rounds")
            break
        progress(f"round {number + 1} of {rounds}: " + _shown(laps))
    return laps


def floored(floor: Turn, turn: Callable[[], Mapping[str, Any]], rounds: int) -> Iterator[Beside]:
    """The rounds of one contestant, which may tell whatever it does, each as it is over. Raises FloorError."""
    floors = [_floor(floor)]
    for _ in range(rounds):
        yield _beside(floor, turn, floors)


def _beside(floor: Turn, turn: Callable[[], Mapping[str, Any]], floors: list[Mapping[str, Any]]) -> Beside:
    """One turn, and the floor after it, which joins the ``floors``."""
    told = turn()
    before, after = floors[-1], _floor(floor)
    floors.append(after)
    return Beside(told, {name: beside([before[name], after[name]], 0) for name in before})


def _floor(floor: Turn) -> Mapping[str, Any]:
    try:
        return floor()
    except ContestantError as error:
        raise FloorError(f"the floor: {error}") from None


def _ms(told: Mapping[str, Any]) -> float:
    return float(told["ms"])


def _note(lap: Lap, told: Mapping[str, Any], floor: float) -> None:
    lap.ms.append(_ms(told))
    lap.ratio.append(_ms(told) / floor)
    lap.more.append(told)


def _shown(laps: Mapping[str, Lap]) -> str:
    return ", ".join(f"{name} {lap.ms[-1]:.2f} ms ({lap.ratio[-1]:.2f})" for name, lap in laps.items() if lap.ms)
