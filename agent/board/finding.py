"""One thing that ``doctor`` tells: a fact, whether it is as it should be, and what mends it."""

from __future__ import annotations

from typing import Literal, NamedTuple

State = Literal["ok", "missing", "warn", "none"]


class Finding(NamedTuple):
    """``state``: ``none`` for what this machine does not have and need not, ``missing`` for what it needs, ``warn`` for
    what works less well than it could, or not for long. ``advice``: a command where one helps; never empty for
    ``missing`` and ``warn``."""

    what: str
    state: State
    found: str
    advice: str = ""

    def in_one_line(self) -> Finding:
        """The same in printable characters: a camera calls itself what it likes, and terminals obey some of it."""
        return Finding(_plain(self.what), self.state, _plain(self.found), _plain(self.advice))


def _plain(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.split()))
