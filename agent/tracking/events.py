"""The life of an event: one start, updates where something material changed, one end.

Fed with the tracks of each frame. What a track is, and how long it lives unseen, is the tracker's; whether anyone wants
the event, and what plugins add to it, is asked through the two hooks given.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from agent.data import Box, Crossing, EndReason, Event, EventKind, Frame, Track
from agent.tracking.pictures import DEFAULT_BUDGET, BestPictures
from agent.tracking.presence import Course, Presence
from agent.tracking.uuid7 import RANDOM_BYTES, uuid7

SCORE_STEP = 0.1
MIN_INTERVAL = 1.0
PATIENT_AFTER = 16
MAX_INTERVAL = 30.0
"""The least interval between two messages of one event doubles with every so many of them, up to this many seconds:
whoever paces up and down for an hour at the edge of a zone is told ever more seldom."""
CUT_OFF = 0.7
"""A thing that touches the picture's border is worth so much of what it would be worth whole."""
FULL_SIZE = 0.05
"""Share of the picture's area from which on being larger does not make a picture better."""


class EventMessage(NamedTuple):
    """What is told, and the event's best picture so far: None when its pixels are gone."""

    event: Event
    frame: Frame | None


@dataclass
class _Occurrence:
    """One event that has not ended. ``track``: as last seen; ``told``: as last told; ``quality``: of its picture."""

    id: str
    track: Track
    started_at: float
    clock_synced: bool
    top_score: float
    best_box: Box
    quality: float
    best_seq: int
    told: Track
    course: Course
    told_news: int = 0
    kept: bool = True
    seq: int = 0
    told_quality: float = 0.0
    told_at: float = -math.inf
    attributes: dict[str, Any] = field(default_factory=dict)


def new_id(at: float) -> str:
    """A fresh UUIDv7 for what began at ``at`` (UNIX seconds)."""
    return uuid7(at, os.urandom(RANDOM_BYTES))


def _keep_all(event: Event) -> bool:
    return True


def _no_attributes(event: Event, frame: Frame | None) -> Mapping[str, Any]:
    return {}


class Events:
    """The open events of one camera. Pure but for what is injected; one thread calls it.

    ``keep(event)`` is asked once, with the start: False silences the event to its end. ``attributes(event, frame)``
    is asked with each message; what it gives is merged over what it gave before. ``make_id(started_at)`` names an
    occurrence. ``clock_synced()``, asked at the start, says whether the wall clock can be trusted: start, last sight
    and end of an event are told by the clock of its start, so that no step of the clock makes it longer or shorter.
    ``score_step``: how much better the best picture must have become for an update; ``min_interval``: least seconds
    between two messages of one event, its end excepted; it grows with their number. ``presence``: the camera's zones,
    lines and masks. ``pictures`` may be shared by all cameras, else
    ``picture_budget`` bytes are for this one.
    """

    def __init__(
        self,
        camera: str,
        node: str,
        *,
        keep: Callable[[Event], bool] = _keep_all,
        attributes: Callable[[Event, Frame | None], Mapping[str, Any]] = _no_attributes,
        make_id: Callable[[float], str] = new_id,
        clock_synced: Callable[[], bool] = lambda: True,
        score_step: float = SCORE_STEP,
        min_interval: float = MIN_INTERVAL,
        picture_budget: int = DEFAULT_BUDGET,
        pictures: BestPictures | None = None,
        presence: Presence | None = None,
    ) -> None:
        self._camera = camera
        self._node = node
        self._keep = keep
        self._attributes = attributes
        self._make_id = make_id
        self._clock_synced = clock_synced
        self._score_step = score_step
        self._min_interval = min_interval
        self._pictures = pictures if pictures is not None else BestPictures(picture_budget)
        self._presence = presence or Presence()
        self._open: dict[int, _Occurrence] = {}
        self._living: set[int] = set()
        self._size = (0, 0)
        self._captured = (0.0, 0.0)
        self._at = 0.0

    def __len__(self) -> int:
        """Events that have started and not ended, silenced ones too."""
        return len(self._open)

    def update(
        self, tracks: Sequence[Track], frame: Frame | None, now: float, *, at: float | None = None
    ) -> list[EventMessage]:
        """What to tell about the living ``tracks`` of ``frame``, at ``now`` (monotonic seconds).

        A track that is no longer among them has ended. Without a frame (none came) only ends are told. ``at``: the
        time that the tracker was given for this frame, where it is not ``frame.captured_mono`` (a recording's own).
        """
        messages = self._end_all_but({track.id for track in tracks}, now)
        if frame is not None:
            self._size = frame.size
            self._captured = (frame.captured_at, frame.captured_mono)
            self._at = frame.captured_mono if at is None else at
            self._presence.look(tracks, self._size, self._at)
            for track in tracks:
                self._living.add(track.id)
                messages += self._follow(track, frame, now)
        return messages

    def use(self, presence: Presence) -> None:
        """Other zones, lines and masks from the next frame on; what is open stays open."""
        presence.follow(self._presence)
        self._presence = presence

    def finish(self, now: float, by: EndReason = "source") -> list[EventMessage]:
        """The ends of all open events: the source has ended, or the agent is ``stopped``."""
        return self._end_all_but(set(), now, by)

    def _follow(self, track: Track, frame: Frame, now: float) -> list[EventMessage]:
        occurrence = self._open.get(track.id)
        if occurrence is None:
            return self._start(track, frame, now) if self._is_due(track) else []
        if track.last_seen > occurrence.track.last_seen:
            self._look(occurrence, track, frame)
        if self._is_material(occurrence) and self._at - occurrence.told_at >= self._interval(occurrence):
            return self._tell("update", occurrence, frame, now)
        return []

    def _is_due(self, track: Track) -> bool:
        """Whether the event of a track that has none begins: with a sight of it, and where no mask hides it."""
        return track.last_seen >= self._at and not self._presence[track.id].hidden

    def _interval(self, occurrence: _Occurrence) -> float:
        doubled = min(occurrence.seq // PATIENT_AFTER, 10)
        return min(self._min_interval * 2.0**doubled, max(MAX_INTERVAL, self._min_interval))

    def _start(self, track: Track, frame: Frame, now: float) -> list[EventMessage]:
        started_at = frame.captured_at - (self._at - track.first_seen)
        occurrence = _Occurrence(
            id=self._make_id(started_at),
            track=track,
            told=track,
            course=self._presence[track.id],
            started_at=started_at,
            clock_synced=self._clock_synced(),
            top_score=track.score,
            best_box=track.box,
            quality=quality(track, self._size),
            best_seq=frame.seq,
        )
        self._open[track.id] = occurrence
        occurrence.kept = self._keep(self._event("start", occurrence, now))
        if occurrence.kept:
            self._pictures.put(occurrence.id, frame)
        return self._tell("start", occurrence, frame, now)

    def _look(self, occurrence: _Occurrence, track: Track, frame: Frame) -> None:
        """Take in a new sight of the object; a silenced event needs no picture."""
        occurrence.track = track
        occurrence.top_score = max(occurrence.top_score, track.score)
        if track.score <= occurrence.quality or not occurrence.kept:
            return  # no picture is worth more than its score
        seen = quality(track, self._size)
        if seen > occurrence.quality:
            occurrence.quality, occurrence.best_box, occurrence.best_seq = seen, track.box, frame.seq
            self._pictures.put(occurrence.id, frame)

    def _is_material(self, occurrence: _Occurrence) -> bool:
        better = occurrence.quality - occurrence.told_quality >= self._score_step
        track, told = occurrence.track, occurrence.told
        changed = track.label != told.label or track.stationary != told.stationary or track.zones != told.zones
        return better or changed or occurrence.course.news != occurrence.told_news

    def _end_all_but(self, alive: set[int], now: float, by: EndReason = "gone") -> list[EventMessage]:
        messages: list[EventMessage] = []
        for track_id in self._living - alive:
            self._presence.forget(track_id, vanished=by == "gone")
        self._living &= alive
        for track_id in [track_id for track_id in self._open if track_id not in alive]:
            occurrence = self._open.pop(track_id)
            messages += self._tell("end", occurrence, None, now, by)
            self._pictures.drop(occurrence.id)
        return messages

    def _tell(
        self, kind: EventKind, occurrence: _Occurrence, frame: Frame | None, now: float, by: EndReason = ""
    ) -> list[EventMessage]:
        """The message, unless the event is silenced; ``frame`` is the one at hand, which no budget can take."""
        if not occurrence.kept:
            return []
        at_hand = frame is not None and frame.seq == occurrence.best_seq
        picture = frame if at_hand else self._pictures.get(occurrence.id)
        occurrence.attributes.update(self._attributes(self._event(kind, occurrence, now, by), picture))
        message = EventMessage(self._event(kind, occurrence, now, by), picture)
        occurrence.seq += 1
        occurrence.told_news = occurrence.course.news
        occurrence.told, occurrence.told_quality, occurrence.told_at = occurrence.track, occurrence.quality, self._at
        return [message]

    def _event(self, kind: EventKind, occurrence: _Occurrence, now: float, by: EndReason = "") -> Event:
        course = occurrence.course
        track, (captured_at, captured_mono) = occurrence.track, self._captured
        seen_at = occurrence.started_at + (track.last_seen - track.first_seen)
        return Event(
            node=self._node,
            id=occurrence.id,
            seq=occurrence.seq,
            kind=kind,
            camera=self._camera,
            track=track.id,
            label=track.label,
            score=track.score,
            top_score=occurrence.top_score,
            box=track.box,
            best_box=occurrence.best_box,
            size=self._size,
            zones=course.zones or track.zones,
            zones_entered=tuple(course.entered),
            zones_left=course.left,
            dwell=course.dwell(),
            loitering=tuple(course.loitering),
            crossings=_crossings(course, occurrence.started_at),
            path=tuple((round(at, 2), round(x, 1), round(y, 1)) for at, x, y in course.path),
            speed=round(track.speed, 3),
            stationary=track.stationary,
            left_behind=course.left_behind,
            removed=course.removed,
            started_at=occurrence.started_at,
            updated_at=seen_at,
            ended_at=seen_at if kind == "end" else None,
            ended_by=by,
            captured_at=captured_at,
            clock_synced=occurrence.clock_synced,
            frame_age_ms=max(now - captured_mono, 0.0) * 1e3,
            attributes=dict(occurrence.attributes),
        )


def _crossings(course: Course, started_at: float) -> tuple[Crossing, ...]:
    """As they are told: by the clock of the event's start."""
    return tuple(
        Crossing(
            line=crossed.line,
            direction=crossed.direction,
            at=started_at + crossed.at - course.began,
            count=crossed.number,
        )
        for crossed in course.crossings
    )


def quality(track: Track, size: tuple[int, int]) -> float:
    """How good a picture of the track this one is, 0..1: its score, less where it is small or cut off."""
    x1, y1, x2, y2 = track.box
    width, height = size
    share = max(x2 - x1, 0.0) * max(y2 - y1, 0.0) / max(width * height, 1)
    cut = x1 <= 1.0 or y1 <= 1.0 or x2 >= width - 1.0 or y2 >= height - 1.0
    return track.score * (CUT_OFF if cut else 1.0) * min(1.0, 0.5 + 0.5 * math.sqrt(share / FULL_SIZE))
