"""What each track has done in the zones and at the lines of its camera: stays, dwell, loitering, crossings, its path,
things put down and taken away.

Fed with the tracks of each frame. Where things stand is places.py's, what is told of it the events'.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agent.config import LineConfig, MaskConfig, ZoneConfig
from agent.data import Box, Track
from agent.tracking.places import Line, Region, Seen, check_region

Array = NDArray[np.float64]

PATH_STEP = 0.5
"""Body lengths between two points of a path."""
PATH_POINTS = 32
"""When a path has more, every second one goes."""
MOST_CROSSINGS = 32
"""The latest so many are kept of one track."""
PEOPLE = ("person",)
NEAR = 1.0
"""Heights of a person within which something is not alone."""
_NOWHERE = (0.0, math.inf, math.inf)
WARM_UP = 5.0
"""What is found within so many seconds of the first frame was there before."""


class CrossedLine(NamedTuple):
    """``at``: on the axis of the tracks' times. ``number``: of that line in that direction, since the beginning."""

    line: str
    direction: str
    at: float
    number: int


@dataclass
class Course:
    """One track so far. ``news`` counts what is worth telling. Times are on the axis of the tracks' times."""

    began: float
    seen: float
    inside: dict[str, float] = field(default_factory=dict)
    dwelt: dict[str, float] = field(default_factory=dict)
    entered: list[str] = field(default_factory=list)
    loitering: list[str] = field(default_factory=list)
    crossings: list[CrossedLine] = field(default_factory=list)
    path: list[tuple[float, float, float]] = field(default_factory=list)
    moved: bool = False
    hidden: bool = False
    alone_since: float = math.inf
    left_behind: bool = False
    guarded: bool = False
    removed: bool = False
    news: int = 0

    @property
    def zones(self) -> tuple[str, ...]:
        """Where it is, in the order in which it came there."""
        return tuple(self.inside)

    @property
    def left(self) -> tuple[str, ...]:
        """Where it was and is no more."""
        return tuple(name for name in self.entered if name not in self.inside)

    def dwell(self) -> dict[str, float]:
        """Seconds in each zone so far, up to when it was last seen."""
        return {
            name: round(self.dwelt.get(name, 0.0) + max(self.seen - self.inside.get(name, self.seen), 0.0), 2)
            for name in self.entered
        }

    def enter(self, zone: str, at: float) -> None:
        """It is in the zone from then on."""
        self.inside[zone] = at
        if zone not in self.entered:
            self.entered.append(zone)
        self.news += 1

    def leave(self, zone: str, at: float) -> None:
        """It is in the zone no more."""
        self.dwelt[zone] = self.dwelt.get(zone, 0.0) + at - self.inside.pop(zone)
        self.news += 1

    def walk(self, at: float, point: tuple[float, float]) -> None:
        """One more point of its path, which never grows without bound."""
        if len(self.path) >= PATH_POINTS:
            del self.path[1::2]
        self.path.append((at - self.began, *point))
        self.moved = len(self.path) > 1


class Presence:
    """The courses of all tracks of one camera. Pure; one thread calls it.

    Raises ConfigError for a zone or mask that is no region.
    """

    def __init__(
        self,
        zones: Sequence[ZoneConfig] = (),
        lines: Sequence[LineConfig] = (),
        masks: Sequence[MaskConfig] = (),
    ) -> None:
        for zone in zones:
            check_region(zone.polygon, f"zone {zone.name}")
        self._zones = [(zone, Region(zone)) for zone in zones]
        self._lines = [Line(line) for line in lines]
        self._masks = [(mask.hides, Region(mask)) for mask in masks if mask.hides != "all"]
        self._guards = {zone.name: zone for zone in zones if zone.left_after is not None or zone.removed}
        self._courses: dict[int, Course] = {}
        self._began: float | None = None
        self.counts: Counter[tuple[str, str]] = Counter()
        """Crossings by line and direction, since the beginning."""

    def follow(self, other: Presence) -> None:
        """Go on with the courses of another one: zones, lines and masks have changed, what is there has not."""
        self._courses, self._began, self.counts = other._courses, other._began, other.counts
        before = {line.name: line for line in other._lines}
        for index, line in enumerate(self._lines):
            if line.name in before and before[line.name].config == line.config:
                self._lines[index] = before[line.name]  # who is about to cross it is not forgotten
        names = {zone.name for zone, _ in self._zones}
        for course in self._courses.values():
            for name in [name for name in course.inside if name not in names]:
                course.leave(name, course.seen)
            course.hidden = course.hidden and bool(self._masks)
            course.guarded = course.guarded and any(name in self._guards for name in course.inside)

    def __getitem__(self, track_id: int) -> Course:
        """The course of a living track."""
        return self._courses[track_id]

    def look(self, tracks: Sequence[Track], size: tuple[int, int], at: float) -> None:
        """Take in those of the living ``tracks`` that were seen at ``at``, the moment of this frame."""
        if self._began is None:
            self._began = at
        seen = [track for track in tracks if track.last_seen >= at]
        fresh = [track for track in seen if track.id not in self._courses]
        if fresh:
            self._begin(fresh, size)
        if seen:
            self._step(seen, [track.box for track in seen], size, [track.last_seen for track in seen])
        self._guard(seen)

    def forget(self, track_id: int, *, vanished: bool = True) -> None:
        """The track has ended. What ``vanished`` from where it was guarded was taken."""
        course = self._courses.pop(track_id, None)
        for line in self._lines:
            line.forget(track_id)
        if course is not None and course.guarded and vanished:
            course.removed = True

    def occupancy(self) -> dict[str, int]:
        """How many are in each zone now."""
        counts = Counter(name for course in self._courses.values() for name in course.inside)
        return {zone.name: counts[zone.name] for zone, _ in self._zones}

    def _begin(self, tracks: Sequence[Track], size: tuple[int, int]) -> None:
        """Each where it was first seen, which is some frames ago: it may have crossed a line since."""
        for track in tracks:
            self._courses[track.id] = Course(began=track.first_seen, seen=track.first_seen)
        boxes = [track.first_box or track.box for track in tracks]
        self._step(tracks, boxes, size, [track.first_seen for track in tracks])

    def _step(
        self, tracks: Sequence[Track], boxes: Sequence[Box], size: tuple[int, int], times: Sequence[float]
    ) -> None:
        seen = Seen(np.array(boxes, dtype=np.float64).reshape(-1, 4), [track.label for track in tracks], size)
        courses = [self._courses[track.id] for track in tracks]
        for course, at in zip(courses, times, strict=True):
            course.seen = at
        self._visit(seen, courses)
        self._cross(seen, [track.id for track in tracks])
        self._walk(seen, courses)
        self._hide(seen, tracks, courses)

    def _visit(self, seen: Seen, courses: Sequence[Course]) -> None:
        for zone, region in self._zones:
            were = np.array([zone.name in course.inside for course in courses], dtype=bool)
            are = region.keeps(seen, were)
            for row in np.flatnonzero(are != were).tolist():
                course = courses[row]
                (course.enter if are[row] else course.leave)(zone.name, course.seen)
            if zone.loiter_after is not None and are.any():
                self._loiter(zone.name, zone.loiter_after, [courses[row] for row in np.flatnonzero(are).tolist()])

    def _loiter(self, name: str, after: float, courses: Sequence[Course]) -> None:
        for course in courses:
            stayed = course.dwelt.get(name, 0.0) + course.seen - course.inside[name]
            if stayed >= after and name not in course.loitering:
                course.loitering.append(name)
                course.news += 1

    def _cross(self, seen: Seen, ids: Sequence[int]) -> None:
        for line in self._lines:
            for track_id, way in line.crossings(seen, ids).items():
                course, direction = self._courses[track_id], line.directions[way]
                self.counts[line.name, direction] += 1
                crossing = CrossedLine(line.name, direction, course.seen, self.counts[line.name, direction])
                course.crossings = [*course.crossings, crossing][-MOST_CROSSINGS:]
                course.news += 1

    def _walk(self, seen: Seen, courses: Sequence[Course]) -> None:
        points = seen.anchors("foot")
        last = np.array([course.path[-1] if course.path else _NOWHERE for course in courses]).reshape(-1, 3)
        far = np.hypot(points[:, 0] - last[:, 1], points[:, 1] - last[:, 2]) >= PATH_STEP * seen.lengths()
        for row in np.flatnonzero(far).tolist():
            courses[row].walk(courses[row].seen, (float(points[row, 0]), float(points[row, 1])))

    def _hide(self, seen: Seen, tracks: Sequence[Track], courses: Sequence[Course]) -> None:
        """Which of them nobody wants to hear of yet."""
        if not self._masks:
            return
        hidden = np.zeros(len(courses), dtype=bool)
        for hides, region in self._masks:
            shown = [course.moved if hides == "still" else track.stationary for course, track in zip(courses, tracks)]  # noqa: B905
            hidden |= region.holds(seen) & ~np.array(shown, dtype=bool)
        for course, hide in zip(courses, hidden.tolist(), strict=True):
            course.hidden = hide

    def _guard(self, seen: Sequence[Track]) -> None:
        """Things put down and taken away, in the zones that ask for it."""
        if not self._guards:
            return
        people = [track.box for track in seen if track.label in PEOPLE]
        for track in seen:
            course = self._courses[track.id]
            zones = [self._guards[name] for name in course.inside if name in self._guards]
            if zones and track.label not in PEOPLE:
                self._watch_over(course, track, zones, people)
            elif course.guarded:
                course.guarded, course.removed = False, True
                course.news += 1

    def _watch_over(self, course: Course, track: Track, zones: Sequence[ZoneConfig], people: Sequence[Box]) -> None:
        if course.guarded and not track.stationary:
            course.guarded, course.removed = False, True
            course.news += 1
        elif track.stationary and any(zone.removed for zone in zones):
            course.guarded, course.removed = True, False
        alone = track.stationary and not any(_is_near(person, track.box) for person in people)
        course.alone_since = min(course.alone_since, course.seen) if alone else math.inf
        brought = course.moved or self._began is None or course.began > self._began + WARM_UP
        after = min((zone.left_after for zone in zones if zone.left_after is not None), default=math.inf)
        if brought and not course.left_behind and course.seen - course.alone_since >= after:
            course.left_behind = True
            course.news += 1


def _is_near(person: Box, box: Box) -> bool:
    """Whether the gap between the two boxes is less than the person is tall."""
    across = max(person[0] - box[2], box[0] - person[2], 0.0)
    upright = max(person[1] - box[3], box[1] - person[3], 0.0)
    return math.hypot(across, upright) < NEAR * (person[3] - person[1])


def totals(counts: Mapping[tuple[str, str], int]) -> dict[str, dict[str, int]]:
    """Crossings by line, then by direction."""
    found: dict[str, dict[str, int]] = {}
    for (line, direction), count in sorted(counts.items()):
        found.setdefault(line, {})[direction] = count
    return found
