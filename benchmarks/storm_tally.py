"""What the storm proves: of what was promised, how much came, how often, in which order. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from storm_watch import Arrival

Key = tuple[str, int]


@dataclass(frozen=True)
class Tally:
    """``unpromised``: arrived, but was not in the log (or journal). ``disorder``: first arrivals that came after one
    that was promised later by the same camera."""

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
        disorder=sum(_disorder(keys, list(unique)) for keys in promised.values()),
    )


def _disorder(promised: Sequence[Key], came: Sequence[Key]) -> int:
    place = {key: number for number, key in enumerate(promised)}
    highest, wrong = -1, 0
    for key in came:
        number = place.get(key)
        if number is None:
            continue
        wrong += number < highest
        highest = max(highest, number)
    return wrong
