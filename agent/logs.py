"""Log records on their way out: one line a fact, repeats held back, no secret; as text, as JSON, or to the journal.

What is worth telling is decided where it happens, with ``logging``; here is only how it is told, and how often.
"""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import sys
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, TextIO

from agent.secrecy import redacted

Format = Literal["auto", "text", "json"]

BURST = 5
WINDOW = 60.0
REMEMBERED = 512
JOURNAL = "/run/systemd/journal/socket"
PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
"""syslog's, by the least level: critical, error, warning, informational; below that, debug (7)."""
_NUMBER = re.compile(r"(?<![\w.-])\d+(?:\.\d+)?")
_SUBJECT = re.compile(r"(camera|plugin) (.+?): ")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


class Fact(NamedTuple):
    """One record, ready to be told. ``at``: UNIX seconds; ``subject``: ``camera`` or ``plugin``, and its name."""

    at: float
    level: int
    logger: str
    message: str
    trace: str = ""
    subject: tuple[str, str] | None = None
    thread: str = ""
    place: tuple[str, int, str] = ("", 0, "")

    @property
    def priority(self) -> int:
        """syslog's."""
        return next((number for level, number in PRIORITIES if self.level >= level), 7)

    @property
    def kind(self) -> tuple[str, int, str]:
        """What makes two of them the same again: the numbers in the message do not count, names do."""
        subject = "/".join(self.subject) if self.subject else ""
        return self.logger, self.level, f"{subject} {_NUMBER.sub('#', self.message)}"


def fact_of(record: logging.LogRecord) -> Fact:
    """The record without secrets and line breaks. Begins its message ``camera NAME: `` or ``plugin NAME: ``, then that
    is what it is about. A message that cannot be formatted says so."""
    try:
        message = record.getMessage()
    except Exception as error:  # noqa: BLE001 - a log call that is wrong must not cost what it reports
        message = f"{record.msg!r} {record.args!r} ({type(error).__name__}: {error})"
    trace = "".join(traceback.format_exception(*record.exc_info)) if record.exc_info and record.exc_info[1] else ""
    subject = _SUBJECT.match(message)
    return Fact(
        at=record.created,
        level=record.levelno,
        logger=record.name,
        message=_one_line(redacted(message)),
        trace=redacted(trace.rstrip()),
        subject=(subject[1], _one_line(redacted(subject[2]))) if subject else None,
        thread=record.threadName or "",
        place=(record.pathname, record.lineno, record.funcName or ""),
    )


class Repeats:
    """Lets ``burst`` of a kind through within ``window`` seconds and counts the rest. Pure; ``now``: monotonic."""

    def __init__(self, burst: int = BURST, window: float = WINDOW, remembered: int = REMEMBERED) -> None:
        self._burst = burst
        self._window = window
        self._remembered = remembered
        self._seen: OrderedDict[Any, tuple[float, int]] = OrderedDict()

    def admits(self, kind: Any, now: float) -> bool:
        """Whether it is to be told. Ask ``over`` before."""
        since, count = self._seen.get(kind, (now, 0))
        self._seen[kind] = (since, count + 1)
        return count < self._burst

    def over(self, now: float) -> Iterator[tuple[Any, int]]:
        """The kinds whose window is over, or that can be remembered no longer: how many of them were left out."""
        while self._seen:
            kind, (since, count) = next(iter(self._seen.items()))
            if now - since < self._window and len(self._seen) <= self._remembered:
                return
            del self._seen[kind]
            if count > self._burst:
                yield kind, count - self._burst

    def rest(self) -> Iterator[tuple[Any, int]]:
        """The same of all of them: it is the end."""
        yield from self.over(float("inf"))


class Teller(logging.Handler):
    """Hands facts to ``tell``, which may raise OSError: such a fact is lost, and counted in ``lost``."""

    def __init__(self, tell: Callable[[Fact], None], clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.tell = tell
        self.lost = 0
        self._clock = clock
        self._repeats = Repeats()

    def emit(self, record: logging.LogRecord) -> None:
        """Under the handler's lock. Never raises: there is nobody to tell."""
        try:
            fact, now = fact_of(record), self._clock()
            self._summarise(self._repeats.over(now), fact.at)
            if self._repeats.admits(fact.kind, now):
                self.tell(fact)
        except Exception:  # noqa: BLE001 - as said
            self.lost += 1

    def close(self) -> None:
        """Say what was left out."""
        with self.lock or logging._lock:  # type: ignore[attr-defined]
            try:
                self._summarise(self._repeats.rest(), time.time())
            except (OSError, ValueError):
                self.lost += 1
        super().close()

    def _summarise(self, left_out: Iterator[tuple[Any, int]], at: float) -> None:
        for (logger, level, message), count in left_out:
            self.tell(Fact(at, level, logger, f"{count} more like this were left out: {message.strip()}"))


def text_line(fact: Fact) -> str:
    """For people: local time, level, message; a traceback follows on lines of its own."""
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(fact.at)) + f",{int(fact.at % 1 * 1000):03}"
    line = f"{at} {logging.getLevelName(fact.level):<7} {fact.message}"
    return f"{line}\n{fact.trace}" if fact.trace else line


def json_line(fact: Fact) -> str:
    """For programs: one object a line."""
    named = {fact.subject[0]: fact.subject[1]} if fact.subject else {}
    trace = {"traceback": fact.trace} if fact.trace else {}
    level = logging.getLevelName(fact.level).lower()
    found = {"at": round(fact.at, 3), "level": level, "logger": fact.logger, "message": fact.message}
    return json.dumps({**found, **named, **trace})


def journal_entry(fact: Fact) -> bytes:
    """In the journal's native protocol: priority, message with its traceback, who and where, camera or plugin."""
    file, line, function = fact.place
    fields = {
        "MESSAGE": f"{fact.message}\n{fact.trace}" if fact.trace else fact.message,
        "PRIORITY": str(fact.priority),
        "SYSLOG_IDENTIFIER": "edgewarden",
        "LOGGER": fact.logger,
        "THREAD_NAME": fact.thread,
        "CODE_FILE": file,
        "CODE_LINE": str(line),
        "CODE_FUNC": function,
    }
    if fact.subject:
        fields[f"EDGEWARDEN_{fact.subject[0].upper()}"] = fact.subject[1]
    return b"".join(_field(name, value) for name, value in fields.items())


def _field(name: str, value: str) -> bytes:
    """A value with line breaks goes with its length: 64 bits, little endian."""
    data = value.encode("utf-8", "replace")
    if b"\n" not in data:
        return name.encode() + b"=" + data + b"\n"
    return name.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n"


class Journal:
    """The journal's socket; what does not fit into a datagram, or finds no journal, goes to ``otherwise``."""

    def __init__(self, otherwise: Callable[[Fact], None], path: str = JOURNAL) -> None:
        self._otherwise = otherwise
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.settimeout(1.0)

    def __call__(self, fact: Fact) -> None:
        try:
            self._socket.sendto(journal_entry(fact), self._path)
        except OSError:
            self._otherwise(fact)


def to_stream(stream: TextIO, line: Callable[[Fact], str], marked: bool = False) -> Callable[[Fact], None]:
    """``marked``: each line begins with its priority as the journal reads it from a stream: ``<3>``."""

    def tell(fact: Fact) -> None:
        text = line(fact)
        mark = f"<{fact.priority}>" if marked else ""
        stream.write("".join(f"{mark}{each}\n" for each in text.splitlines()) or "\n")
        stream.flush()

    return tell


def under_journal(stream: TextIO, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the stream is the one that systemd connected to the journal: ``$JOURNAL_STREAM``, device and inode."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environment.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def teller_for(format: Format, stream: TextIO) -> Callable[[Fact], None]:
    """How facts are told: JSON where that is wanted, to the journal where it listens, else as text."""
    journal = under_journal(stream)
    if format == "json":
        return to_stream(stream, json_line, journal)
    if format == "auto" and journal:
        return Journal(to_stream(stream, lambda fact: fact.message, True))
    return to_stream(stream, text_line, journal)


_teller: Teller | None = None


def configure(level: str, format: Format = "auto") -> None:
    """Tell what is logged on stderr or to the journal; again to tell it otherwise."""
    global _teller
    tell = teller_for(format, sys.stderr)
    if _teller is None:
        _teller = Teller(tell)
        logging.getLogger().addHandler(_teller)
    _teller.tell = tell
    logging.getLogger().setLevel(level.upper())


def reconfigure(level: str, format: Format) -> None:
    """The same after a reload, where it was configured at all."""
    if _teller is not None:
        configure(level, format)


def _one_line(text: str) -> str:
    """Line breaks become ``|``, other control characters are shown: a foreign text cannot forge a line."""
    lines = text.splitlines()
    joined = " | ".join(line for line in lines if line.strip()) if len(lines) > 1 else "".join(lines)
    return _CONTROL.sub(lambda match: f"\\x{ord(match.group()):02x}", joined)
