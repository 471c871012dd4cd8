"""Progress of long work on stderr: a bar on a terminal, a plain line every two seconds anywhere else."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

PERIOD = 2.0


class Progress:
    """Counts steps of ``total`` (None where nobody knows) and shows them; a context manager."""

    def __init__(self, what: str, total: int | None = None, *, done: int = 0) -> None:
        self._what = what
        self._total = total
        self._done = self._before = done
        self._started = time.monotonic()
        self._due = self._started + PERIOD
        self._bar: Bar | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            self._draw()
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def step(self) -> None:
        """One more is done."""
        self._done += 1
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self._done, rate=f"{self._rate():.1f} a second")
        elif self._bar is None and time.monotonic() >= self._due:
            self._due = time.monotonic() + PERIOD
            self.say(self._line())

    def say(self, line: str) -> None:
        """A line of its own, above the bar where there is one."""
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False)
        else:
            click.echo(line, err=True)

    def _line(self) -> str:
        rate = self._rate()
        of = "" if self._total is None else f" of {self._total}"
        left = "" if self._total is None or not rate else f", {duration((self._total - self._done) / rate)} left"
        return f"{self._done}{of} {self._what}, {rate:.1f} a second{left}"

    def _rate(self) -> float:
        """Steps a second since the start, without those of an earlier run."""
        return (self._done - self._before) / max(time.monotonic() - self._started, 1e-6)

    def _draw(self) -> None:
        from rich import progress
        from rich.console import Console

        columns = (
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn(self._what),
            progress.TextColumn("{task.fields[rate]}"),
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(),
        )
        self._bar = progress.Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task(self._what, total=self._total, completed=self._done, rate="")
        self._bar.start()


def duration(seconds: float) -> str:
    """``1 h 02 min``, ``3 min 20 s``, ``8 s``."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"
