"""From the detections of one camera to tracks: the same object keeps its number from frame to frame.

After ByteTrack (Zhang et al., ECCV 2022): sure detections are matched first, doubtful ones may only carry on what is
already followed. It differs in counting time in seconds, in a gate that grows with what the filter does not know, and
in tolerating that the network changes its mind about a class. What a track means (events, zones) is left to others.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agent.data import Box, Detections, Track
from agent.tracking.assignment import assign
from agent.tracking.evidence import Evidence
from agent.tracking.kalman import BoxFilter, centred
from agent.tracking.overlap import iou, meeting
from agent.tracking.stillness import Stillness
from agent.tracking.votes import Votes

Array = NDArray[np.float64]
Rows = NDArray[np.intp]
Mask = NDArray[np.bool_]

GROWTH_SIGMAS = 2.0
REACH, REACH_SPEED, MAX_REACH = 0.25, 1.0, 1.0
"""The gate grows by two standard deviations of the predicted place on each side, at most by REACH body lengths and
REACH_SPEED more for each second since the last frame: a wide gate is for slow cameras, not for what is long unseen."""
TENTATIVE_PATIENCE = 0.5
"""Seconds that a track which has not proved itself may go unseen; it may always miss one frame less than that."""
ABSURD = 1e7
"""Pixels that no box is wide or high."""
SHAKEN_TRACKS, SHAKEN_BY, SHAKEN_ALIKE = 4, 0.02, 1.0
"""The camera has moved when at least so many tracks are found so many body lengths off their predicted places, and by
ways that differ from each other by so many times less."""
NOBODY = np.empty(0, dtype=np.intp)
MISSED_INTERVALS = 2.5
"""A track survives at least so many frame intervals: at one frame in three seconds ``patience`` alone would end all."""


class _Found(NamedTuple):
    """What counts of the detections of a frame: ``boxes`` xyxy and ``measured`` as the filter wants them, both
    ``[4, M]``; ``scores`` and the ``columns`` of their classes ``[M]``."""

    boxes: Array
    measured: Array
    scores: Array
    columns: Rows

    def take(self, rows: Rows) -> _Found:
        """Those of them, in that order."""
        return _Found(
            self.boxes.take(rows, axis=1), self.measured.take(rows, axis=1), self.scores[rows], self.columns[rows]
        )


class Tracker:
    """The tracks of one camera. Pure: time comes with each call, nothing is read or written elsewhere.

    ``patience``: seconds a track stays alive unseen; found again within them it keeps its id. ``min_hits``: sights,
    apart in time, that a tentative track needs at least to become a real one. ``confirm_score``: three sights of that
    score prove it, or fewer surer ones: a look-alike is seen now and then, and seldom surely. ``start_score``: what a
    detection needs to begin a track. ``high_score``: from here on it takes part in the first association, below in the
    second. ``low_score``: detections below it are ignored. ``min_iou``: least overlap of a detection with its track,
    both grown by the uncertainty of the prediction; ``low_iou``: the same in the second association.
    ``duplicate_iou``: a new track that overlaps one already there by so much, whatever its class, is the same thing
    seen twice. ``still_after``: seconds in one place from which on a track is stationary; it then stays alive unseen
    for as long as it had been there, up to ``still_patience`` seconds: a parked car that the network overlooks for a
    while is the same car.
    """

    def __init__(
        self,
        *,
        patience: float = 2.0,
        min_hits: int = 2,
        start_score: float = 0.4,
        high_score: float = 0.4,
        low_score: float = 0.1,
        confirm_score: float = 0.6,
        min_iou: float = 0.25,
        low_iou: float = 0.5,
        duplicate_iou: float = 0.7,
        still_after: float = 5.0,
        still_patience: float = 60.0,
    ) -> None:
        self._patience = patience
        self._min_hits = min_hits
        self._start_score = start_score
        self._high_score = high_score
        self._low_score = low_score
        self._min_iou = min_iou
        self._low_iou = low_iou
        self._duplicate_iou = duplicate_iou
        self._still_patience = still_patience
        self._now: float | None = None
        self._intervals = (0.0, 0.0)
        self._next_id = 1
        self._filter = BoxFilter()
        self._votes = Votes()
        self._stillness = Stillness(still_after)
        self._ids = np.empty(0, dtype=np.int64)
        self._hits = np.empty(0, dtype=np.int64)
        self._real = np.empty(0, dtype=bool)
        self._score = np.empty(0)
        self._evidence = Evidence(min_hits, confirm_score)
        self._first = np.empty(0)
        self._last = np.empty(0)
        self._boxes = np.empty((4, 0))
        self._first_boxes: list[Box] = []

    def __len__(self) -> int:
        """Tracks held, tentative ones too."""
        return len(self._ids)

    def update(self, detections: Detections, now: float) -> list[Track]:
        """Take what was found in the frame captured at ``now`` (monotonic seconds); return the living tracks.

        A track that was not seen in this frame is among them until its patience ends: its ``last_seen`` lies
        before ``now``, its ``box`` and ``score`` are those of its last hit. Tentative ones are not. A ``now``
        before the last one counts as the last one.
        """
        now = self._advance(now)
        self._forget(now)
        if not (len(self) or len(detections)):
            return []
        found = self._usable(detections)
        rows, picked = self._match(found)
        hits = found.take(picked)
        if self._follow_camera(rows, hits.measured[:2]):
            rows, picked = self._match(found)
            hits = found.take(picked)
        self._hit(rows, hits, now)
        self._wait(rows, detections.size)
        self._drop_duplicates(now)
        left = found.scores >= self._start_score
        left[picked] = False
        self._begin(found, left.nonzero()[0], now)
        self._settle(now)
        return self._tracks()

    def expire(self, now: float) -> list[Track]:
        """The tracks still alive at ``now`` (monotonic seconds) when no frame came."""
        self._forget(now)
        return self._tracks()

    def retune(
        self,
        *,
        patience: float,
        min_hits: int,
        start_score: float,
        high_score: float,
        confirm_score: float,
        still_after: float,
        still_patience: float,
    ) -> None:
        """Other thresholds, from the next ``update`` on; what is followed stays followed."""
        self._patience, self._min_hits, self._still_patience = patience, min_hits, still_patience
        self._start_score, self._high_score = start_score, high_score
        self._evidence.retune(min_hits, confirm_score)
        self._stillness.retune(still_after)

    def _advance(self, now: float) -> float:
        if self._now is None:
            self._now = now
        dt = max(now - self._now, 0.0)
        if dt:
            self._evidence.fade(dt)
            self._intervals = (self._intervals[1] or dt, dt)
        if len(self):
            self._filter.predict(dt)
        self._now = max(now, self._now)
        return self._now

    def _forget(self, now: float) -> None:
        """Let go of what was not seen for too long. One long gap is a stall, two in a row are the camera's rate."""
        patience = max(self._patience, MISSED_INTERVALS * min(self._intervals))
        unseen = now - self._last
        late = (unseen > patience).nonzero()[0]
        if len(late):
            last = self._last
            lasted = np.minimum(self._stillness.lasted(last), self._still_patience)
            waited_for = self._real & self._stillness.still(last) & (unseen <= np.maximum(lasted, patience))
            self._drop(late[~waited_for[late]])

    def _usable(self, detections: Detections) -> _Found:
        """What counts of them; a box without an area cannot be followed."""
        boxes = np.array(detections.boxes.reshape(-1, 4).T, dtype=np.float64, order="C")
        scores = np.asarray(detections.scores, dtype=np.float64)
        columns = self._votes.columns(detections.class_ids, detections.labels)
        found = _Found(boxes, centred(boxes), scores, columns)
        sides = found.measured[2:]
        # What is infinite or no number is not below the limit.
        wide, high = (sides > 0.0) & (sides < ABSURD)
        good = ((scores >= self._low_score) & wide & high).nonzero()[0]
        return found if len(good) == len(scores) else found.take(good)

    def _follow_camera(self, rows: Rows, centres: Array) -> bool:
        """Whether all that was found lies off its track by the same way: the camera moved, and now the tracks too."""
        sure = self._real[rows].nonzero()[0]
        if len(sure) < SHAKEN_TRACKS:
            return False
        off = (centres - self._filter.centres().take(rows, axis=1)).take(sure, axis=1)
        shift = _middle(off)
        length = math.hypot(*shift.tolist())
        if length < SHAKEN_BY * _middle(self._filter.lengths()):
            return False
        if length < SHAKEN_ALIKE * _middle(np.abs(off - shift[:, None]).max(axis=0)):
            return False
        self._filter.shift(shift)
        return True

    def _match(self, found: _Found) -> tuple[Rows, Rows]:
        """Tracks and detections that belong together: the sure ones, the doubtful ones, then tentative tracks."""
        if not (len(self) and len(found.scores)):
            return NOBODY, NOBODY
        reach = min(REACH + REACH_SPEED * self._intervals[1], MAX_REACH)
        growth = np.minimum(GROWTH_SIGMAS * self._filter.spread(), reach * self._filter.lengths())
        pairs = meeting(self._filter.boxes(), found.boxes, growth)
        weight = self._votes.weights(pairs.rows, found.columns[pairs.columns], pairs.iou)
        near = ((weight > 0.0) & (pairs.grown >= min(self._min_iou, self._low_iou))).nonzero()[0]
        rows, picked, grown = pairs.rows[near], pairs.columns[near], pairs.grown[near]
        similarity = weight[near] * (pairs.iou[near] + grown) / 2.0
        real, high = self._real[rows], (found.scores >= self._high_score)[picked]
        sure = high & (grown >= self._min_iou)
        stages = real & sure, real & ~high & (grown >= self._low_iou), ~real & sure
        chosen = self._in_turn(rows, picked, similarity, stages, len(found.scores))
        return rows[chosen], picked[chosen]

    def _in_turn(self, rows: Rows, picked: Rows, similarity: Array, stages: tuple[Mask, ...], detections: int) -> Rows:
        """The pairs chosen stage by stage: who has found a partner is out of the later ones."""
        taken: list[Rows] = []
        paired, claimed = np.zeros(len(self), dtype=bool), np.zeros(detections, dtype=bool)
        for stage in stages:
            candidates = stage.nonzero()[0]
            if taken and len(candidates):
                candidates = candidates[~(paired[rows[candidates]] | claimed[picked[candidates]])]
            if len(candidates):
                chosen = candidates[assign(rows[candidates], picked[candidates], similarity[candidates])]
                paired[rows[chosen]] = claimed[picked[chosen]] = True
                taken.append(chosen)
        return np.concatenate(taken) if taken else NOBODY

    def _hit(self, rows: Rows, hits: _Found, now: float) -> None:
        if not len(rows):
            return
        self._filter.update(rows, hits.measured)
        self._votes.cast(rows, hits.columns, hits.scores)
        self._boxes[:, rows], self._score[rows], self._last[rows] = hits.boxes, hits.scores, now
        self._hits[rows] += 1
        self._stillness.see(rows, hits.measured[:2], self._filter.lengths()[rows], now)
        doubtful = (~self._real[rows]).nonzero()[0]
        if len(doubtful):
            self._evidence.see(rows[doubtful], hits.scores[doubtful], now)

    def _wait(self, rows: Rows, size: tuple[int, int]) -> None:
        """Tracks that nobody saw (all but ``rows``): their size does not change, and they stay in the picture."""
        seen = np.zeros(len(self), dtype=bool)
        seen[rows] = True
        missed = (~seen).nonzero()[0]
        if len(missed):
            self._filter.hold_sizes(missed)
            self._filter.confine(missed, size)
            self._filter.rest(missed[self._stillness.still(self._last)[missed]])

    def _drop_duplicates(self, now: float) -> None:
        """Let go of tentative tracks that lie on a real one, both seen just now."""
        seen = self._last == now
        sure = seen & self._real
        doubtful = (seen & ~self._real).nonzero()[0]
        if len(doubtful) and sure.any():
            twice = (iou(self._boxes.take(doubtful, axis=1), self._boxes) >= self._duplicate_iou) & sure
            self._drop(doubtful[twice.any(axis=1)])

    def _begin(self, found: _Found, left: Rows, now: float) -> None:
        """Tentative tracks from what is ``left`` of the detections, the surest of those on one spot."""
        if not len(left):
            return
        left = left[np.argsort(-found.scores[left], kind="stable")]
        left = left[self._unlike(found.boxes[:, left], self._boxes[:, self._last == now])]
        count = len(left)
        if not count:
            return
        boxes, measured, scores, columns = found.take(left)
        self._filter.add(measured)
        self._votes.add(columns, scores)
        self._ids = np.concatenate([self._ids, np.arange(self._next_id, self._next_id + count)])
        self._hits = np.concatenate([self._hits, np.ones(count, dtype=np.int64)])
        self._real = np.concatenate([self._real, np.zeros(count, dtype=bool)])
        self._score = np.concatenate([self._score, scores])
        self._evidence.add(scores, now)
        self._stillness.add(measured[:2], now)
        self._first = np.concatenate([self._first, np.full(count, now)])
        self._last = np.concatenate([self._last, np.full(count, now)])
        self._boxes = np.concatenate([self._boxes, boxes], axis=1)
        self._first_boxes += _as_boxes(boxes)
        self._next_id += count

    def _unlike(self, boxes: Array, present: Array) -> Rows:
        """Which of the boxes, the best first, lie neither on those present nor on a better one."""
        fresh = (~(iou(boxes, present) >= self._duplicate_iou).any(axis=1)).nonzero()[0]
        same = iou(boxes[:, fresh], boxes[:, fresh]) >= self._duplicate_iou
        chosen: list[int] = []
        for index in range(len(fresh)):
            if not same[index, chosen].any():
                chosen.append(index)
        return fresh[np.array(chosen, dtype=np.intp)]

    def _settle(self, now: float) -> None:
        """Tentative tracks become real or, missed for a while, go."""
        rows = (~self._real).nonzero()[0]
        if not len(rows):
            return
        proven = (self._hits[rows] >= self._min_hits) & self._evidence.proven(rows)
        self._real[rows[proven]] = True
        unseen, grace = now - self._last[rows], min(TENTATIVE_PATIENCE, self._patience)
        self._drop(rows[~proven & (unseen != 0.0) & (unseen >= grace)])

    def _drop(self, rows: Rows) -> None:
        if not len(rows):
            return
        mask = np.ones(len(self), dtype=bool)
        mask[rows] = False
        self._keep(mask)

    def _keep(self, mask: Mask) -> None:
        self._filter.keep(mask)
        self._votes.keep(mask)
        self._stillness.keep(mask)
        self._evidence.keep(mask)
        self._first_boxes = [box for box, kept in zip(self._first_boxes, mask.tolist(), strict=True) if kept]
        self._ids, self._hits, self._real = self._ids[mask], self._hits[mask], self._real[mask]
        self._score = self._score[mask]
        self._first, self._last, self._boxes = self._first[mask], self._last[mask], self._boxes[:, mask]

    def _tracks(self) -> list[Track]:
        labels = self._votes.labels
        still = self._stillness.still(self._last)
        resting = still & (self._stillness.lasted(self._last) > 0.0)
        speeds = self._filter.speeds()
        speeds[resting] = 0.0
        values = zip(
            self._ids.tolist(),
            self._votes.winners(),
            self._score.tolist(),
            _as_boxes(self._boxes),
            self._hits.tolist(),
            self._first.tolist(),
            self._last.tolist(),
            self._real.tolist(),
            self._first_boxes,
            speeds.tolist(),
            still.tolist(),
            strict=True,
        )
        return [
            Track(
                id=id_,
                label=labels[class_id],
                class_id=class_id,
                score=score,
                box=box,
                hits=hits,
                first_seen=first,
                last_seen=last,
                first_box=first_box,
                speed=speed,
                stationary=stationary,
            )
            for id_, class_id, score, box, hits, first, last, real, first_box, speed, stationary in values
            if real
        ]


def _middle(values: Array) -> Array:
    """The median along the last axis; ``np.median`` takes ten times as long."""
    return np.asarray(np.sort(values)[..., values.shape[-1] // 2])


def _as_boxes(boxes: Array) -> list[Box]:
    return list(zip(*boxes.tolist(), strict=True))
