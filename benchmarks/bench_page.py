"""The documentation's tables, written by the run that measured them: a part of a page between two marks is replaced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench_rows import Row

VERDICTS = {None: "", True: "met", False: "**not met**"}


def rewrite(page: Path, part: str, text: str) -> None:
    """Replace what stands between ``<!-- part -->`` and ``<!-- /part -->``. Raises ValueError without the marks."""
    page.write_text(replaced(page.read_text(encoding="utf-8"), part, text), encoding="utf-8")


def replaced(page: str, part: str, text: str) -> str:
    """The same of a text."""
    begin, end = f"<!-- {part} -->", f"<!-- /{part} -->"
    before, found, rest = page.partition(begin)
    _, ended, after = rest.partition(end)
    if not found or not ended:
        raise ValueError(f"the page has no {begin} … {end} to be replaced")
    return f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}"


def figures(rows: Sequence[Row], about: Mapping[str, Any], rounds: int, skipped: Mapping[str, str]) -> str:
    """The rows as Markdown, under what was measured on, and what was not measured."""
    busy = (
        f"Others took {about['others_load']:.0%} of the processor before it began, the machine's host "
        f"{about['host_took']:.1%} while it ran; what counts was measured while a fixed piece of work took at most "
        f"{about['slower']:.2f} times its least."
    )
    versions = ", ".join(f"{name} {about[name]}" for name in ("python", "onnxruntime", "opencv", "numpy"))
    head = f"{about['processor']}, {about['cores']} cores; {versions}; medians of {rounds} rounds. {busy}"
    left_out = [f"Not measured in this run: {what} ({why})." for what, why in skipped.items()]
    return "\n\n".join([head, promises(rows), *left_out])


def promises(rows: Sequence[Row]) -> str:
    """A table."""
    lines = ["| | measured | promised | |", "|---|---|---|---|"]
    for row in rows:
        sign = "at most" if row.better == "lower" else "at least"
        promised = "" if row.target is None else f"{sign} {row.target:g}"
        lines.append(f"| {row.what} | {row.value:.3g} {row.unit} | {promised} | {VERDICTS[row.met]} |")
    return "\n".join(lines)
