"""What a batch job is to look at: files, folders, globs and addresses become items, each with a name of its own."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from agent.errors import MissingSourceError
from agent.sources.images import is_image, natural_order

CLIPS = (".mp4", ".mkv", ".avi", ".mov", ".m4v", ".webm", ".mpg", ".mpeg", ".ts", ".flv", ".wmv")
MAGIC = frozenset("*?[")


class Item(NamedTuple):
    """One thing to read: an image, or (``clip``) something that gives many pictures.

    ``name``: as it is told, relative to the folder it was found in. ``stem``: what its annotated picture is called,
    without suffix; no two items share one.
    """

    spec: str
    name: str
    clip: bool
    stem: str = ""


def expand(specs: Iterable[str], *, recursive: bool = False) -> list[Item]:
    """All items that sources mean, in order: a folder's in natural order, a glob's (``**`` too), or itself.

    Raises MissingSourceError for a file or folder that is not there, and for one with nothing in it.
    """
    return _with_stems([item for spec in specs for item in _expand(spec, recursive)])


def outside(items: Iterable[Item], out: Path) -> list[Item]:
    """The items but the annotated pictures of an earlier run. Raises MissingSourceError where nothing else is left."""
    folder = out.expanduser().resolve() / "annotated"
    kept = [item for item in items if "://" in item.spec or not Path(item.spec).resolve().is_relative_to(folder)]
    if not kept:
        raise MissingSourceError(f"{folder}: these are the results of this --out; give another --out")
    return kept


def stamp(item: Item) -> list[object]:
    """What tells whether the item is still the same: its address, and of a file its size and time of change."""
    try:
        status = Path(item.spec).stat()
    except OSError:
        return [item.spec]
    return [item.spec, status.st_size, status.st_mtime_ns]


def _expand(spec: str, recursive: bool) -> list[Item]:
    path = Path(spec).expanduser()
    if "://" in spec or spec.startswith(("/dev/", "gst:")):
        return [Item(spec, spec, clip=True)]
    if path.is_dir():
        return _in_folder(path, recursive)
    if path.exists():
        return [Item(str(path), path.name, clip=not is_image(path))]
    if MAGIC & set(spec):
        found = [Path(one) for one in glob.glob(str(path), recursive=True)]
        return _ordered([(one, one.name) for one in found], f"{spec}: no images or clips match")
    raise MissingSourceError(f"{spec}: no such file or folder")


def _in_folder(folder: Path, recursive: bool) -> list[Item]:
    inside = folder.rglob("*") if recursive else folder.iterdir()
    hint = "" if recursive else " (--recursive looks into those below it)"
    named = [(path, str(path.relative_to(folder))) for path in inside]
    return _ordered(named, f"{folder}: no images or clips in this folder{hint}")


def _ordered(named: Sequence[tuple[Path, str]], nothing: str) -> list[Item]:
    kept = [(path, name) for path, name in named if path.is_file() and (is_image(path) or _is_clip(path))]
    if not kept:
        raise MissingSourceError(nothing)
    kept.sort(key=lambda pair: natural_order(str(pair[0])))
    return [Item(str(path), name, clip=not is_image(path)) for path, name in kept]


def _is_clip(path: Path) -> bool:
    return path.suffix.lower() in CLIPS and not path.name.startswith(".")


def _with_stems(items: Sequence[Item]) -> list[Item]:
    """Names for annotated pictures: ``a``, and ``a-2`` for the next one called so."""
    taken: set[str] = set()
    counts: dict[str, int] = {}
    named = []
    for item in items:
        stem = wanted = Path(item.name).stem or "picture"
        while stem.lower() in taken:
            counts[wanted.lower()] = counts.get(wanted.lower(), 1) + 1
            stem = f"{wanted}-{counts[wanted.lower()]}"
        taken.add(stem.lower())
        named.append(item._replace(stem=stem))
    return named
