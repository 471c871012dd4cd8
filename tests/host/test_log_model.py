"""The event log, its cursors and a window over them against a model, through crashes, expiry and damage."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from random import Random

from event_logs import Clocks, everything, opened, put
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from waiting import wait_until

from agent.host.log import EVENTS, EventLog
from agent.host.ranges import Ranges
from agent.host.store import Entry, Row

MAX_AGE = 1000.0
NAMES = ("mqtt", "alert")


class LogMachine(RuleBasedStateMachine):
    """``kept``: what must be there, by number. ``done``: what each cursor has acknowledged; of the last ones a crash
    may know nothing (``unsure``), and then they are told again."""

    taken = Bundle("taken")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "e.db"
        self.clocks = Clocks()
        self.kept: dict[int, tuple[str, bytes]] = {}
        self.born: dict[int, float] = {}
        self.done: dict[str, set[int]] = {name: set() for name in NAMES}
        self.acked: set[int] = set()
        self.count = 0
        self.dropped = 0
        self.log = self.begin()
        for name in NAMES:
            self.log.cursor(name)

    def begin(self) -> EventLog:
        return EventLog(self.path, max_age=MAX_AGE, make_clock=self.clocks.make)

    def teardown(self) -> None:
        self.log.close()
        shutil.rmtree(self.folder)

    def known(self) -> float:
        return self.log._journal.clock.now()

    @rule(stream=st.sampled_from([EVENTS, EVENTS, "post"]), size=st.integers(1, 4))
    def append(self, stream: str, size: int) -> None:
        payloads = [f"{self.count + index}".encode() for index in range(size)]
        self.count += size
        now = self.known()
        numbers = self.log.append([Entry(stream, payload, index % 2) for index, payload in enumerate(payloads)])
        for number, payload in zip(numbers.result(10), payloads, strict=True):
            assert number > max(self.kept, default=0)
            self.kept[number] = (stream, payload)
            self.born[number] = now
        self.expire()

    def expire(self) -> None:
        """What a commit drops for its age."""
        for number in [number for number, born in self.born.items() if self.known() - born > MAX_AGE]:
            self.dropped += 1
            del self.kept[number], self.born[number]

    @rule(target=taken, name=st.sampled_from(NAMES), skip=st.integers(0, 3))
    def read(self, name: str, skip: int) -> tuple[str, int, int]:
        """What a reader finds next is the first of what it has not acknowledged, and what lies behind it."""
        done = self.log.done(name)
        position, found = done.low, 0
        for number in sorted(self.kept):
            if self.kept[number][0] == EVENTS and number not in done:
                found += 1
                if found > skip:
                    after = done.skip(position)
                    row = next(row for row in self.log.read(EVENTS, after, 99) if row.seq not in done)
                    assert (row.seq, row.payload) == (number, self.kept[number][1])
                    return name, position, number
            if self.kept[number][0] == EVENTS:
                position = number
        return name, 0, 0

    @rule(what=consumes(taken))
    def acknowledge(self, what: tuple[str, int, int]) -> None:
        name, after, number = what
        if number:
            self.log.advance(name, number, after)
            self.done[name] |= {each for each in self.kept if after < each <= number}

    @rule(pick=st.integers(0, 5))
    def acknowledge_a_message_of_the_outbox(self, pick: int) -> None:
        rows = self.log.read_by_priority("post", 9)
        if pick < len(rows):
            self.log.remove(rows[pick].seq)
            del self.kept[rows[pick].seq], self.born[rows[pick].seq]

    @rule(seconds=st.sampled_from([1.0, 300.0, 2000.0]))
    def time_passes(self, seconds: float) -> None:
        self.clocks.pass_(seconds)
        self.append(
            EVENTS, 1
        )  # what is too old goes with the next commit, and there may be one of a cursor at any time

    @rule(to=st.sampled_from([50.0, 1.8e9, 4e9]))
    def the_wall_clock_jumps(self, to: float) -> None:
        self.clocks.wall = to

    @rule(reboot=st.booleans())
    def close_and_open(self, reboot: bool) -> None:
        self.log.close()
        self.start(reboot)

    @rule(reboot=st.booleans())
    def crash_and_open(self, reboot: bool) -> None:
        """The files as they are now, to the byte, are what the next start finds."""
        copy = Path(tempfile.mkdtemp(dir=self.folder))
        for file in self.folder.glob("e.db*"):
            if not file.name.endswith("-shm"):
                shutil.copy(file, copy)
        self.log.close()
        for file in copy.iterdir():
            shutil.copy(file, self.folder)
        self.start(reboot)
        known = {name: self.log.done(name) for name in NAMES}
        for name, numbers in self.done.items():
            assert {n for n in self.kept if n in known[name] and self.kept[n][0] == EVENTS} <= numbers, (
                "told again only"
            )
            self.done[name] = {number for number in numbers if number in known[name]}
        back = {row.seq: row for row in self.log.read_by_priority("post", 999)}
        for number, row in back.items():  # an acknowledgement that was not written yet
            self.kept.setdefault(number, ("post", row.payload))
            self.born.setdefault(number, row.known)

    def start(self, reboot: bool) -> None:
        if reboot:
            self.clocks.boot += "'"
            self.clocks.mono = 3.0
        self.log = self.begin()

    @invariant()
    def everything_that_was_accepted_is_there_in_order(self) -> None:
        for stream in (EVENTS, "post"):
            expected = [(number, payload) for number, (of, payload) in sorted(self.kept.items()) if of == stream]
            if stream == EVENTS:
                found: list[Row] = self.log.read(stream, 0, 9999)
            else:
                found = sorted(self.log.read_by_priority(stream, 9999), key=lambda row: row.seq)
            assert [(row.seq, row.payload) for row in found] == expected

    @invariant()
    def cursors_know_what_was_acknowledged(self) -> None:
        for name in NAMES:
            done = self.log.done(name)
            for number, (stream, _) in self.kept.items():
                if stream == EVENTS:
                    assert (number in done) == (number in self.done[name])

    @invariant()
    def what_is_dropped_is_counted(self) -> None:
        assert self.log.health().dropped == self.dropped


TestLogMachine = LogMachine.TestCase
TestLogMachine.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 400), st.sampled_from(["", "-wal"]))
def test_whatever_bytes_are_damaged_the_log_opens_accepts_and_tells_nothing_that_was_not_written(
    seed: int, places: int, width: int, suffix: str
) -> None:
    random = Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "e.db"
        written = [random.randbytes(random.randrange(1, 3000)) for _ in range(60)]
        with opened(path) as log:
            for payload in written[:40]:
                put(log, payload)
        with opened(path) as log:  # so that there is a file with a journal beside it
            put(log, *written[40:])
            for name in ("e.db", "e.db-wal"):
                shutil.copy(path.with_name(name), Path(folder) / f"copy-{name}")
        for name in ("e.db", "e.db-wal"):
            shutil.move(Path(folder) / f"copy-{name}", path.with_name(name))
        target = path.with_name(path.name + suffix)
        content = bytearray(target.read_bytes())
        for _ in range(places):
            at = random.randrange(len(content))
            content[at : at + width] = random.randbytes(len(content[at : at + width]))
        target.write_bytes(content)
        with opened(path) as log:
            assert set(everything(log)) <= set(written)
            put(log, b"new")
            wait_until(lambda: "memory" not in log.health().state)
            put(log, b"newer")
            wait_until(lambda: everything(log)[-1:] == [b"newer"])
            assert set(everything(log)) <= {*written, b"new", b"newer"}


def test_a_cursor_persists_what_was_told_beside_the_backlog(tmp_path: Path) -> None:
    with opened(tmp_path / "e.db") as log:
        start = log.cursor("mqtt")
        numbers = put(log, *[os.urandom(9) for _ in range(9)])
        log.advance("mqtt", numbers[0])
        log.advance("mqtt", numbers[5], numbers[4])
        log.advance("mqtt", numbers[6], numbers[5])
        wait_until(lambda: log.health().waiting == {"mqtt": 6})
    with opened(tmp_path / "e.db") as log:
        done = log.done("mqtt")
        assert (done.low, list(done)) == (numbers[0], [(numbers[4], numbers[6])])
        assert start < done.low
        wait_until(lambda: log.health().waiting == {"mqtt": 6})
    assert isinstance(done, Ranges)
