"""TensorRT's own messages as records of Python's log: level, the code they come from, the error's number, the text.

What a message means for the user is not decided here.
"""

from __future__ import annotations

import logging
import re
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from agent.engines.flavour import trt

KEPT = 8


class Said(NamedTuple):
    """One message. ``place``: TensorRT's file or function; ``code``: its error number, empty for what is none."""

    level: int
    text: str
    place: str
    code: str


class BuilderLog(trt.ILogger):
    """Gives every message to ``tell``; the last errors stay in ``errors``, since exceptions do not carry them.

    What TensorRT calls information is for debugging. While ``hushed`` its errors are too: who hushes tells them better.
    Made before, and kept as long as, anything of TensorRT that was given it.
    """

    hushed = False

    def __init__(self, tell: Callable[[Said], None]) -> None:
        trt.ILogger.__init__(self)
        self._tell = tell
        self._levels = {
            trt.ILogger.INTERNAL_ERROR: logging.ERROR,
            trt.ILogger.ERROR: logging.ERROR,
            trt.ILogger.WARNING: logging.WARNING,
            trt.ILogger.INFO: logging.DEBUG,
            trt.ILogger.VERBOSE: logging.DEBUG,
        }
        self.errors: deque[str] = deque(maxlen=KEPT)

    def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
        """Called by TensorRT, on any thread."""
        said = parsed(self._levels.get(severity, logging.WARNING), msg)
        if said.level >= logging.ERROR:
            self.errors.append(said.text)
        self._tell(said._replace(level=logging.DEBUG) if self.hushed else said)


def parsed(level: int, message: str) -> Said:
    """TensorRT's usual forms taken apart: ``[file.cpp::function::123] Error Code 4: …`` and ``file.cpp:12: …``."""
    text = " ".join(message.split())
    place = code = ""
    if match := re.match(r"\[([\w.]+(?:::\S+?)*?)(?:::(\d+))?\] ", text) or re.match(r"([\w.]+\.\w+):(\d+): ", text):
        place, text = match[1], text[match.end() :]
    if match := re.match(r"(?:(\S+): )?Error Code (\d+): ", text):
        place, code, text = place or match[1] or "", match[2], text[match.end() :]
    return Said(level, text, place, code)


def to_logger(logger: logging.Logger) -> Callable[[Said], None]:
    """A ``tell`` that writes to a logger; the parts are fields of the record too."""

    def tell(said: Said) -> None:
        where = f" [{said.place}]" if said.place else ""
        code = f" (error {said.code})" if said.code else ""
        fields = {"tensorrt_place": said.place, "tensorrt_code": said.code}
        logger.log(said.level, "tensorrt: %s%s%s", said.text, code, where, extra=fields)

    return tell
