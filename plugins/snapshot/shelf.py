"""Which events have files, how many bytes they take, and which are to go: oldest first, by every limit. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence

from plugins.snapshot.config import Keep
from plugins.snapshot.paths import camera_and_label, safe

CLOCK_UNSET = 1_577_836_800.0
"""2020: a board without a battery stamps files with 1970; nobody knows how old those are."""


class _Quota:
    """What one limit is about: stems, oldest first, and their bytes."""

    def __init__(self, keep: Keep) -> None:
        self.keep = keep
        self.total = 0
        self.sizes: OrderedDict[str, int] = OrderedDict()
        self._camera, self._label = (safe(name) if name else "" for name in (keep.camera, keep.label))

    def wants(self, stem: str) -> bool:
        camera, label = camera_and_label(stem)
        return self._camera in ("", camera) and self._label in ("", label)

    def resize(self, stem: str, by: int) -> None:
        self.sizes[stem] = self.sizes.get(stem, 0) + by
        self.total += by

    def drop(self, stem: str) -> None:
        self.total -= self.sizes.pop(stem, 0)

    def is_over(self, coming: int, fresh: int) -> bool:
        """Whether it would be exceeded with so many more bytes, and events."""
        bytes_over = self.keep.max_bytes is not None and self.total + coming > self.keep.max_bytes
        return bytes_over or (self.keep.max_count is not None and len(self.sizes) + fresh > self.keep.max_count)


class Shelf:
    """``keeps``: the limits; all of them hold. Times are UNIX seconds."""

    def __init__(self, keeps: Sequence[Keep]) -> None:
        self._quotas = [_Quota(keep) for keep in keeps]
        self._files: OrderedDict[str, dict[str, int]] = OrderedDict()
        self._at: dict[str, float] = {}
        self.total = 0

    def __len__(self) -> int:
        return len(self._files)

    def files(self, stem: str) -> dict[str, int]:
        """Bytes of an event's files, by suffix."""
        return dict(self._files.get(stem, {}))

    def put(self, stem: str, suffix: str, size: int, at: float) -> None:
        """A file is there, in the place of one of that name; an event is as old as its first."""
        files = self._files.setdefault(stem, {})
        self._at.setdefault(stem, at)
        self._resize(stem, size - files.get(suffix, 0))
        files[suffix] = size

    def forget(self, stem: str, suffix: str) -> None:
        """That file is not there."""
        files = self._files.get(stem, {})
        if suffix in files:
            self._resize(stem, -files.pop(suffix))
            if not files:
                self.drop(stem)

    def drop(self, stem: str) -> None:
        """None of an event's files is there."""
        self.total -= sum(self._files.pop(stem, {}).values())
        self._at.pop(stem, None)
        for quota in self._quotas:
            quota.drop(stem)

    def fits(self, stem: str, size: int) -> bool:
        """Whether a file of that size could be there at all, with nothing else."""
        caps = [quota.keep.max_bytes for quota in self._quotas if quota.wants(stem) and quota.keep.max_bytes]
        return all(size <= cap for cap in caps)

    def crowded_out(self, stem: str, suffix: str, size: int, held: Collection[str]) -> Iterator[str] | None:
        """The events that have to go for such a file to come, oldest first; None when those that are ``held`` leave no
        room. They are still there: ``drop`` them as they go."""
        coming = size - self._files.get(stem, {}).get(suffix, 0)
        fresh = 0 if stem in self._files else 1
        victims: dict[str, None] = {}
        for quota in [quota for quota in self._quotas if quota.wants(stem)]:
            gone = sum(quota.sizes.get(victim, 0) for victim in victims)
            number = sum(victim in quota.sizes for victim in victims)
            for oldest, bytes_of in quota.sizes.items():
                if not quota.is_over(coming - gone, fresh - number):
                    break
                if oldest not in held and oldest != stem and oldest not in victims:
                    victims[oldest] = None
                    gone += bytes_of
                    number += 1
            if quota.is_over(coming - gone, fresh - number):
                return None
        return iter(victims)

    def outlived(self, now: float, held: Collection[str]) -> list[str]:
        """The events that are older than they may become. What was stamped by an unset clock is not judged by it."""
        found: dict[str, None] = {}
        for quota in self._quotas:
            if quota.keep.max_age is None or now < CLOCK_UNSET:
                continue
            for stem in quota.sizes:
                at = self._at[stem]
                if CLOCK_UNSET < at < now - quota.keep.max_age and stem not in held:
                    found[stem] = None
        return list(found)

    def oldest(self, held: Collection[str]) -> str | None:
        """The oldest event that is not held."""
        return next((stem for stem in self._files if stem not in held), None)

    def _resize(self, stem: str, by: int) -> None:
        self.total += by
        for quota in self._quotas:
            if quota.wants(stem):
                quota.resize(stem, by)
