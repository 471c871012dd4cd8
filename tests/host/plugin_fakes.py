"""Hosts over a real event log for the tests, with plugins made on the spot instead of installed ones."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from agent.data import Frame
from agent.host.log import EventLog
from agent.host.manager import Host


class Entry:
    """An entry point without a distribution."""

    def __init__(self, name: str, load: Callable[[], Any]) -> None:
        self.name = name
        self.load = load


@contextlib.contextmanager
def hosting(
    folder: Path,
    plugins: Mapping[str, Any],
    tables: Mapping[str, Mapping[str, Any]] | None = None,
    frames: Mapping[str, Frame] | None = None,
) -> Iterator[Host]:
    """A started host; ``plugins`` are classes, or exceptions that their import raises."""

    def loader(thing: Any) -> Callable[[], Any]:
        def load() -> Any:
            if isinstance(thing, Exception):
                raise thing
            return thing

        return load

    log = EventLog(folder / "events.db")
    host = Host(
        node="node",
        state_dir=folder,
        log=log,
        tables=tables if tables is not None else {name: {} for name in plugins},
        latest_frame=(frames or {}).get,
        entry_points=[Entry(name, loader(thing)) for name, thing in plugins.items()],
    )
    try:
        host.load()
        host.start()
        yield host
    finally:
        host.stop(3.0)
        log.close()


def checking(host: Host, condition: Callable[[], object]) -> Callable[[], bool]:
    """A condition that does the housekeeping which the monitor does in the daemon."""

    def check() -> bool:
        host.check(time.monotonic())
        return bool(condition())

    return check
