"""``edgewarden alert test``: one alert of a rule told at once, past gates and outboxes, and what each sink said.

The daemon owns the connection to the broker, so the command asks it: a file in the plugin's state folder, answered by
another. Files since both are processes of one user, and nothing listens.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from plugins.alert.config import AlertConfig, Rule
from plugins.alert.message import AlertMessage

log = logging.getLogger(__name__)

FOLDER = "trials"
ASKED, ANSWERED = ".ask.json", ".answer.json"
LONGEST = 60.0

Deliver = Callable[[AlertMessage], None]


class Wish(msgspec.Struct, frozen=True):
    """What the command asks for; ``at``: UNIX seconds."""

    rule: str
    at: float


class Outcome(msgspec.Struct, frozen=True):
    """What became of it: by sink, empty when it arrived, else why not. ``fault``: why nothing was tried."""

    sinks: dict[str, str] = {}
    fault: str = ""


def trial_alert(rule: Rule, node: str, now: float) -> AlertMessage:
    """An alert as the rule would raise it, with the state ``test``."""
    name = str(uuid.uuid4())
    return AlertMessage(
        node=node,
        rule=rule.name,
        state="test",
        alert=name,
        id=name,
        seq=0,
        camera=next(iter(rule.cameras), "test"),
        zone=next(iter(rule.zones), ""),
        label=next(iter(rule.labels), "test"),
        score=1.0,
        events=(name,),
        started_at=now,
        raised_at=now,
        at=now,
    )


def try_sinks(rule: Rule, node: str, sinks: Mapping[str, Deliver], now: float) -> Outcome:
    """Tell each sink of the rule, one after the other."""
    alert = trial_alert(rule, node, now)
    said = {}
    for name in dict.fromkeys((*(rule.to or sinks), *rule.escalate_to)):
        if name in sinks:
            said[name] = _attempt(sinks[name], alert)
    return Outcome(sinks=said)


def _attempt(deliver: Deliver, alert: AlertMessage) -> str:
    try:
        deliver(alert)
    except Exception as error:  # noqa: BLE001 - a sink of any kind may fail in any way, which is what is asked for
        return str(error) or type(error).__name__
    return ""


class Trials:
    """The daemon's side. ``poll`` is called once a second; each wish is granted on a thread of its own."""

    def __init__(self, state_dir: Path, config: AlertConfig, node: str, sinks: Mapping[str, Deliver]) -> None:
        self._folder = state_dir / FOLDER
        self._rules = {rule.name: rule for rule in config.rule}
        self._node = node
        self._sinks = dict(sinks)

    def open(self) -> None:
        """Make the folder: it is the daemon's, so that it may clear away what another user put there."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            log.warning("alert: %s cannot be made: %s; `alert test` will not be heard", self._folder, error.strerror)

    def poll(self) -> None:
        """Grant what is wished for, and clear away what nobody came for."""
        if not self._folder.is_dir():
            return
        for path in sorted(self._folder.glob("*.json")):
            try:
                if path.name.endswith(ASKED):
                    self._begin(path)
                elif time.time() - path.stat().st_mtime > LONGEST:
                    path.unlink(missing_ok=True)
            except OSError as error:
                log.warning("alert: %s: %s", path, error.strerror)

    def _begin(self, path: Path) -> None:
        text = path.read_bytes()
        path.unlink()
        answer = path.with_name(path.name.removesuffix(ASKED) + ANSWERED)
        threading.Thread(target=self._grant, args=(text, answer), name="alert-test", daemon=True).start()

    def _grant(self, text: bytes, answer: Path) -> None:
        try:
            wish = msgspec.json.decode(text, type=Wish)
            outcome = self._outcome(wish)
        except msgspec.DecodeError as error:
            outcome = Outcome(fault=f"the wish cannot be read: {error}")
        try:
            _write(answer, msgspec.json.encode(outcome))
        except OSError as error:
            log.warning("alert: %s cannot be written: %s", answer, error.strerror)

    def _outcome(self, wish: Wish) -> Outcome:
        rule = self._rules.get(wish.rule)
        if rule is None:
            return Outcome(fault=f"the running agent has no rule {wish.rule!r}; reload it")
        if abs(time.time() - wish.at) > LONGEST:
            return Outcome(fault="the wish is too old")
        return try_sinks(rule, self._node, self._sinks, time.time())


def ask(state_dir: Path, rule: str, timeout: float) -> Outcome | None:
    """The command's side: wish, wait, and take the answer; None when nobody answers in time. OSError when the folder
    cannot be written."""
    folder = state_dir / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    name = uuid.uuid4().hex
    wish, answer = folder / f"{name}{ASKED}", folder / f"{name}{ANSWERED}"
    _write(wish, msgspec.json.encode(Wish(rule, time.time())))
    deadline, pause = time.monotonic() + timeout, threading.Event()
    try:
        while not answer.exists():
            if time.monotonic() >= deadline:
                return None
            pause.wait(0.05)
        return msgspec.json.decode(answer.read_bytes(), type=Outcome)
    finally:
        wish.unlink(missing_ok=True)
        answer.unlink(missing_ok=True)


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)
