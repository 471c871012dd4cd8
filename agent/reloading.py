"""The thread that reloads: one reload at a time, whoever asked, and everybody is told how it went.

What a change is stands in reload.py, how it is made in app.py.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

from agent.config import Config
from agent.errors import AgentError, ConfigError
from agent.secrecy import redacted
from agent.service import reloading

log = logging.getLogger(__name__)

Answer = dict[str, Any]


class Applied(NamedTuple):
    """What was changed, in words, and which keys wait for a restart. ``finish`` does what must come after the answer
    (plugins are changed last: the one that is to carry the answer may be among them) and gives what waits on."""

    changed: Sequence[str]
    restart: Sequence[str]
    finish: Callable[[], Sequence[str]]


class Reloading:
    """``read`` gives the new configuration, ``apply`` makes it hold; both raise AgentError, then nothing has changed.

    ``told``: what the last reload could not do, for health and the service manager; empty when all holds. ``running``:
    the configuration that holds, for those who ask that it be applied again.
    """

    def __init__(
        self,
        read: Callable[[], Config],
        apply: Callable[[Config], Applied],
        running: Callable[[], Config] | None = None,
    ) -> None:
        self.told = ""
        self._read = read
        self._apply = apply
        self._running = running or read
        self._source = read
        self._read_asked = False
        self._changed = threading.Condition()
        self._asked: list[Future[Answer]] = []
        self._stop = False
        self._thread = threading.Thread(target=self._run, name="reload", daemon=True)

    def start(self) -> None:
        """Begin to wait for requests."""
        self._thread.start()

    def stop(self, timeout: float = 10.0) -> None:
        """Finish the reload in progress, refuse what waits, end the thread."""
        with self._changed:
            self._stop = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout)
            if self._thread.is_alive():
                log.warning("a reload was still under way after %g s, left behind", timeout)

    @property
    def stopping(self) -> bool:
        """Whether nothing is to be changed any more."""
        return self._stop

    def ask(self, *, again: bool = False) -> Future[Answer]:
        """Reload. Those who ask while a reload is under way share the next one. The Future gives what was changed and
        what needs a restart, or fails with AgentError that says why nothing changed. ``again``: the configuration stays
        as it is, what it names (the model) has changed."""
        answer: Future[Answer] = Future()
        with self._changed:
            stopped = self._stop
            if not stopped:
                self._asked.append(answer)
                self._read_asked = self._read_asked or not again
                self._changed.notify_all()
        if stopped:
            answer.set_exception(ConfigError("reload: the agent is stopping"))
        return answer

    def _run(self) -> None:
        while (asked := self._wait()) is not None:
            with reloading():
                self._reload(asked)
        self._refuse_rest()

    def _wait(self) -> list[Future[Answer]] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._stop or bool(self._asked))
            if self._stop:
                return None
            asked, self._asked = self._asked, []
            self._source = self._read if self._read_asked else self._running
            self._read_asked = False
            return asked

    def _refuse_rest(self) -> None:
        with self._changed:
            left, self._asked = self._asked, []
        for answer in left:
            answer.set_exception(ConfigError("reload: the agent is stopping"))

    def _reload(self, asked: Sequence[Future[Answer]]) -> None:
        try:
            applied = self._apply(self._source())
        except AgentError as error:
            self._refuse(asked, error)
        except Exception as error:  # a fault of ours, or of a plugin's: the daemon lives on with what it had
            log.exception("reload refused: internal error")
            self._refuse(asked, AgentError(f"internal error: {type(error).__name__}: {error}"))
        else:
            self._accept(asked, applied)

    def _refuse(self, asked: Sequence[Future[Answer]], error: AgentError) -> None:
        faults = [redacted(fault) for fault in (error.faults if isinstance(error, ConfigError) else [str(error)])]
        for fault in faults:
            log.error("reload refused: %s", fault)
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        self.told = f"reload refused: {faults[0]}{more}" if faults else "reload refused"
        for answer in asked:
            answer.set_exception(error)

    def _accept(self, asked: Sequence[Future[Answer]], applied: Applied) -> None:
        for change in applied.changed:
            log.info("reload: %s", change)
        for key in applied.restart:
            log.warning("reload: %s changed, which needs a restart; the old value holds until then", key)
        log.info(
            "configuration read again: %s", f"{len(applied.changed)} change(s)" if applied.changed else "no change"
        )
        self.told = f"needs a restart: {', '.join(applied.restart)}" if applied.restart else ""
        for answer in asked:
            answer.set_result({"changed": list(applied.changed), "restart": list(applied.restart)})
        for name in applied.finish():
            log.warning("reload: plugin %s has not ended yet, its successor starts when it has", name)
