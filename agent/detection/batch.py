"""A batch job: pictures read ahead on one thread, inferred in batches on the caller's, written on a third.

Batches are always formed from the same pictures, so that a job that was interrupted and goes on writes what an
uninterrupted one would have written, byte for byte. What the items are is batch_items.py's, what is known to be done
batch_journal.py's, what the files look like results.py's.
"""

from __future__ import annotations

import errno
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from agent.data import Frame
from agent.detection.batch_items import Item
from agent.detection.batch_journal import BatchJournal, Record, Tally
from agent.detection.results import Result, Writer
from agent.errors import AgentError, SourceError
from agent.sources.address import redact

if TYPE_CHECKING:
    from agent.data import Detections
    from agent.detection.detector import Detector, Pending
    from agent.sources.base import Picture, Source

READ_AHEAD_BYTES = 256 << 20
READ_AHEAD = 32
WRITE_BEHIND = 4
WRITE_BEHIND_BYTES = 256 << 20
BATCH_BYTES = 64 << 20
"""Of pictures as read: with larger ones fewer go into a batch."""
RECORD_SECONDS = 0.2

Open = Callable[[str], "Source"]


class Read(NamedTuple):
    """One picture of an item (by its number), or none: ``error`` then says why, or a clip is at its end."""

    item: int
    number: int
    picture: Picture | None
    error: str = ""
    exit_code: int = 1
    last: bool = True


class Batch(NamedTuple):
    """Pictures inferred together. ``done``: all items before this one are finished with it, None within a clip."""

    reads: tuple[Read, ...]
    failed: tuple[Read, ...]
    done: int | None


class Inferred(NamedTuple):
    """A batch on its way to the files."""

    batch: Batch
    frames: tuple[Frame, ...]
    found: Sequence[Detections]


class Reports(NamedTuple):
    """What a job tells while it runs: each picture done or passed over, and a line about each of the latter."""

    step: Callable[[], None]
    say: Callable[[str], None]


class BatchJob:
    """``run`` does what is not done yet. ``limit``: at most so many pictures of each item.

    Raises what a writer raises (a full disk is an AgentError), EngineError, KeyboardInterrupt; then the journal says
    how far it got.
    """

    def __init__(
        self,
        items: Sequence[Item],
        detector: Detector,
        writers: Mapping[str, Writer],
        journal: BatchJournal,
        open_source: Open,
        reports: Reports,
        limit: int | None = None,
    ) -> None:
        self._items = items
        self._detector = detector
        self._writers = writers
        self._journal = journal
        self._open = open_source
        self._reports = reports
        self._limit = limit
        self._first = journal.records[-1].done if journal.records else 0
        self._tally = journal.tally()
        self._stopping = threading.Event()
        self._reads: queue.Queue[Read | BaseException | None] = queue.Queue()
        self._room = _Room(READ_AHEAD, READ_AHEAD_BYTES)
        self._writes: queue.Queue[Inferred | None] = queue.Queue()
        self._behind = _Room(WRITE_BEHIND, WRITE_BEHIND_BYTES)
        self._fault: BaseException | None = None

    def run(self) -> Tally:
        """Read, infer, write to the end."""
        reader = threading.Thread(target=self._read_all, name="batch-reader", daemon=True)
        writer = threading.Thread(target=self._write_all, name="batch-writer", daemon=True)
        reader.start()
        writer.start()
        try:
            for inferred in self._infer(batches(self._taken(), self._journal.batch or 1, self._is_clip)):
                self._hand_over(inferred)
        finally:
            self._stopping.set()
            self._room.open()
            self._writes.put(None)
            writer.join()
            reader.join()
        self._raise_fault()
        self._finish()
        return self._tally

    def _finish(self) -> None:
        try:
            for one in self._writers.values():
                one.finish()
        except OSError as error:
            self._fault = error
        self._raise_fault()

    def _is_clip(self, index: int) -> bool:
        return self._items[index].clip

    # the reader's thread

    def _read_all(self) -> None:
        try:
            for index in range(self._first, len(self._items)):
                for read in self._read(index):
                    self._room.take(0 if read.picture is None else read.picture.pixels.nbytes)
                    if self._stopping.is_set():
                        return
                    self._reads.put(read)
            self._reads.put(None)
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits for pictures
            self._reads.put(error)

    def _read(self, index: int) -> Iterator[Read]:
        """The pictures of one item; what cannot be read is an entry of its own, the last one says so."""
        item, number = self._items[index], 0
        source: Source | None = None
        try:
            source = self._open(item.spec)
            source.open()
            while number != self._limit and (picture := source.read()) is not None:
                yield Read(index, number, picture, last=not item.clip)
                number += 1
        except SourceError as error:
            yield Read(index, number, None, str(error), error.exit_code, last=not item.clip)
        finally:
            if source is not None:
                source.close()
        # Pictures inside a clip that could not be decoded; only recordings have them.
        for line in getattr(source, "skipped", ()):
            yield Read(index, number, None, f"{line}: cannot be decoded", last=False)
        if item.clip:
            yield Read(index, number, None)

    # the caller's thread

    def _taken(self) -> Iterator[Read]:
        while (read := self._reads.get()) is not None:
            if isinstance(read, BaseException):
                raise read
            self._room.give(0 if read.picture is None else read.picture.pixels.nbytes)
            yield read

    def _infer(self, formed: Iterator[Batch]) -> Iterator[Inferred]:
        """Every batch's result, in order, with as many inferences open as the engine has slots."""
        waiting: deque[tuple[Batch, tuple[Frame, ...], Pending | None]] = deque()
        for batch in formed:
            if len(waiting) == self._detector.slots:
                yield self._collect(*waiting.popleft())
            frames = tuple(self._frame(read) for read in batch.reads)
            waiting.append((batch, frames, self._detector.submit(frames) if frames else None))
        while waiting:
            yield self._collect(*waiting.popleft())

    def _collect(self, batch: Batch, frames: tuple[Frame, ...], pending: Pending | None) -> Inferred:
        return Inferred(batch, frames, [] if pending is None else self._detector.collect(pending))

    def _frame(self, read: Read) -> Frame:
        assert read.picture is not None
        return Frame(self._items[read.item].name, read.number, read.picture.pixels, time.time(), time.monotonic())

    def _hand_over(self, inferred: Inferred) -> None:
        """To the writer, when it has room. Raises what it failed with."""
        self._behind.take(_size(inferred.frames))
        self._raise_fault()
        self._writes.put(inferred)

    def _raise_fault(self) -> None:
        fault = self._fault
        if isinstance(fault, OSError):
            where = fault.filename or next(iter(self._writers.values())).path
            way_out = "make room and " if fault.errno in (errno.ENOSPC, errno.EDQUOT) else "mend that and "
            raise AgentError(f"{where}: cannot be written: {fault.strerror}; {way_out}give the same command again")
        if fault is not None:
            raise fault

    # the writer's thread

    def _write_all(self) -> None:
        failed: list[Read] = []
        noted = time.monotonic()
        done: int | None = None
        try:
            while (inferred := self._writes.get()) is not None:
                self._write(inferred)
                self._behind.give(_size(inferred.frames))
                failed += inferred.batch.failed
                done = inferred.batch.done
                # Each clip is noted, as it is much work; pictures now and then.
                if done is not None and (self._is_clip(done - 1) or time.monotonic() - noted >= RECORD_SECONDS):
                    self._note(done, failed)
                    failed, noted, done = [], time.monotonic(), None
            if done is not None:
                self._note(done, failed)
        except BaseException as error:  # noqa: BLE001 - raised again by the caller's thread
            self._fault = error
            self._behind.open()

    def _write(self, inferred: Inferred) -> None:
        for read in inferred.batch.failed:
            self._tally.fail(read.error, read.exit_code)
            self._reports.say(f"edgewarden: {read.error}")
            self._reports.step()
        for read, frame, found in zip(inferred.batch.reads, inferred.frames, inferred.found, strict=True):
            item, picture = self._items[read.item], read.picture
            assert picture is not None
            number, position = (read.number, picture.position) if item.clip else (None, None)
            result = Result(redact(item.spec), item.name, number, position, frame.pixels, found, item.stem)
            for writer in self._writers.values():
                writer.write(result)
            self._tally.pictures += 1
            self._tally.detections += len(found)
            self._reports.step()

    def _note(self, done: int, failed: Sequence[Read]) -> None:
        marks = {name: writer.mark() for name, writer in self._writers.items()}
        lines, worst = [read.error for read in failed], max((read.exit_code for read in failed), default=0)
        self._journal.note(Record(done, marks, self._tally.pictures, self._tally.detections, lines, worst))


def _size(frames: Sequence[Frame]) -> int:
    return sum(frame.pixels.nbytes for frame in frames)


def batches(
    reads: Iterator[Read], size: int, is_clip: Callable[[int], bool], most: int = BATCH_BYTES
) -> Iterator[Batch]:
    """Pictures in order, ``size`` at a time, or as soon as they have ``most`` bytes; a clip begins and ends with a
    batch of its own."""
    pictures: list[Read] = []
    failed: list[Read] = []
    held = 0
    done: int | None = None
    clip: int | None = None
    for read in reads:
        inside = read.item if is_clip(read.item) else None
        if inside != clip:
            if pictures or failed:
                yield Batch(tuple(pictures), tuple(failed), done)
                pictures, failed, held = [], [], 0
            clip = inside
        if read.picture is not None:
            pictures.append(read)
            held += read.picture.pixels.nbytes
        elif read.error:
            failed.append(read)
        ended = read.last and (read.picture is None or inside is None)
        done = read.item + 1 if ended else None
        if len(pictures) == size or held >= most or (inside is not None and ended):
            yield Batch(tuple(pictures), tuple(failed), done)
            pictures, failed, held = [], [], 0
            clip = None if ended else clip
    if pictures or failed:
        yield Batch(tuple(pictures), tuple(failed), done)


class _Room:
    """How much may be read ahead: so many pictures, so many bytes; one picture always has room."""

    def __init__(self, count: int, size: int) -> None:
        self._count, self._size = count, size
        self._held = self._bytes = 0
        self._opened = False
        self._changed = threading.Condition()

    def take(self, size: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._opened or not self._held or self._fits(size))
            self._held += 1
            self._bytes += size

    def give(self, size: int) -> None:
        with self._changed:
            self._held -= 1
            self._bytes -= size
            self._changed.notify_all()

    def open(self) -> None:
        """Nobody waits any more."""
        with self._changed:
            self._opened = True
            self._changed.notify_all()

    def _fits(self, size: int) -> bool:
        return self._held < self._count and self._bytes + size <= self._size
