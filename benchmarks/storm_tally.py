"""What the storm proves: of what was promised, how much came, how often, in which order. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from storm_watch import Arrival

Key = tuple[str, int]


@dataclass(frozen=True)
class Tally:
    """``unpromised``: arrived, but was not in the log (or journal). ``disorder``: first arrivals that came after one
    that was promised later by the same camera, among the late ones and among the others (live events overtake late
    ones), or that was promised later with the same id, late or not."""

    promised: int
    arrived: int
    lost: tuple[Key, ...]
    unpromised: int
    duplicates: int
    disorder: int

    @property
    def duplicate_share(self) -> float:
        """Of what was promised."""
        return self.duplicates / max(1, self.promised)


def tally(promised: Mapping[str, Sequence[Key]], arrivals: Sequence[Arrival]) -> Tally:
    """``promised``: by camera, in order."""
    came = [arrival.key for arrival in arrivals]
    unique = dict.fromkeys(came)
    everything = {key for keys in promised.values() for key in keys}
    return Tally(
        promised=len(everything),
        arrived=len(everything & unique.keys()),
        lost=tuple(key for keys in promised.values() for key in keys if key not in unique),
        unpromised=len(unique.keys() - everything),
        duplicates=len(came) - len(unique),
        disorder=sum(_disorder(keys, first_arrivals(arrivals)) for keys in promised.values()),
    )


def first_arrivals(arrivals: Sequence[Arrival]) -> list[Arrival]:
    """Without what came again."""
    first: dict[Key, Arrival] = {}
    for arrival in arrivals:
        first.setdefault(arrival.key, arrival)
    return list(first.values())


def _disorder(promised: Sequence[Key], came: Sequence[Arrival]) -> int:
    place = {key: number for number, key in enumerate(promised)}
    highest: dict[bool | str, int] = {}
    wrong = 0
    for arrival in came:
        number = place.get(arrival.key)
        if number is None:
            continue
        lanes: tuple[bool | str, ...] = (arrival.seen.late, arrival.seen.id)
        wrong += any(number < highest.get(lane, -1) for lane in lanes)
        highest |= {lane: max(number, highest.get(lane, -1)) for lane in lanes}
    return wrong
