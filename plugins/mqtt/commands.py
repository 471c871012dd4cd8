"""Commands from the broker: checked, done once, answered. Hostile ones are answered with an error and change nothing.

What a command does is its owner's, asked through the agent; how messages travel is the link's.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from agent import AgentError

LARGEST = 4096
"""Bytes of a command; the longest of ours has a hundred."""
REMEMBERED = 256
"""Answers that are kept, to give them again to whoever sends the same id again."""
BURST, RATE = 10.0, 5.0
"""So many at once, and so many a second after that."""
LONGEST_NAME = 64
LONGEST_ERROR = 2000
LARGEST_ANSWER = 64 << 10
"""Bytes of an answer; a plugin's command could give more."""
COMPLAINT_EVERY = 1.0
"""Seconds from one answer to a flood to the next."""

Ask = Callable[[str, Mapping[str, Any]], "Future[dict[str, Any]]"]
Id = Annotated[str, Meta(min_length=1, max_length=64)]


class Envelope(msgspec.Struct, frozen=True):
    """What every command has beside its own arguments."""

    id: Id


class Commands:
    """``allowed``: the names that may be asked for; ``ask`` does it, at once or later; ``answer(name, payload)`` sends.

    Safe from any thread. ``count`` counts what was refused, by reason.
    """

    def __init__(
        self,
        allowed: Collection[str],
        ask: Ask,
        answer: Callable[[str, bytes], None],
        count: Callable[[str], None],
    ) -> None:
        self._allowed = frozenset(allowed)
        self._ask = ask
        self._answer = answer
        self._count = count
        self._lock = threading.Lock()
        self._done: OrderedDict[tuple[str, str], bytes | None] = OrderedDict()
        self._tokens, self._filled_at = BURST, 0.0
        self._complained_at = float("-inf")

    def receive(self, name: str, payload: bytes, retained: bool, now: float) -> None:
        """A message on ``command/NAME``. ``now``: seconds on any clock that only goes on."""
        if retained:
            # It was meant for whoever was there then; done again at every connection it would never end.
            self._count("commands_retained")
            return
        if not self._admitted(now):
            self._complain(name, now)
            return
        if name not in self._allowed and len(name) > LONGEST_NAME:
            self._count("commands_unknown")  # no topic to answer on, either
            return
        if name not in self._allowed:
            self._refuse(name, None, "no such command, or not allowed by [plugins.mqtt] commands", "commands_unknown")
            return
        try:
            identity, arguments = read(payload)
        except ValueError as error:
            self._refuse(name, None, str(error), "commands_malformed")
            return
        self._do(name, identity, arguments)

    def _do(self, name: str, identity: str, arguments: Mapping[str, Any]) -> None:
        with self._lock:
            known = (name, identity) in self._done
            answer = self._done.get((name, identity))
            if not known:
                self._remember(name, identity, None)
        if known:
            self._count("commands_repeated")
            if answer is not None:
                self._answer(name, answer)
            return
        try:
            asked = self._ask(name, arguments)
        except Exception as error:  # noqa: BLE001 - becomes the answer
            asked = Future()
            asked.set_exception(error)
        asked.add_done_callback(lambda future: self._finish(name, identity, future))

    def _finish(self, name: str, identity: str, future: Future[dict[str, Any]]) -> None:
        error = future.exception()
        if error is None:
            result = {**future.result(), "id": identity, "ok": True}
        else:
            told = str(error) if isinstance(error, AgentError) else f"failed: {type(error).__name__}"
            result = {"id": identity, "ok": False, "error": told[:LONGEST_ERROR]}
        payload = encoded(result)
        if len(payload) > LARGEST_ANSWER:
            payload = encoded(
                {"id": identity, "ok": False, "error": f"done; its answer exceeds {LARGEST_ANSWER} bytes"}
            )
        with self._lock:
            self._remember(name, identity, payload)
        self._count("commands_done" if error is None else "commands_failed")
        self._answer(name, payload)

    def _remember(self, name: str, identity: str, payload: bytes | None) -> None:
        self._done[name, identity] = payload
        self._done.move_to_end((name, identity))
        while len(self._done) > REMEMBERED:
            self._done.popitem(last=False)

    def _complain(self, name: str, now: float) -> None:
        """A flood is answered once a second, not with a flood."""
        with self._lock:
            due = now - self._complained_at >= COMPLAINT_EVERY
            if due:
                self._complained_at = now
        if due:
            self._refuse(name, None, "too many commands, ask again in a second", "commands_too_many")
        else:
            self._count("commands_too_many")

    def _refuse(self, name: str, identity: str | None, reason: str, counter: str) -> None:
        self._count(counter)
        self._answer(name, encoded({"id": identity, "ok": False, "error": reason[:LONGEST_ERROR]}))

    def _admitted(self, now: float) -> bool:
        with self._lock:
            self._tokens = min(BURST, self._tokens + max(0.0, now - self._filled_at) * RATE)
            self._filled_at = now
            if self._tokens < 1.0:
                return False
            self._tokens -= 1.0
            return True


def read(payload: bytes) -> tuple[str, dict[str, Any]]:
    """The id and the other keys of a command. Raises ValueError that says what is wrong, without the payload itself."""
    if len(payload) > LARGEST:
        raise ValueError(f"larger than {LARGEST} bytes")
    try:
        envelope = msgspec.json.decode(payload, type=Envelope)
        arguments = msgspec.json.decode(payload, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"not a command: {error}; a JSON object with an id is expected") from None
    return envelope.id, {key: value for key, value in arguments.items() if key != "id"}


def encoded(result: Mapping[str, Any]) -> bytes:
    """An answer as JSON; one that has no JSON form says so."""
    try:
        return msgspec.json.encode(result)
    except (TypeError, ValueError, RecursionError):
        failed = {"id": result.get("id"), "ok": False, "error": "the answer has no JSON form"}
        return msgspec.json.encode(failed)
